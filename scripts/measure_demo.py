"""Figures of the bundled weights on people that no training saw: ``python -m scripts.measure_demo``.

Reads the validation clips of ``data/demo/small`` (made by ``scripts.train_demo``) and the files in
``checkpoints/demo``, prints a Markdown table, and writes ``runs/demo/figures.json``. Networks that are absent are
named and left out. The labels behind the landmark error are those of the preparation (MediaPipe). The judge of
L-Net and Wav2Lip is the bundled expert, to which their training listened as well.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.core.errors import run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import checkpoint_folder
from videoretalking.evaluation.tables import ABSENT, Table
from videoretalking.models.catalog import load_network
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import LNet
from videoretalking.models.wav2lip import Wav2Lip
from videoretalking.scripts.demo_figures.clips import read_clips
from videoretalking.scripts.demo_figures.landmarks import measure_landmarks
from videoretalking.scripts.demo_figures.sync import MIN_SHIFT, Figures, measure_expert, measure_painter

logger = logging.getLogger(__name__)

NETWORKS = ("landmarks", "lipsync_expert", "lnet", "wav2lip", "dnet", "enet")
PAINTERS = ("lnet", "wav2lip")


@dataclass(frozen=True)
class FigureRow:
    """A line of the printed table.

    Attributes:
        network: name in the catalog.
        key: name in the results.
        text: what it is.
        unit: ``%`` shows a share in percent; else printed behind the number.
        target: what the project demands, as text.
    """

    network: str
    key: str
    text: str
    unit: str = ""
    target: str = ""


_PAINTER_ROWS = (
    (
        "offset_within_2",
        "another's speech: 2 s windows whose best offset (of ±15) lies within ±2",
        "%",
        "≥ 70 %",
    ),
    ("silent_over_spoken", "variation of the mouth's opening, silence over speech", "%", "< 33 %"),
    ("opening_spoken", "standard deviation of the opening under speech, in eye distances", "", ""),
    ("opening_real", "the same in the clips themselves", "", ""),
    (
        "opening_still",
        "the same where one closed mouth stands below every upper half: the judge's own error",
        "",
        "",
    ),
    ("psnr_own_speech", "PSNR of the lower half, own speech", "dB", ""),
)
ROWS = (
    FigureRow(
        "landmarks",
        "nme",
        "error over the distance of the outer eye corners (NME), crop from the label",
        "%",
        "≤ 5 %",
    ),
    FigureRow(
        "landmarks", "nme_tracked", "the same in videos, crop from the estimate in the frame before", "%"
    ),
    FigureRow(
        "lipsync_expert",
        "accuracy_5_frames",
        "synced beats shifted by ≥ 5 frames, single windows (5 frames)",
        "%",
        "≥ 75 %",
    ),
    FigureRow("lipsync_expert", "accuracy_1_s", "the same, mean distance over 1 s", "%"),
    FigureRow("lipsync_expert", "accuracy_2_s", "the same, mean distance over 2 s", "%"),
    FigureRow(
        "lipsync_expert",
        "offset_within_2",
        "real clips: 2 s windows whose best offset (of ±15) lies within ±2",
        "%",
    ),
    *(FigureRow(name, *row) for name in PAINTERS for row in _PAINTER_ROWS),
    FigureRow("dnet", "psnr", "PSNR of the rendered frame, at the last validation of the training", "dB"),
    FigureRow("enet", "psnr", "PSNR of the enhanced frame, at the last validation of the training", "dB"),
)


@torch.inference_mode()
def measure(root: Path, checkpoints: Path) -> Figures:
    """All figures of the weights that are there; ``missing`` names the others.

    Raises:
        UserError: no validation clip, or one that is also in training.
    """
    clips = read_clips(root)
    talking = [
        item for item in clips if item.clip.has("mel") and len(item.clip) > 2 * MIN_SHIFT + SYNC_FRAMES
    ]
    files = {name: checkpoints / f"{name}.safetensors" for name in NETWORKS}
    present = [name for name in NETWORKS if files[name].is_file()]
    networks: dict[str, Any] = {
        name: load_network(files[name], name) for name in present if name not in ("dnet", "enet")
    }
    figures: Figures = {
        "data": {
            "clips": len(clips),
            "people": len({item.identity for item in clips}),
            "talking_clips": len(talking),
            "talking_people": len({item.identity for item in talking}),
        },
        "missing": [name for name in NETWORKS if name not in present],
    }
    for name in present:
        figures[name] = {"training": _training(files[name])}
    landmarks, expert = networks.get("landmarks"), networks.get("lipsync_expert")
    if isinstance(landmarks, LandmarkNet):
        figures["landmarks"] |= measure_landmarks(clips, landmarks)
    if isinstance(expert, LipSyncExpert):
        figures["lipsync_expert"] |= measure_expert(talking, expert)
    for name in PAINTERS:
        painter = networks.get(name)
        if isinstance(painter, (LNet, Wav2Lip)) and isinstance(landmarks, LandmarkNet):
            figures[name] |= measure_painter(painter, talking, expert, landmarks)
    for name in ("dnet", "enet"):
        if name in present:
            figures[name]["psnr"] = figures[name]["training"]["figures"].get("psnr")
    return figures


def _training(path: Path) -> Figures:
    """Step and last validation figures that the training wrote into its checkpoint."""
    extra = read_metadata(path).get("extra", {})
    return {"step": extra.get("step"), "figures": extra.get("figures", {})}


def to_table(figures: Figures) -> Table:
    """The figures with what is demanded of them."""
    data = figures["data"]
    rows = []
    for row in ROWS:
        value = figures.get(row.network, {}).get(row.key)
        rows.append([row.network, row.text, _cell(value, row.unit), row.target or ABSENT])
    notes = [
        f"{data['clips']} clips and pictures of {data['people']} people that no training saw; "
        f"{data['talking_clips']} clips of {data['talking_people']} people with sound",
        *(f"{name}: not measured, no weights" for name in figures["missing"]),
    ]
    return Table(
        "Bundled weights on people that no training saw",
        ["network", "figure", "value", "demanded"],
        rows,
        notes,
    )


def _cell(value: float | None, unit: str) -> str:
    if value is None:
        return ABSENT
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3g} {unit}".strip()


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Measure the bundled weights")
    parser.add_argument("--root", type=Path, default=Path("data/demo/small"), help="prepared clips")
    parser.add_argument("--checkpoints", type=Path, default=checkpoint_folder("demo"))
    parser.add_argument("--output", type=Path, default=Path("runs/demo/figures.json"))
    arguments = parser.parse_args()
    figures = measure(arguments.root, arguments.checkpoints)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    logger.info("wrote %s", arguments.output)
    print(to_table(figures).markdown())


if __name__ == "__main__":
    run_command(main)

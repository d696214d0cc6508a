"""Figures of the bundled weights on people that no training saw: ``python -m scripts.measure_demo``.

Reads the validation clips of ``data/demo`` (made by ``scripts.train_demo``) and the files in ``checkpoints/demo``,
prints a Markdown table, and writes ``runs/demo/figures.json``. Networks that are absent are named and left out.
Large faces are measured on the longest clip of each person. ``--only`` measures some parts:

=============  ==============================================================================================
``landmarks``  error of the landmark network against the labels of the preparation (MediaPipe)
``expert``     the lip-sync expert on real clips
``painters``   L-Net and Wav2Lip alone, at 96 pixels; their judge is the expert, to which their training listened
``hearing``    the opening of the mouth by a regression from the audio encoder's features, on strangers
``dnet``       what the templates neutral and smile do to the mouth
``enet``       what another person's picture as the reference changes
``dubs``       whole dubs under own and foreign speech and in silence: detail and colors of the mouth, seam,
               opening, leak; by the bundled landmark network, which also taught; a quarter of a second of CPU time
               a frame with the bundled networks
=============  ==============================================================================================

``--over runs/demo/lnet/kept`` measures each of the weights there in place of its network's bundled ones, and writes
a CSV file with a line for each step and curves (PNG) beside the JSON file.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import checkpoint_folder
from videoretalking.models.catalog import load_network
from videoretalking.models.dnet import DNet
from videoretalking.models.enet import ENet
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import LNet
from videoretalking.models.wav2lip import Wav2Lip
from videoretalking.pipeline.config import WeightsConfig
from videoretalking.pipeline.weights import Weights
from videoretalking.scripts.demo_figures.clips import HeldOutClip, one_each, read_clips
from videoretalking.scripts.demo_figures.curves import find_stages, measure_over, write_curves
from videoretalking.scripts.demo_figures.dubs import LEAST_FRAMES, make_retalker, measure_dubs
from videoretalking.scripts.demo_figures.expression import measure_expression
from videoretalking.scripts.demo_figures.hearing import measure_hearing
from videoretalking.scripts.demo_figures.identity import measure_identity
from videoretalking.scripts.demo_figures.landmarks import measure_landmarks
from videoretalking.scripts.demo_figures.sync import MIN_SHIFT, Figures, measure_expert, measure_painter
from videoretalking.scripts.demo_figures.table import PAINTERS, to_table

logger = logging.getLogger(__name__)

NETWORKS = ("landmarks", "lipsync_expert", "lnet", "wav2lip", "dnet", "enet")
PARTS = ("landmarks", "expert", "painters", "hearing", "dnet", "enet", "dubs")


@torch.inference_mode()
def measure(
    root: Path, large: Path, checkpoints: Path, parts: Collection[str] = PARTS, num_frames: int = 50
) -> Figures:
    """All figures of the weights that are there; ``missing`` names the others.

    Args:
        root: prepared clips with small faces, for what sees 96 pixels.
        large: the same with large faces, for D-Net, E-Net and dubs.
        checkpoints: folder of the weights.
        parts: some of :data:`PARTS`.
        num_frames: most frames of a clip that D-Net renders or that is dubbed.

    Raises:
        UserError: no validation clip, or one that is also in training; too few frames for dubs.
    """
    if "dubs" in parts and num_frames < LEAST_FRAMES:
        raise UserError(f"--frames {num_frames} is too few for dubs: name {LEAST_FRAMES} or more")
    clips = read_clips(root)
    talking = [
        item for item in clips if item.clip.has("mel") and len(item.clip) > 2 * MIN_SHIFT + SYNC_FRAMES
    ]
    files = {name: checkpoints / f"{name}.safetensors" for name in NETWORKS}
    present = [name for name in NETWORKS if files[name].is_file()]
    networks: dict[str, Any] = {name: load_network(files[name], name) for name in present}
    figures: Figures = {
        "data": {
            "clips": len(clips),
            "people": len({item.identity for item in clips}),
            "talking_clips": len(talking),
            "talking_people": len({item.identity for item in talking}),
        },
        "missing": [name for name in NETWORKS if name not in present],
        "notes": [],
    }
    for name in present:
        figures[name] = {"training": _training(files[name])}
    landmarks, expert = networks.get("landmarks"), networks.get("lipsync_expert")
    if "landmarks" in parts and isinstance(landmarks, LandmarkNet):
        figures["landmarks"] |= measure_landmarks(clips, landmarks)
    if isinstance(expert, LipSyncExpert):
        if "expert" in parts:
            figures["lipsync_expert"] |= measure_expert(talking, expert)
        if "hearing" in parts:
            figures["lipsync_expert"] |= measure_hearing(root, expert)
    if "hearing" in parts and isinstance(networks.get("lnet"), LNet):
        figures["lnet"] |= measure_hearing(root, networks["lnet"])
    for name in PAINTERS:
        painter = networks.get(name)
        if (
            "painters" in parts
            and isinstance(painter, (LNet, Wav2Lip))
            and isinstance(landmarks, LandmarkNet)
        ):
            figures[name] |= measure_painter(painter, talking, expert, landmarks)
    for name in ("dnet", "enet"):
        if name in present:
            figures[name]["psnr"] = figures[name]["training"]["figures"].get("psnr")
    if {"dnet", "enet", "dubs"} & set(parts):
        _measure_large(figures, read_clips(large), networks, checkpoints, parts, num_frames)
    return figures


def _measure_large(
    figures: Figures,
    clips: list[HeldOutClip],
    networks: dict[str, Any],
    checkpoints: Path,
    parts: Collection[str],
    num_frames: int,
) -> None:
    """Add what is measured on large faces."""
    landmarks, dnet, enet = (networks.get(name) for name in ("landmarks", "dnet", "enet"))
    moving = one_each([item for item in clips if item.clip.has("rows") and len(item.clip) >= LEAST_FRAMES])
    if "dnet" in parts and isinstance(dnet, DNet) and isinstance(landmarks, LandmarkNet):
        templates = Weights(str(checkpoints), checkpoints, WeightsConfig()).templates()
        figures["dnet"] |= measure_expression(moving, dnet, templates, landmarks, num_frames)
    if "enet" in parts and isinstance(enet, ENet):
        figures["enet"] |= measure_identity(one_each(clips), enet)
    speaking = [item for item in moving if item.clip.has("wave")]
    if "dubs" in parts and isinstance(landmarks, LandmarkNet):
        if not speaking:
            figures["notes"].append("dubs: not measured, no clip with its sound (packs hold none)")
            return
        try:
            with TemporaryDirectory() as cache:
                retalker = make_retalker(checkpoints, Path(cache))
                figures["dubs"] = measure_dubs(speaking, retalker, landmarks, num_frames)
        except UserError as error:
            figures["notes"].append(f"dubs: not measured, {error}")


def _training(path: Path) -> Figures:
    """Step and last validation figures that the training wrote into its checkpoint."""
    extra = read_metadata(path).get("extra", {})
    return {"step": extra.get("step"), "figures": extra.get("figures", {})}


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Measure the bundled weights")
    parser.add_argument("--root", type=Path, default=Path("data/demo/small"), help="clips with small faces")
    parser.add_argument("--large", type=Path, default=Path("data/demo/large"), help="clips with large faces")
    parser.add_argument("--checkpoints", type=Path, default=checkpoint_folder("demo"))
    parser.add_argument("--output", type=Path, default=Path("runs/demo/figures.json"))
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--frames", type=positive, default=50, help="of a clip that are rendered or dubbed")
    parser.add_argument(
        "--over",
        type=Path,
        nargs="+",
        metavar="PLACE",
        help="weights of one network, files or folders of them",
    )
    arguments = parser.parse_args()

    def measure_in(checkpoints: Path) -> Figures:
        return measure(arguments.root, arguments.large, checkpoints, arguments.only, arguments.frames)

    if arguments.over:
        stages = find_stages(arguments.over)
        write_curves(arguments.output, measure_over(stages, arguments.checkpoints, measure_in))
        logger.info("wrote %s, .csv and .png", arguments.output)
        return
    figures = measure_in(arguments.checkpoints)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    logger.info("wrote %s", arguments.output)
    print(to_table(figures).markdown())


if __name__ == "__main__":
    run_command(main)

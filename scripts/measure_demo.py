"""Figures of the bundled weights on people that no training saw: ``python -m scripts.measure_demo``.

Reads the validation clips of ``data/demo/small`` (made by ``scripts.train_demo``) and the files in
``checkpoints/demo``, prints a Markdown table, and writes ``runs/demo/figures.json``. Networks that are absent are
named and left out. The labels behind the landmark error are those of the preparation (MediaPipe). The judge of
L-Net and Wav2Lip is the bundled expert, to which their training listened as well.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import (
    LANDMARK_SIZE,
    LNET_SIZE,
    MEL_COLUMNS_PER_SECOND,
    MEL_WINDOW,
    SYNC_FRAMES,
    TRAIN_FPS,
)
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.locations import checkpoint_folder
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.collection import mel_start, to_image
from videoretalking.datasets.crops import aligned_crop, cut, face_crop, mouth_opening
from videoretalking.datasets.lnet import replace_lower_half
from videoretalking.datasets.manifest import read_manifest
from videoretalking.evaluation.tables import Table
from videoretalking.faces.align import landmark_crop
from videoretalking.faces.types import Crop
from videoretalking.losses.landmarks import normalized_mean_error
from videoretalking.media.mel import SILENCE
from videoretalking.metrics.offset import best_offset, pairwise_accuracy
from videoretalking.metrics.ssim import psnr
from videoretalking.models.blocks import resize
from videoretalking.models.catalog import load_network
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import LNet, lnet_input
from videoretalking.models.wav2lip import Wav2Lip
from videoretalking.scripts.preprocess.offsets import embed_clip

logger = logging.getLogger(__name__)

Painter = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Figures = dict[str, Any]

NETWORKS = ("landmarks", "lipsync_expert", "lnet", "wav2lip", "dnet", "enet")
PAINTERS = ("lnet", "wav2lip")

_MIN_SHIFT = 5  # frames from which a window counts as out of sync
_WINDOW = 50 - SYNC_FRAMES + 1  # windows of five frames in two seconds
_STEP = 25  # windows between two offset measurements, 1 s
_TOLERANCE = 2  # frames
_SPEECHES = 2  # other people's speeches for every clip
_LANDMARK_STRIDE = 2  # every how many frames landmarks are measured
_BATCH = 16

# Name in the results -> windows of five frames whose distances are averaged.
ACCURACIES = {"accuracy_5_frames": 1, "accuracy_1_s": 25 - SYNC_FRAMES + 1, "accuracy_2_s": _WINDOW}


@dataclass(frozen=True)
class Row:
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
    Row(
        "landmarks",
        "nme",
        "error over the distance of the outer eye corners (NME), crop from the label",
        "%",
        "≤ 5 %",
    ),
    Row("landmarks", "nme_tracked", "the same in videos, crop from the estimate in the frame before", "%"),
    Row(
        "lipsync_expert",
        "accuracy_5_frames",
        "synced beats shifted by ≥ 5 frames, single windows (5 frames)",
        "%",
        "≥ 75 %",
    ),
    Row("lipsync_expert", "accuracy_1_s", "the same, mean distance over 1 s", "%"),
    Row("lipsync_expert", "accuracy_2_s", "the same, mean distance over 2 s", "%"),
    Row(
        "lipsync_expert",
        "offset_within_2",
        "real clips: 2 s windows whose best offset (of ±15) lies within ±2",
        "%",
    ),
    *(Row(name, *row) for name in PAINTERS for row in _PAINTER_ROWS),
    Row("dnet", "psnr", "PSNR of the rendered frame, at the last validation of the training", "dB"),
    Row("enet", "psnr", "PSNR of the enhanced frame, at the last validation of the training", "dB"),
)


class HeldOutClip:
    """A prepared clip with its face crops at L-Net's size, decoded once.

    Args:
        name: folder below the data set's root.
        clip: the clip.
    """

    def __init__(self, name: str, clip: PreparedClip) -> None:
        self.name = name
        self.clip = clip
        self.identity = clip.meta.identity

    @cached_property
    def views(self) -> list[Crop]:
        """The crop of each frame."""
        return [face_crop(self.clip, index, LNET_SIZE) for index in range(len(self.clip))]

    @cached_property
    def faces(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]."""
        return np.stack([to_image(cut(self.clip, index, view)) for index, view in enumerate(self.views)])

    @cached_property
    def references(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]: the frame with the most closed mouth, in the pose of each frame."""
        points = self.clip.landmarks
        closed = int(mouth_opening(points).argmin())
        views = [
            aligned_crop(view, mine, points[closed]) for view, mine in zip(self.views, points, strict=True)
        ]
        return np.stack([to_image(cut(self.clip, closed, view)) for view in views])

    @property
    def resting(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]: the frames above, the reference below."""
        pairs = zip(self.faces, self.references, strict=True)
        frames = [replace_lower_half(*(to_frame(image) for image in pair)) for pair in pairs]
        return np.stack([to_image(frame) for frame in frames])


def to_frame(image: Floats32) -> Image8:
    """[3, H, W] in [0, 1] -> uint8 [H, W, 3]."""
    return np.rint(255.0 * image.transpose(1, 2, 0)).astype(np.uint8)


def read_clips(root: Path) -> list[HeldOutClip]:
    """The validation clips of a prepared data set.

    Raises:
        UserError: there are none, or a person is in training and validation.
    """
    entries = read_manifest(root)
    trained = {entry.identity for entry in entries if entry.split == "train"}
    clips = [
        HeldOutClip(entry.clip, PreparedClip(root / entry.clip)) for entry in entries if entry.split == "val"
    ]
    if not clips:
        raise UserError(f"{root} has no validation clips: run scripts.train_demo first")
    seen = sorted({clip.identity for clip in clips} & trained)
    if seen:
        raise UserError(f"{root}: {seen[0]} is in training and in validation; prepare the data again")
    return clips


# ------------------------------------------------------------------------------------------ landmarks


def measure_landmarks(clips: Sequence[HeldOutClip], network: LandmarkNet) -> Figures:
    """Normalized mean error in parts of the distance of the outer eye corners; means over clips."""
    labeled = {item.name: landmark_error(item.clip, network) for item in tqdm(clips, desc="landmarks")}
    tracked = {
        item.name: tracked_landmark_error(item.clip, network)
        for item in tqdm(clips, desc="landmarks, tracked")
        if len(item.clip) > 1
    }
    videos = [labeled[name] for name in tracked]
    stills = [value for name, value in labeled.items() if name not in tracked]
    return {
        "nme": _mean([*videos, *stills]),
        "nme_videos": _mean(videos),
        "nme_stills": _mean(stills),
        "nme_tracked": _mean(list(tracked.values())),
        "nme_of_clips": labeled,
        "nme_tracked_of_clips": tracked,
    }


def landmark_error(clip: PreparedClip, network: LandmarkNet) -> float:
    """Mean over every second frame; the crop is made from the label, as usual for this figure."""
    found, wanted = [], []
    for index in range(0, len(clip), _LANDMARK_STRIDE):
        found.append(_find_landmarks(clip, index, clip.landmarks[index], network))
        wanted.append(clip.landmarks[index])
    return _landmark_error(found, wanted)


def tracked_landmark_error(clip: PreparedClip, network: LandmarkNet) -> float:
    """Mean over all frames but the first; each crop is made from what was found in the frame before."""
    points: npt.ArrayLike = clip.landmarks[0]
    found = []
    for index in range(len(clip)):
        points = _find_landmarks(clip, index, points, network)
        found.append(points)
    return _landmark_error(found[1:], list(clip.landmarks[1:]))


def _find_landmarks(clip: PreparedClip, index: int, around: npt.ArrayLike, network: LandmarkNet) -> Floats32:
    crop = landmark_crop(around)
    points = network(torch.from_numpy(to_image(cut(clip, index, crop)))[None]).points
    return crop.to_image(points[0].numpy()).astype(np.float32)


def _landmark_error(found: Sequence[Floats32], wanted: Sequence[Floats32]) -> float:
    errors = normalized_mean_error(torch.from_numpy(np.stack(found)), torch.from_numpy(np.stack(wanted)))
    return float(errors.mean())


# ------------------------------------------------------------------------------------------ sync


def measure_expert(clips: Sequence[HeldOutClip], expert: LipSyncExpert) -> Figures:
    """Does it tell synced from shifted speech? Means over the clips that are long enough."""
    pairs = {item.name: embed_clip(item.clip, expert) for item in tqdm(clips, desc="expert")}
    figures: Figures = {}
    for name, length in ACCURACIES.items():
        shares = {clip: pairwise_accuracy(*pair, _MIN_SHIFT, length) for clip, pair in pairs.items()}
        known = {clip: share for clip, share in shares.items() if share is not None}
        figures[name] = _mean(list(known.values()))
        figures[f"{name}_of_clips"] = known
    offsets = [offset for pair in pairs.values() for offset in offsets_of_windows(*pair)]
    return figures | _offset_figures(offsets)


def offsets_of_windows(video: Floats32, audio: Floats32) -> list[int]:
    """The best offset of every stretch of two seconds, a second apart, in frames."""
    starts = range(0, len(video) - _WINDOW + 1, _STEP)
    return [best_offset(video, audio, slice(start, start + _WINDOW)) for start in starts]


def _offset_figures(offsets: Sequence[int]) -> Figures:
    within = [float(abs(offset) <= _TOLERANCE) for offset in offsets]
    return {"offset_within_2": _mean(within), "offsets": list(offsets)}


def measure_painter(
    painter: Painter, clips: Sequence[HeldOutClip], expert: LipSyncExpert | None, landmarks: LandmarkNet
) -> Figures:
    """Sync with other people's speech, what the mouth does in silence, and how well the own lips come back.

    Args:
        painter: as in :func:`redub`.
        clips: with sound.
        expert: judge; without one there are no offsets.
        landmarks: measures the mouth.
    """
    offsets: list[int] = []
    openings: dict[str, list[float]] = {"silent": [], "spoken": [], "real": [], "still": []}
    own = []
    for index, item in enumerate(tqdm(clips, desc="redub")):
        openings["real"].append(float(opening_of(item.faces, item, landmarks).std()))
        openings["still"].append(float(opening_of(item.resting, item, landmarks).std()))
        repainted = redub(item, item.clip.mel, painter)
        lower = slice(LNET_SIZE // 2, None)
        truth = item.faces[: len(repainted), :, lower]
        own.append(float(psnr(torch.from_numpy(repainted[:, :, lower]), torch.from_numpy(truth)).mean()))
        for number, mel in enumerate(other_speeches(clips, index)):
            spoken = redub(item, mel, painter)
            if expert is not None:
                offsets += offsets_of_windows(*embed_painted(spoken, mel, expert))
            if number == 0:
                silent = redub(item, np.full_like(mel, SILENCE), painter)
                openings["silent"].append(float(opening_of(silent, item, landmarks).std()))
                openings["spoken"].append(float(opening_of(spoken, item, landmarks).std()))
    figures: Figures = {f"opening_{name}": _mean(values) for name, values in openings.items()}
    if openings["spoken"]:
        figures["silent_over_spoken"] = figures["opening_silent"] / max(figures["opening_spoken"], 1e-6)
    figures["openings_of_clips"] = openings
    figures["psnr_own_speech"] = _mean(own)
    return figures | (_offset_figures(offsets) if expert is not None else {})


def other_speeches(clips: Sequence[HeldOutClip], index: int) -> list[Floats32]:
    """Spectrograms of the next speeches of other people that last two seconds or more."""
    following = [*clips[index + 1 :], *clips[:index]]
    others = [
        item
        for item in following
        if item.identity != clips[index].identity and num_speech_frames(item.clip.mel) >= 50
    ]
    return [item.clip.mel for item in others[:_SPEECHES]]


def num_speech_frames(mel: Floats32) -> int:
    """Frames for which a spectrogram [80, columns] holds a whole window."""
    return max(0, int((mel.shape[1] - MEL_WINDOW) * TRAIN_FPS / MEL_COLUMNS_PER_SECOND) + 1)


def back_and_forth(length: int, count: int) -> list[int]:
    """Frame numbers 0 .. length - 1, back to 0 and so on, ``count`` of them."""
    period = max(1, 2 * length - 2)
    return [min(place % period, period - place % period) for place in range(count)]


def redub(item: HeldOutClip, mel: Floats32, painter: Painter) -> Floats32:
    """A clip's faces with new speech; where the speech is longer, the picture runs back and forth.

    The reference is the clip's own frame with the most closed mouth, brought to each frame's pose in the plane.

    Args:
        item: whose picture.
        mel: [80, columns] whose speech.
        painter: (audio [T, 1, 80, 16], faces [T, 6, 96, 96]) -> [T, 3, 96, 96].

    Returns:
        [T, 3, 96, 96] in [0, 1], as many frames as the speech lasts.
    """
    frames = back_and_forth(len(item.clip), num_speech_frames(mel))
    painted = []
    for first in range(0, len(frames), _BATCH):
        part = frames[first : first + _BATCH]
        faces = lnet_input(torch.from_numpy(item.faces[part]), torch.from_numpy(item.references[part]))
        audio = speech_windows(mel, range(first, first + len(part)))
        painted.append(painter(torch.from_numpy(audio), faces).clamp(0.0, 1.0).numpy())
    return np.concatenate(painted)


def speech_windows(mel: Floats32, frames: Sequence[int]) -> Floats32:
    """[T, 1, 80, 16]: the window of each frame."""
    return np.stack([mel[None, :, mel_start(frame) : mel_start(frame) + MEL_WINDOW] for frame in frames])


def embed_painted(painted: Floats32, mel: Floats32, expert: LipSyncExpert) -> tuple[Floats32, Floats32]:
    """Embeddings of painted faces [T, 3, 96, 96] and of the speech they were painted for."""
    halves = painted[:, :, LNET_SIZE // 2 :]
    seen, heard = [], []
    count = len(painted) - SYNC_FRAMES + 1
    for first in range(0, count, _BATCH):
        starts = range(first, min(first + _BATCH, count))
        stacked = np.stack([np.concatenate(halves[start : start + SYNC_FRAMES]) for start in starts])
        seen.append(expert.embed_faces(torch.from_numpy(stacked)).numpy())
        heard.append(expert.embed_audio(torch.from_numpy(speech_windows(mel, starts))).numpy())
    return np.concatenate(seen), np.concatenate(heard)


def opening_of(painted: Floats32, item: HeldOutClip, network: LandmarkNet) -> Floats32:
    """Mouth opening [T] of painted faces by the landmark network, in distances of the outer eye corners."""
    frames = back_and_forth(len(item.clip), len(painted))
    points = []
    for first in range(0, len(painted), _BATCH):
        # the whole view: a crop around the labels would reach beyond it, and lips then measure half as wide open
        faces = resize(torch.from_numpy(painted[first : first + _BATCH]), LANDMARK_SIZE)
        points.append((network(faces).points.numpy() + 0.5) * LNET_SIZE / LANDMARK_SIZE - 0.5)
    in_frame = [
        item.views[frame].to_image(found) for frame, found in zip(frames, np.concatenate(points), strict=True)
    ]
    return mouth_opening(np.stack(in_frame).astype(np.float32))


# ------------------------------------------------------------------------------------------ report


@torch.inference_mode()
def measure(root: Path, checkpoints: Path) -> Figures:
    """All figures of the weights that are there; ``missing`` names the others.

    Raises:
        UserError: no validation clip, or one that is also in training.
    """
    clips = read_clips(root)
    talking = [
        item for item in clips if item.clip.has("mel") and len(item.clip) > 2 * _MIN_SHIFT + SYNC_FRAMES
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
        rows.append([row.network, row.text, _cell(value, row.unit), row.target or "-"])
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
        return "-"
    return f"{100 * value:.1f} %" if unit == "%" else f"{value:.3g} {unit}".strip()


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


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

"""Sync of the lip-sync expert and of the networks that paint lips, and how far the painted mouths open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import (
    LANDMARK_SIZE,
    LNET_SIZE,
    MEL_COLUMNS_PER_SECOND,
    MEL_WINDOW,
    SYNC_FRAMES,
    TRAIN_FPS,
)
from videoretalking.core.quality import psnr
from videoretalking.datasets.collection import mel_start
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.media.mel import SILENCE
from videoretalking.metrics.offset import best_offset, pairwise_accuracy
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.models.layers.blocks import resize
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import lnet_input
from videoretalking.scripts.demo_figures.clips import HeldOutClip, mean
from videoretalking.scripts.preprocess.offsets import embed_clip

Painter = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Figures = dict[str, Any]

MIN_SHIFT = 5  # frames from which a window counts as out of sync
_WINDOW = 50 - SYNC_FRAMES + 1  # windows of five frames in two seconds
_STEP = 25  # windows between two offset measurements, 1 s
_TOLERANCE = 2  # frames
_SPEECHES = 2  # other people's speeches for every clip
_BATCH = 16

# Name in the results -> windows of five frames whose distances are averaged.
ACCURACIES = {"accuracy_5_frames": 1, "accuracy_1_s": 25 - SYNC_FRAMES + 1, "accuracy_2_s": _WINDOW}


def measure_expert(clips: Sequence[HeldOutClip], expert: LipSyncExpert) -> Figures:
    """Does it tell synced from shifted speech? Means over the clips that are long enough."""
    pairs = {item.name: embed_clip(item.clip, expert) for item in tqdm(clips, desc="expert")}
    figures: Figures = {}
    for name, length in ACCURACIES.items():
        shares = {clip: pairwise_accuracy(*pair, MIN_SHIFT, length) for clip, pair in pairs.items()}
        known = {clip: share for clip, share in shares.items() if share is not None}
        figures[name] = mean(list(known.values()))
        figures[f"{name}_of_clips"] = known
    offsets = [offset for pair in pairs.values() for offset in offsets_of_windows(*pair)]
    return figures | _offset_figures(offsets)


def offsets_of_windows(video: Floats32, audio: Floats32) -> list[int]:
    """The best offset of every stretch of two seconds, a second apart, in frames."""
    starts = range(0, len(video) - _WINDOW + 1, _STEP)
    return [best_offset(video, audio, slice(start, start + _WINDOW)) for start in starts]


def _offset_figures(offsets: Sequence[int]) -> Figures:
    within = [float(abs(offset) <= _TOLERANCE) for offset in offsets]
    return {"offset_within_2": mean(within), "offsets": list(offsets)}


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
    figures: Figures = {f"opening_{name}": mean(values) for name, values in openings.items()}
    if openings["spoken"]:
        figures["silent_over_spoken"] = figures["opening_silent"] / max(figures["opening_spoken"], 1e-6)
    figures["openings_of_clips"] = openings
    figures["psnr_own_speech"] = mean(own)
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
    return inner_lip_gap(np.stack(in_frame).astype(np.float32))

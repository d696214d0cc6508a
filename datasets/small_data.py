"""Samples for minutes of film: those of the paper, and what landmarks of lips and head add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import DNET_SIZE, MEL_BANDS, MEL_WINDOW, SYNC_FRAMES
from videoretalking.datasets import dnet, expert, lnet
from videoretalking.datasets.augment import ImageAugment, VoiceAugment, silent_mel
from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.crops import Jitter
from videoretalking.datasets.mouths import (
    aligned_crop,
    inner_lip_gap,
    mouth_gestures,
    mouth_points,
    pose_distance,
    replace_lower_half,
)
from videoretalking.faces.types import Crop

# Frames whose mouth is open by less than this part of the distance of the outer eye corners count as closed; nearly
# every speaker closes it that far within seconds.
_CLOSED = 0.02


class NearLNetClips(lnet.LNetClips):
    """L-Net's samples with near or aligned references, and with silence.

    Args:
        source: where samples come from.
        antialias: how faces are reduced.
        reference_gap: least and largest distance of a reference from its frame, in frames; None for any frame of
            the clip. At inference the reference shows the frame's own pose (D-Net rendered it), so near references
            teach a small network sooner what to copy; from the nearest ones it would copy the lips.
        align_references: turn, move and scale references so that eyes and nose lie as in their frames (needs
            landmarks); what D-Net does at inference, in the plane.
        silence: probability of silent sound with a mouth that rests closed (needs landmarks).
    """

    def __init__(
        self,
        source: SampleSource,
        antialias: bool = False,
        reference_gap: tuple[int, int] | None = None,
        align_references: bool = False,
        silence: float = 0.0,
    ) -> None:
        self.silence = silence if source.training else 0.0
        self.reference_gap = reference_gap
        self.align_references = align_references
        needs_landmarks = align_references or self.silence > 0.0
        needs = (*lnet.NEEDS, "landmarks") if needs_landmarks else lnet.NEEDS
        super().__init__(source, antialias, needs)

    def draw_sound(
        self, index: int, frames: Sequence[int], voice: VoiceAugment, rng: np.random.Generator
    ) -> dict[str, Any]:
        """The sound, and ``speech``, a float32 scalar: 0 where silence replaced the sound."""
        if rng.uniform() < self.silence and len(self._closed(index)) > 0:
            audio = silent_mel((len(frames), 1, MEL_BANDS, MEL_WINDOW), rng)
            return {"audio": audio, "sync_audio": audio[0], "speech": np.float32(0.0)}
        return super().draw_sound(index, frames, voice, rng) | {"speech": np.float32(1.0)}

    def draw_references(self, index: int, frames: Sequence[int], rng: np.random.Generator) -> list[int]:
        """A reference for each frame, as far from it as ``reference_gap`` says."""
        if self.reference_gap is None:
            return super().draw_references(index, frames, rng)
        return draw_near(frames, len(self.clips.clip(index)), self.reference_gap, rng)

    def reference_views(
        self,
        index: int,
        references: Sequence[int],
        frames: Sequence[int],
        views: Sequence[Crop],
        jitter: Jitter,
        flip: bool,
    ) -> list[Crop]:
        """The references in their own boxes, or in the pose of their frames."""
        if self.align_references:
            return self._aligned_views(index, references, frames, views)
        return super().reference_views(index, references, frames, views, jitter, flip)

    def cut_target(
        self,
        index: int,
        frames: Sequence[int],
        views: Sequence[Crop],
        changes: ImageAugment,
        sound: dict[str, Any],
    ) -> list[Image8]:
        """The faces of the frames; under silence with the lower half of one frame whose mouth is closed.

        That half is shown in the pose of each frame, so that the mouth rests whatever the upper half does.
        """
        faces = super().cut_target(index, frames, views, changes, sound)
        if sound["speech"]:
            return faces
        resting = [self._nearest(index, frames[len(frames) // 2], self._closed(index))] * len(frames)
        lips = self.cut(index, resting, self._aligned_views(index, resting, frames, views), changes)
        return [replace_lower_half(*pair) for pair in zip(faces, lips, strict=True)]

    def _closed(self, index: int) -> npt.NDArray[np.intp]:
        """Frames with a closed mouth."""
        return np.flatnonzero(inner_lip_gap(self.clips.clip(index).landmarks) < _CLOSED)

    def _aligned_views(
        self, index: int, others: Sequence[int], frames: Sequence[int], views: Sequence[Crop]
    ) -> list[Crop]:
        """Other frames in the pose that ``frames`` have in ``views``."""
        points = self.clips.clip(index).landmarks
        return [
            aligned_crop(view, points[frame], points[other])
            for view, frame, other in zip(views, frames, others, strict=True)
        ]

    def _nearest(self, index: int, frame: int, others: npt.NDArray[np.intp]) -> int:
        """The one of some frames whose head is turned most like that of ``frame``."""
        points = self.clips.clip(index).landmarks
        return int(others[np.argmin([pose_distance(points[other], points[frame]) for other in others])])


def draw_near(frames: Sequence[int], count: int, gap: tuple[int, int], rng: np.random.Generator) -> list[int]:
    """For each frame another one of a clip of ``count`` frames, at least ``gap[0]`` and at most ``gap[1]`` away.

    A frame that has none takes any frame of the clip.
    """
    least, largest = gap
    distances = np.abs(np.arange(count) - np.asarray(frames)[:, None])  # [T, count]
    allowed = (distances >= least) & (distances <= largest)
    return [
        int(rng.choice(np.flatnonzero(row))) if row.any() else int(rng.integers(count)) for row in allowed
    ]


class MouthWindows(expert.SyncWindows):
    """The expert's windows, each with the landmarks of the lips."""

    def __init__(
        self, source: SampleSource, num_windows: int = 2, min_shift: int = 5, antialias: bool = False
    ) -> None:
        super().__init__(source, num_windows, min_shift, antialias, (*expert.NEEDS, "landmarks"))

    def describe(self, index: int, views: Sequence[Mapping[int, Crop]], flip: bool) -> dict[str, Any]:
        """``mouth`` [W, 5, 20, 2] of :func:`mouth_points` and ``gestures`` [W, 5, 3] of :func:`mouth_gestures`."""
        landmarks = self.clips.clip(index).landmarks
        gestures = mouth_gestures(landmarks)
        starts = [min(crops) for crops in views]
        return {
            "gestures": np.stack([gestures[start : start + SYNC_FRAMES] for start in starts]),
            "mouth": np.stack(
                [
                    [mouth_points(landmarks[frame], crop, flip) for frame, crop in crops.items()]
                    for crops in views
                ]
            ),
        }


class NearDNetPairs(dnet.DNetPairs):
    """D-Net's pairs with their landmarks, near each other or with the source in the target's pose.

    Args:
        source: where samples come from.
        size: side of the images in pixels.
        max_gap: largest distance of source and target in frames; 0 for any.
        align_source: turn, move and scale the source so that its eyes and nose lie as in the target. At inference
            only the expression changes, and to find where a head is takes convolutions very long to learn.
    """

    def __init__(
        self, source: SampleSource, size: int = DNET_SIZE, max_gap: int = 0, align_source: bool = False
    ) -> None:
        super().__init__(source, size, (*dnet.NEEDS, "landmarks"))
        self.max_gap = max_gap
        self.align_source = align_source

    def draw_pair(self, num_frames: int, rng: np.random.Generator) -> tuple[int, int]:
        """Two different frames, not farther apart than ``max_gap``."""
        source = int(rng.integers(num_frames))
        gap = self.max_gap or num_frames
        first, last = max(0, source - gap), min(num_frames - 1, source + gap)
        target = int(rng.integers(first, last))
        return source, target + (target >= source)

    def source_view(self, index: int, source: int, target: int) -> Crop:
        """The view of the source: that of the clip, or the target's pose."""
        view = self.view(index)
        if not self.align_source:
            return view
        points = self.clips.clip(index).landmarks
        return aligned_crop(view, points[target], points[source])

    def describe(self, index: int, source: int, target: int) -> dict[str, Any]:
        """``source_points`` and ``target_points`` float32 [68, 2]; -1 to 1 is the image from border to border."""
        return {
            "source_points": self._landmarks(index, source, self.source_view(index, source, target)),
            "target_points": self._landmarks(index, target, self.view(index)),
        }

    def _landmarks(self, index: int, frame: int, view: Crop) -> Floats32:
        points = view.to_crop(self.clips.clip(index).landmarks[frame])
        return ((2.0 * points + 1.0) / self.size - 1.0).astype(np.float32)

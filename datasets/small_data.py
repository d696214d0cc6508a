"""Samples for minutes of film: those of the paper, and what landmarks of lips and head add to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.coefficients import TRAIN_WINDOW
from videoretalking.core.constants import DNET_SIZE, ENET_SIZE, MEL_BANDS, MEL_WINDOW, SYNC_FRAMES
from videoretalking.datasets import dnet, enet, expert, lnet
from videoretalking.datasets.augment import AugmentConfig, ImageAugment, VoiceAugment, silent_mel
from videoretalking.datasets.base import Picture, SampleSource
from videoretalking.datasets.clips import Version
from videoretalking.datasets.crops import Jitter
from videoretalking.datasets.mouths import (
    MOVING,
    aligned_crop,
    border_points,
    draw_near,
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
        far_references: share of the training samples whose references are drawn among the quarter that differ most
            from their frames in how far the mouth is open (needs landmarks). Else a network learns first that the
            mouth of the reference is nearly right, and copies it.
        with_points: add the landmarks that speech moves (needs landmarks).
        neutral_references: share of the training samples whose references are as D-Net renders them (of
            :mod:`scripts.preprocess.neutral`): what L-Net gets at inference, blur included. From real frames alone
            it learns to trust that its reference is sharp. They are other frames all the same: in a rendering of
            the frame itself, what D-Net left of its mouth would tell the answer.
    """

    def __init__(
        self,
        source: SampleSource,
        antialias: bool = False,
        reference_gap: tuple[int, int] | None = None,
        align_references: bool = False,
        silence: float = 0.0,
        far_references: float = 0.0,
        with_points: bool = False,
        neutral_references: float = 0.0,
    ) -> None:
        self.neutral_references = neutral_references if source.training else 0.0
        self.silence = silence if source.training else 0.0
        self.far_references = far_references if source.training else 0.0
        self.reference_gap = reference_gap
        self.align_references = align_references
        self.with_points = with_points
        needs_landmarks = align_references or with_points or self.silence > 0.0 or self.far_references > 0.0
        needs = (*lnet.NEEDS, "landmarks") if needs_landmarks else lnet.NEEDS
        if self.neutral_references:
            needs = (*needs, "neutral_index", "neutral_landmarks")
        super().__init__(source, antialias, needs)

    def is_upright(self) -> bool:
        """Not with references in another pose or version, nor with mouths pasted under silence."""
        pasted = self.silence > 0.0 or self.neutral_references > 0.0
        return super().is_upright() and not self.align_references and not pasted

    def draw_sound(
        self, index: int, frames: Sequence[int], voice: VoiceAugment, rng: np.random.Generator
    ) -> dict[str, Any]:
        """The sound, and ``speech``, a float32 scalar: 0 where silence replaced the sound."""
        if rng.uniform() < self.silence and len(self._closed(index)) > 0:
            audio = silent_mel((len(frames), 1, MEL_BANDS, MEL_WINDOW), rng)
            return {"audio": audio, "sync_audio": audio[0], "speech": np.float32(0.0)}
        return super().draw_sound(index, frames, voice, rng) | {"speech": np.float32(1.0)}

    def draw_references(
        self, index: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[int], Version]:
        """A reference for each frame, as far as ``reference_gap`` says, some with mouths unlike the frames' own.

        Some in the version that D-Net rendered.
        """
        neutral = self.neutral_references and rng.uniform() < self.neutral_references
        version: Version = "neutral" if neutral else "frames"
        count = len(self.clips.clip(index))
        gap = self.reference_gap or (0, count)
        if self.far_references and rng.uniform() < self.far_references:
            openings = inner_lip_gap(self.clips.clip(index).landmarks)
            return draw_near(frames, count, gap, rng, openings), version
        if self.reference_gap is None:
            return super().draw_references(index, frames, rng)[0], version
        return draw_near(frames, count, gap, rng), version

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
    ) -> list[Picture]:
        """The faces of the frames; under silence with the lower half of one frame whose mouth is closed.

        That half is shown in the pose of each frame, so that the mouth rests whatever the upper half does.
        """
        faces = super().cut_target(index, frames, views, changes, sound)
        if sound["speech"]:
            return faces
        resting = self._resting(index, frames)
        lips = self.cut(index, resting, self._aligned_views(index, resting, frames, views), changes)
        return [replace_lower_half(*pair) for pair in zip(faces, lips, strict=True)]

    def describe(
        self,
        index: int,
        frames: Sequence[int],
        views: Sequence[Crop],
        references: Sequence[int],
        reference_views: Sequence[Crop],
        sound: dict[str, Any],
        version: Version,
    ) -> dict[str, Any]:
        """``target_points`` and ``reference_points`` float32 [T, 34, 2] of :func:`border_points`, where wanted.

        Left and right keep the names they have in the frame, in a mirror too, alike in both.
        """
        if not self.with_points:
            return {}
        clip = self.clips.clip(index)
        points = clip.landmarks[:, MOVING]
        shown_points = clip.neutral_landmarks[:, MOVING] if version == "neutral" else points
        shown = [*zip(frames, views, strict=True)]
        if not sound["speech"]:
            resting = self._resting(index, frames)
            shown = [*zip(resting, self._aligned_views(index, resting, frames, views), strict=True)]
        pairs = zip(references, reference_views, strict=True)
        return {
            "target_points": np.stack([border_points(points[frame], view) for frame, view in shown]),
            "reference_points": np.stack([border_points(shown_points[frame], view) for frame, view in pairs]),
        }

    def _resting(self, index: int, frames: Sequence[int]) -> list[int]:
        """For some consecutive frames one frame with a closed mouth, as often."""
        return [self._nearest(index, frames[len(frames) // 2], self._closed(index))] * len(frames)

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
        window: frames of the coefficient window.
        max_gap: largest distance of source and target in frames; 0 for any.
        align_source: turn, move and scale the source so that its eyes and nose lie as in the target. At inference
            only the expression changes, and to find where a head is takes convolutions very long to learn.
        far_mouths: as in D-Net's pairs.
    """

    def __init__(
        self,
        source: SampleSource,
        size: int = DNET_SIZE,
        window: int = TRAIN_WINDOW,
        max_gap: int = 0,
        align_source: bool = False,
        far_mouths: float = 0.0,
    ) -> None:
        super().__init__(source, size, window, (*dnet.NEEDS, "landmarks"), far_mouths)
        self.max_gap = max_gap
        self.align_source = align_source

    def gap(self, num_frames: int) -> int:
        """``max_gap``, or none."""
        return self.max_gap or num_frames

    def is_upright(self) -> bool:
        """Not with sources in another pose."""
        return super().is_upright() and not self.align_source

    def source_view(self, index: int, source: int, target: int) -> Crop:
        """The view of the source: that of the clip, or the target's pose."""
        view = self.view(index)
        if not self.align_source:
            return view
        points = self.clips.clip(index).landmarks
        return aligned_crop(view, points[target], points[source])

    def describe(self, index: int, source: int, target: int) -> dict[str, Any]:
        """``source_points`` and ``target_points`` float32 [68, 2] of :func:`border_points`."""
        points = self.clips.clip(index).landmarks
        return {
            "source_points": border_points(points[source], self.source_view(index, source, target)),
            "target_points": border_points(points[target], self.view(index)),
        }


class BlurredENetClips(enet.ENetClips):
    """E-Net's samples from clips and stills, with draws that spoil what E-Net is given beyond compression.

    L-Net's faces are blurred and off in color. A network that never saw such faces keeps both, and one whose input
    holds everything but the finest detail needs no reference.

    Args:
        source: where samples come from.
        targets: ``restored`` or ``original``.
        num_frames: length of the window; 1 where stills take part.
        jpeg_quality: range of the quality with which inputs are compressed.
        size: side of the faces in pixels.
        blur: largest standard deviation of the blur, in pixels of the low-resolution face.
        cast: strength of a change of light and color that the reference does not have, 0 .. 1.
    """

    def __init__(
        self,
        source: SampleSource,
        targets: enet.Targets = "restored",
        num_frames: int = 1,
        jpeg_quality: tuple[int, int] = (60, 100),
        size: int = ENET_SIZE,
        blur: float = 0.0,
        cast: float = 0.0,
    ) -> None:
        needs = [name for name in enet.NEEDS if name != "mel"]
        super().__init__(source, targets, num_frames, jpeg_quality, size, needs)
        self.blur = blur
        self.cast = cast

    def hear(self, index: int, frames: Sequence[int]) -> dict[str, Any]:
        """The sound, and ``speech``, a float32 scalar: 0 for a still or where the sound does not reach."""
        voiced = self.clips.voiced_frames(index) if self.clips.clip(index).has("mel") else range(0)
        if frames[0] in voiced and frames[-1] in voiced:
            return super().hear(index, frames) | {"speech": np.float32(1.0)}
        silence = np.zeros((len(frames), 1, MEL_BANDS, MEL_WINDOW), np.float32)
        return {"audio": silence, "sync_audio": silence[0], "speech": np.float32(0.0)}

    def draw_changes(self, rng: np.random.Generator) -> dict[str, Any]:
        """``blur`` float32 scalar, ``cast`` float32 [3, 4] on RGB in [0, 1], ``part`` float32 [2] in [0, 1]."""
        sigma = np.float32(rng.uniform(0.0, self.blur))
        change = ImageAugment.draw(AugmentConfig(color=self.cast), rng)
        part = rng.uniform(size=2).astype(np.float32)
        return {"blur": sigma, "cast": change.color_matrix(1.0).astype(np.float32), "part": part}

    def no_changes(self) -> dict[str, Any]:
        """Draws that spoil nothing."""
        none = ImageAugment.none().color_matrix(1.0).astype(np.float32)
        return {"blur": np.float32(0.0), "cast": none}

"""Samples of E-Net: high-resolution targets, references and speech (paper, section C.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import ENET_SIZE, SYNC_FRAMES
from videoretalking.core.landmarks import MIRRORED
from videoretalking.datasets.augment import ImageAugment
from videoretalking.datasets.base import ClipDataset, Layout, Picture, SampleSource
from videoretalking.datasets.crops import Jitter, face_views
from videoretalking.faces.align import recognition_crop
from videoretalking.faces.types import Crop

Targets = Literal["restored", "original"]
NEEDS = ("frames_index", "boxes", "landmarks", "mel")
_SEEDS = 2**31
_MIRROR = np.array([[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


class ENetClips(ClipDataset):
    """Consecutive target frames with random reference frames of the same clip.

    Args:
        source: where samples come from.
        targets: ``restored`` for the restored set of the paper, ``original`` for the stored frames.
        num_frames: length of the window; the sync loss needs five.
        jpeg_quality: range of the quality with which inputs are compressed.
        size: side of the faces in pixels.
        needs: arrays that a clip must have.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {"target": "clip", "reference": "clip"}

    def __init__(
        self,
        source: SampleSource,
        targets: Targets = "restored",
        num_frames: int = SYNC_FRAMES,
        jpeg_quality: tuple[int, int] = (60, 100),
        size: int = ENET_SIZE,
        needs: Sequence[str] = NEEDS,
    ) -> None:
        super().__init__(source, [*needs, *(["restored_index"] if targets == "restored" else [])], num_frames)
        self.restored = targets == "restored"
        self.num_frames = num_frames
        self.jpeg_quality = jpeg_quality
        self.size = size

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The sample of one clip, T frames of S pixels.

        Returns:
            ``audio`` [T, 1, 80, 16]; ``sync_audio`` [1, 80, 16]; ``target`` and ``reference`` [3, T, S, S] in
            [0, 1]; ``from_recognition`` [T, 2, 3], pixels of ArcFace's aligned face -> pixels of the target;
            ``jpeg_quality`` float32 scalar for the degradation; ``noise_seeds`` int64 [T].
        """
        usable = self.clips.usable_frames(index)
        start = int(rng.integers(usable.start, usable.stop - self.num_frames + 1))
        references = rng.choice(len(self.clips.clip(index)), self.num_frames).tolist()
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        quality = np.float32(rng.uniform(*self.jpeg_quality))
        frames = range(start, start + self.num_frames)
        seeds = rng.integers(_SEEDS, size=self.num_frames)
        built = self._build(index, frames, references, jitter, changes, quality)
        return built | {"noise_seeds": seeds} | self.draw_changes(rng)

    def draw_changes(self, rng: np.random.Generator) -> dict[str, Any]:
        """Further draws that a training on little data makes; none here."""
        return {}

    def no_changes(self) -> dict[str, Any]:
        """What :meth:`draw_changes` gives where nothing is to be changed."""
        return {}

    def hear(self, index: int, frames: Sequence[int]) -> dict[str, Any]:
        """``audio`` and ``sync_audio`` of some frames."""
        return {
            "audio": self.clips.speech_windows(index, frames),
            "sync_audio": self.clips.clip_window(index, frames[0]),
        }

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frames of a clip, each its own reference as at inference: a batch of one long clip."""
        frames = self.clips.usable_frames(index)[:num_frames]
        quality = np.float32(np.mean(self.jpeg_quality))
        built = self._build(index, frames, frames, Jitter(), ImageAugment.none(), quality)
        built |= self.no_changes()
        batch: dict[str, Any] = {name: np.asarray(value)[None] for name, value in built.items()}
        return batch | {"clip": [self.clips.names[index]]}

    def _build(
        self,
        index: int,
        frames: Sequence[int],
        references: Sequence[int],
        jitter: Jitter,
        changes: ImageAugment,
        quality: np.float32,
    ) -> dict[str, Any]:
        landmarks = self.clips.clip(index).landmarks
        views = self._views(index, frames, jitter, changes.flip)
        return {
            **self.hear(index, frames),
            "target": self.lay_out("target", self._cut(index, frames, views, changes)),
            "reference": self.lay_out(
                "reference",
                self._cut(index, references, self._views(index, references, jitter, changes.flip), changes),
            ),
            "from_recognition": np.stack(
                [
                    from_recognition(landmarks[frame], view, changes.flip)
                    for frame, view in zip(frames, views, strict=True)
                ]
            ),
            "jpeg_quality": quality,
        }

    def _views(self, index: int, frames: Sequence[int], jitter: Jitter, flip: bool) -> list[Crop]:
        return face_views(self.clips.clip(index), frames, jitter, flip, self.size)

    def _cut(
        self, index: int, frames: Sequence[int], views: Sequence[Crop], changes: ImageAugment
    ) -> list[Picture]:
        return [self.take(index, frame, view, changes) for frame, view in zip(frames, views, strict=True)]


def from_recognition(landmarks: Floats32, view: Crop, mirrored: bool) -> Floats32:
    """Where ArcFace's aligned face takes its pixels from in a crop.

    The alignment is one of the frame, whose proportions the square crop does not keep.

    Args:
        landmarks: [68, 2] of the frame, in its pixels.
        view: the crop of the frame.
        mirrored: the crop is a mirror image, so left and right change their names.

    Returns:
        [2, 3] float32, pixel of the 112 x 112 face -> pixel of the crop.
    """
    recognition = recognition_crop(landmarks[MIRRORED] * _MIRROR.diagonal() if mirrored else landmarks)
    if mirrored:
        recognition = Crop(_MIRROR, recognition.size).then(recognition.matrix)
    return view.after(recognition).matrix.astype(np.float32)

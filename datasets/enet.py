"""Samples of E-Net: high-resolution targets, references and speech (paper, section C.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from videoretalking.core.constants import ENET_SIZE, SYNC_FRAMES
from videoretalking.datasets.augment import ImageAugment
from videoretalking.datasets.base import ClipDataset, Layout, Picture, SampleSource
from videoretalking.datasets.crops import Jitter, face_views

Targets = Literal["restored", "original"]


class ENetClips(ClipDataset):
    """Consecutive target frames with random reference frames of the same clip.

    Args:
        source: where samples come from.
        targets: ``restored`` for the restored set of the paper, ``original`` for the stored frames.
        num_frames: length of the window; the sync loss needs five.
        jpeg_quality: range of the quality with which inputs are compressed.
        size: side of the faces in pixels.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {"target": "clip", "reference": "clip"}

    def __init__(
        self,
        source: SampleSource,
        targets: Targets = "restored",
        num_frames: int = SYNC_FRAMES,
        jpeg_quality: tuple[int, int] = (60, 100),
        size: int = ENET_SIZE,
    ) -> None:
        needs = ["frames_index", "boxes", "mel"] + (["restored_index"] if targets == "restored" else [])
        super().__init__(source, needs, num_frames)
        self.restored = targets == "restored"
        self.num_frames = num_frames
        self.jpeg_quality = jpeg_quality
        self.size = size

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The sample of one clip, T frames of S pixels.

        Returns:
            ``audio`` [T, 1, 80, 16]; ``sync_audio`` [1, 80, 16]; ``target`` and ``reference`` [3, T, S, S] in
            [0, 1]; ``jpeg_quality`` float32 scalar for the degradation.
        """
        usable = self.clips.usable_frames(index)
        start = int(rng.integers(usable.start, usable.stop - self.num_frames + 1))
        references = rng.choice(len(self.clips.clip(index)), self.num_frames).tolist()
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        quality = np.float32(rng.uniform(*self.jpeg_quality))
        frames = range(start, start + self.num_frames)
        return self._build(index, frames, references, jitter, changes, quality)

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frames of a clip, each its own reference as at inference: a batch of one long clip."""
        frames = self.clips.usable_frames(index)[:num_frames]
        quality = np.float32(np.mean(self.jpeg_quality))
        built = self._build(index, frames, frames, Jitter(), ImageAugment.none(), quality)
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
        return {
            "audio": self.clips.speech_windows(index, frames),
            "sync_audio": self.clips.clip_window(index, frames[0]),
            "target": self.lay_out("target", self._cut(index, frames, jitter, changes)),
            "reference": self.lay_out("reference", self._cut(index, references, jitter, changes)),
            "jpeg_quality": quality,
        }

    def _cut(self, index: int, frames: Sequence[int], jitter: Jitter, changes: ImageAugment) -> list[Picture]:
        views = face_views(self.clips.clip(index), frames, jitter, changes.flip, self.size)
        return [self.take(index, frame, view, changes) for frame, view in zip(frames, views, strict=True)]

"""Samples of E-Net: high-resolution targets, references and speech (paper, section C.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import ENET_SIZE, SYNC_FRAMES
from videoretalking.datasets.augment import AugmentConfig, ImageAugment
from videoretalking.datasets.collection import ClipCollection, DataConfig, sample_rng
from videoretalking.datasets.crops import Jitter, cut, face_crop, mirror
from videoretalking.datasets.lnet import to_clip

Targets = Literal["restored", "original"]


class ENetClips(Dataset[dict[str, Any]]):
    """Consecutive target frames with random reference frames of the same clip.

    Args:
        data: prepared data.
        split: split of the manifest.
        augment: color, flip and crop jitter.
        seed: of all random draws.
        release_only: leave out clips whose weights may not be published.
        targets: ``restored`` for the restored set of the paper, ``original`` for the stored frames.
        num_frames: length of the window; the sync loss needs five.
        jpeg_quality: range of the quality with which inputs are compressed.
        size: side of the faces in pixels.
    """

    def __init__(
        self,
        data: DataConfig,
        split: str,
        augment: AugmentConfig,
        seed: int,
        release_only: bool = False,
        targets: Targets = "restored",
        num_frames: int = SYNC_FRAMES,
        jpeg_quality: tuple[int, int] = (60, 100),
        size: int = ENET_SIZE,
    ) -> None:
        needs = ["frames_index", "boxes", "mel"] + (["restored_index"] if targets == "restored" else [])
        self.clips = ClipCollection(data, split, needs, num_frames, release_only)
        self.augment = augment
        self.seed = seed
        self.restored = targets == "restored"
        self.num_frames = num_frames
        self.jpeg_quality = jpeg_quality
        self.size = size

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of one clip, T frames of S pixels.

        Args:
            key: (epoch, index of the clip).

        Returns:
            ``audio`` [T, 1, 80, 16]; ``sync_audio`` [1, 80, 16]; ``target`` and ``reference`` [3, T, S, S] in
            [0, 1]; ``jpeg_quality`` float32 scalar for the degradation; ``clip`` the name.
        """
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        usable = self.clips.usable_frames(index)
        start = int(rng.integers(usable.start, usable.stop - self.num_frames + 1))
        references = rng.choice(len(self.clips.clip(index)), self.num_frames).tolist()
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        quality = np.float32(rng.uniform(*self.jpeg_quality))
        return self._sample(
            index, range(start, start + self.num_frames), references, jitter, changes, quality
        )

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frames of a clip, each its own reference as at inference: a batch of one long clip."""
        frames = self.clips.usable_frames(index)[:num_frames]
        none = ImageAugment.draw(AugmentConfig(), sample_rng(self.seed, 0, index))
        quality = np.float32(np.mean(self.jpeg_quality))
        sample = self._sample(index, frames, frames, Jitter(), none, quality)
        return {
            name: [value] if isinstance(value, str) else np.asarray(value)[None]
            for name, value in sample.items()
        }

    def _sample(
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
            "target": to_clip(self._cut(index, frames, jitter, changes)),
            "reference": to_clip(self._cut(index, references, jitter, changes)),
            "jpeg_quality": quality,
            "clip": self.clips.names[index],
        }

    def _cut(self, index: int, frames: Sequence[int], jitter: Jitter, changes: ImageAugment) -> list[Image8]:
        clip = self.clips.clip(index)
        crops = [face_crop(clip, frame, self.size, jitter) for frame in frames]
        if changes.flip:
            crops = [mirror(crop) for crop in crops]
        return [
            changes.recolor(cut(clip, frame, crop, self.restored))
            for frame, crop in zip(frames, crops, strict=True)
        ]

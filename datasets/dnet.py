"""Samples of D-Net: two frames of one video and the coefficient window of the second (section C.1.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from videoretalking.core.arrays import Floats32
from videoretalking.core.coefficients import motion_rows, motion_window
from videoretalking.core.constants import DNET_SIZE
from videoretalking.datasets.augment import AugmentConfig, ImageAugment
from videoretalking.datasets.collection import ClipCollection, DataConfig, sample_rng, to_image
from videoretalking.datasets.crops import aligned_crop, cut
from videoretalking.faces.align import box_crop
from videoretalking.faces.types import Crop


class DNetPairs(Dataset[dict[str, Any]]):
    """Random source and target frame of one clip.

    Args:
        data: prepared data.
        split: split of the manifest.
        augment: color only; mirroring or moving the crop would contradict the coefficients.
        seed: of all random draws.
        release_only: leave out clips whose weights may not be published.
        size: side of the images in pixels.
        max_gap: largest distance of source and target in frames; 0 for any.
        points: give the landmarks of both images too.
        align_source: turn, move and scale the source so that its eyes and nose lie as in the target. At inference
            only the expression changes, and to find where a head is takes convolutions very long to learn.
    """

    def __init__(
        self,
        data: DataConfig,
        split: str,
        augment: AugmentConfig,
        seed: int,
        release_only: bool = False,
        size: int = DNET_SIZE,
        max_gap: int = 0,
        points: bool = False,
        align_source: bool = False,
    ) -> None:
        needs = ["frames_index", "rows"] + (["landmarks"] if points or align_source else [])
        self.clips = ClipCollection(data, split, needs, 2, release_only)
        self.augment = augment
        self.seed = seed
        self.size = size
        self.max_gap = max_gap
        self.points = points
        self.align_source = align_source

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The pair of one clip.

        Args:
            key: (epoch, index of the clip).

        Returns:
            ``source`` and ``target`` float32 [3, size, size] in [0, 1], ``coefficients`` float32 [73, 27] of
            the target, ``clip`` the clip's name; with ``points`` also ``source_points`` and ``target_points``
            float32 [68, 2], where -1 to 1 is the image from border to border.
        """
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        source, target = self._draw_pair(len(self.clips.clip(index)), rng)
        changes = ImageAugment.draw(self.augment, rng)
        view = self._view(index)
        source_view = self._aligned_view(index, source, target) if self.align_source else view
        sample = {
            "source": self._image(index, source, source_view, changes),
            "target": self._image(index, target, view, changes),
            "coefficients": motion_window(self.clips.clip(index).rows, target),
            "clip": self.clips.names[index],
        }
        if self.points:
            sample["source_points"] = self._landmarks(index, source, source_view)
            sample["target_points"] = self._landmarks(index, target, view)
        return sample

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frame of a clip as source and its first ``num_frames`` frames as targets, time first."""
        clip = self.clips.clip(index)
        frames = range(min(num_frames, len(clip)))
        none = ImageAugment.draw(AugmentConfig(), sample_rng(self.seed, 0, index))
        view = self._view(index)
        return {
            "source": np.stack([self._image(index, 0, view, none)] * len(frames)),
            "target": np.stack([self._image(index, frame, view, none) for frame in frames]),
            "coefficients": np.stack([motion_window(clip.rows, frame) for frame in frames]),
            "clip": [self.clips.names[index]] * len(frames),
        }

    def motion_statistics(self) -> tuple[Floats32, Floats32]:
        """Mean and standard deviation [73] of the motion coefficients over all frames of all clips."""
        rows = np.concatenate([motion_rows(self.clips.clip(index).rows) for index in range(len(self))])
        mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        return mean.astype(np.float32), deviation.astype(np.float32)

    def _draw_pair(self, num_frames: int, rng: np.random.Generator) -> tuple[int, int]:
        """Two different frames, not farther apart than ``max_gap``."""
        source = int(rng.integers(num_frames))
        gap = self.max_gap or num_frames
        first, last = max(0, source - gap), min(num_frames - 1, source + gap)
        target = int(rng.integers(first, last))
        return source, target + (target >= source)

    def _image(self, index: int, frame: int, view: Crop, changes: ImageAugment) -> Floats32:
        return to_image(changes.recolor(cut(self.clips.clip(index), frame, view)))

    def _landmarks(self, index: int, frame: int, view: Crop) -> Floats32:
        points = view.to_crop(self.clips.clip(index).landmarks[frame])
        return ((2.0 * points + 1.0) / self.size - 1.0).astype(np.float32)

    def _view(self, index: int) -> Crop:
        return box_crop(self.clips.clip(index).meta.dnet_window, (self.size, self.size))

    def _aligned_view(self, index: int, source: int, target: int) -> Crop:
        points = self.clips.clip(index).landmarks
        return aligned_crop(self._view(index), points[target], points[source])

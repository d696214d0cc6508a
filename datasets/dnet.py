"""Samples of D-Net: two frames of one video and the coefficient window of the second (section C.1.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32
from videoretalking.core.coefficients import TRAIN_WINDOW, motion_rows, motion_window
from videoretalking.core.constants import DNET_SIZE
from videoretalking.datasets.augment import ImageAugment
from videoretalking.datasets.base import ClipDataset, Layout, SampleSource
from videoretalking.datasets.mouths import draw_near, inner_lip_gap
from videoretalking.faces.align import box_crop
from videoretalking.faces.types import Crop

NEEDS = ("frames_index", "rows")


class DNetPairs(ClipDataset):
    """Random source and target frame of one clip.

    Only the color is augmented: to mirror or to move the crop would contradict the coefficients.

    Args:
        source: where samples come from.
        size: side of the images in pixels.
        window: frames of the coefficient window.
        needs: arrays that a clip must have.
        far_mouths: probability that the target is drawn from the quarter of the clip's frames whose mouth is open
            most differently from the source's, which takes landmarks; training only. Two frames at random mostly
            show alike mouths, and a network that copies the source's mouth is right about them. 0 is the paper.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {"source": "image", "target": "image"}

    def __init__(
        self,
        source: SampleSource,
        size: int = DNET_SIZE,
        window: int = TRAIN_WINDOW,
        needs: Sequence[str] = NEEDS,
        far_mouths: float = 0.0,
    ) -> None:
        if far_mouths and "landmarks" not in needs:
            needs = (*needs, "landmarks")
        super().__init__(source, needs, min_frames=2)
        self.far_mouths = far_mouths if source.training else 0.0
        self.size = size
        self.window = window

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The pair of one clip.

        Returns:
            ``source`` and ``target`` float32 [3, size, size] in [0, 1], ``coefficients`` float32 [73, window] of
            the target.
        """
        source, target = self.draw_pair(index, rng)
        changes = ImageAugment.draw(self.augment, rng)
        return {
            "source": self._image("source", index, source, self.source_view(index, source, target), changes),
            "target": self._image("target", index, target, self.view(index), changes),
            "coefficients": motion_window(self.clips.clip(index).rows, target, self.window),
            **self.describe(index, source, target),
        }

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frame of a clip as source and its first ``num_frames`` frames as targets, time first."""
        clip = self.clips.clip(index)
        frames = range(min(num_frames, len(clip)))
        view, none = self.view(index), ImageAugment.none()
        return {
            "source": np.stack([self._image("source", index, 0, view, none)] * len(frames)),
            "target": np.stack([self._image("target", index, frame, view, none) for frame in frames]),
            "coefficients": np.stack([motion_window(clip.rows, frame, self.window) for frame in frames]),
            "clip": [self.clips.names[index]] * len(frames),
        }

    def motion_statistics(self) -> tuple[Floats32, Floats32]:
        """Mean and standard deviation [73] of the motion coefficients over all frames of all clips."""
        rows = np.concatenate([motion_rows(self.clips.clip(index).rows) for index in range(len(self))])
        mean, deviation = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
        return mean.astype(np.float32), deviation.astype(np.float32)

    def draw_pair(self, index: int, rng: np.random.Generator) -> tuple[int, int]:
        """Two different frames of a clip, not farther apart than :meth:`gap`."""
        clip = self.clips.clip(index)
        source, gap = int(rng.integers(len(clip))), self.gap(len(clip))
        if self.far_mouths and rng.random() < self.far_mouths:
            (target,) = draw_near([source], len(clip), (1, gap), rng, inner_lip_gap(clip.landmarks))
            return source, target
        first, last = max(0, source - gap), min(len(clip) - 1, source + gap)
        target = int(rng.integers(first, last))
        return source, target + (target >= source)

    def gap(self, num_frames: int) -> int:
        """Largest distance of source and target in frames: any."""
        return num_frames

    def view(self, index: int) -> Crop:
        """D-Net's view of a clip, the same in all its frames."""
        return box_crop(self.clips.clip(index).meta.dnet_window, (self.size, self.size))

    def source_view(self, index: int, source: int, target: int) -> Crop:
        """The view of the source: that of the clip."""
        return self.view(index)

    def describe(self, index: int, source: int, target: int) -> dict[str, Any]:
        """What else a sample says of its two frames: nothing."""
        return {}

    def _image(
        self, name: str, index: int, frame: int, view: Crop, changes: ImageAugment
    ) -> npt.NDArray[Any]:
        return self.lay_out(name, [self.take(index, frame, view, changes)])

"""The frame around every data set: which clips it reads, and the random stream of each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from videoretalking.core.constants import LNET_SIZE
from videoretalking.datasets.augment import AugmentConfig, ImageAugment
from videoretalking.datasets.clips import Version
from videoretalking.datasets.collection import ClipCollection, DataConfig, to_clip, to_image
from videoretalking.datasets.crops import cut, cut_low
from videoretalking.datasets.plans import Planner, degrade_plan
from videoretalking.faces.types import Crop

# How the pictures of a sample lie in its arrays: one image [3, S, S]; a clip [3, T, S, S]; or the lower halves of
# the frames of a window [3 * T, S / 2, S], frame after frame.
Layout = Literal["image", "clip", "halves"]

# uint8 [S, S, 3]; or the row of a plan where the device makes the pictures (:mod:`datasets.plans`).
Picture = npt.NDArray[Any]


@dataclass(frozen=True)
class SampleSource:
    """What every data set is told.

    Attributes:
        data: prepared data.
        augment: changes of the training samples; validation samples stay as they are.
        seed: of all random draws.
        training: read the training split, else the validation split.
    """

    data: DataConfig
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    seed: int = 0
    training: bool = True


class ClipDataset(Dataset[dict[str, Any]], ABC):
    """One sample from each clip of a split.

    Args:
        source: where samples come from.
        needs: arrays that a clip must have (names of its ``.npy`` files).
        min_frames: fewest frames of a clip.

    Attributes:
        layouts: name -> layout of the arrays of a sample that hold pictures.
        restored: whether pictures show the restored frames.
        clips: the clips.
        augment: changes of the samples, none for validation.
        planner: makes plans instead of pictures (:mod:`datasets.resident`); None for pictures.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {}
    restored: bool = False
    planner: Planner | None = None

    def __init__(self, source: SampleSource, needs: Sequence[str], min_frames: int) -> None:
        data, training = source.data, source.training
        split = data.train_split if training else data.val_split
        self.clips = ClipCollection(data, split, needs, min_frames, data.release_only and training)
        self.augment = source.augment if training else AugmentConfig()
        self.seed = source.seed

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of one clip: what :meth:`sample` gives, and ``clip``, the clip's name.

        Args:
            key: (epoch, index of the clip).
        """
        epoch, index = key
        return {**self.sample(index, sample_rng(self.seed, epoch, index)), "clip": self.clips.names[index]}

    def is_upright(self) -> bool:
        """Whether all pictures are views that are not turned, so that a planner can plan them."""
        return bool(self.layouts)

    def take(
        self,
        index: int,
        frame: int,
        view: Crop,
        changes: ImageAugment,
        antialias: bool | None = None,
        version: Version | None = None,
    ) -> Picture:
        """A frame of a clip as seen in a view, in changed light and color.

        Args:
            index: of the clip.
            frame: its number.
            view: the crop.
            changes: of light and color.
            antialias: how the view is reduced to 96 pixels (:func:`cut_low`); None leaves its size.
            version: of the frame, where it is not the one that :attr:`restored` says; files only.
        """
        clip = self.clips.clip(index)
        version = version or ("restored" if self.restored else "frames")
        if self.planner is not None:
            shown = clip.view(frame, version)
            return self.planner.plan(index, frame, view, changes, antialias, shown, self.restored)
        if antialias is None:
            return changes.recolor(cut(clip, frame, view, version))
        return changes.recolor(cut_low(clip, frame, view, antialias, version))

    def degrade(self, pictures: Sequence[Picture], changes: ImageAugment) -> list[Picture]:
        """Pictures covered, blurred and compressed."""
        if self.planner is not None:
            return [degrade_plan(picture, changes) for picture in pictures]
        return [changes.degrade(picture) for picture in pictures]

    def lay_out(self, name: str, pictures: Sequence[Picture]) -> npt.NDArray[Any]:
        """The array of a sample that holds some pictures, as :attr:`layouts` says."""
        layout = self.layouts[name]
        if self.planner is not None:
            return pictures[0] if layout == "image" else np.stack(pictures)
        if layout == "image":
            return to_image(pictures[0])
        if layout == "clip":
            return to_clip(pictures)
        return np.concatenate([to_image(picture[LNET_SIZE // 2 :]) for picture in pictures])

    @abstractmethod
    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """float32 arrays by name; a function of the clip ``index`` and of what ``rng`` draws."""


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream of one sample; nothing else may influence what a data set returns."""
    return np.random.default_rng([seed, epoch, index])

"""The frame around every data set: which clips it reads, and the random stream of each sample."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import ClipCollection, DataConfig


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
        clips: the clips.
        augment: changes of the samples, none for validation.
    """

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

    @abstractmethod
    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """float32 arrays by name; a function of the clip ``index`` and of what ``rng`` draws."""


def sample_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The random stream of one sample; nothing else may influence what a data set returns."""
    return np.random.default_rng([seed, epoch, index])

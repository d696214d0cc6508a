"""Clips of people that no training saw, with their faces as L-Net sees them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import LNET_SIZE
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.collection import to_image
from videoretalking.datasets.crops import cut_low, face_crop
from videoretalking.datasets.manifest import read_manifest
from videoretalking.datasets.mouths import aligned_crop, inner_lip_gap, replace_lower_half
from videoretalking.faces.types import Crop


class HeldOutClip:
    """A prepared clip with its face crops at L-Net's size, decoded once.

    Args:
        name: folder below the data set's root.
        clip: the clip.
    """

    def __init__(self, name: str, clip: PreparedClip) -> None:
        self.name = name
        self.clip = clip
        self.identity = clip.meta.identity

    @cached_property
    def views(self) -> list[Crop]:
        """The crop of each frame."""
        return [face_crop(self.clip, index, LNET_SIZE) for index in range(len(self.clip))]

    @cached_property
    def faces(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]."""
        return np.stack([self._see(index, face_crop(self.clip, index)) for index in range(len(self.clip))])

    @cached_property
    def references(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]: the frame with the most closed mouth, in the pose of each frame."""
        points = self.clip.landmarks
        closed = int(inner_lip_gap(points).argmin())
        views = [
            aligned_crop(face_crop(self.clip, index), mine, points[closed])
            for index, mine in enumerate(points)
        ]
        return np.stack([self._see(closed, view) for view in views])

    def _see(self, index: int, view: Crop) -> Floats32:
        return to_image(cut_low(self.clip, index, view, antialias=True))  # as the bundled networks do

    @property
    def resting(self) -> Floats32:
        """[N, 3, 96, 96] in [0, 1]: the frames above, the reference below."""
        pairs = zip(self.faces, self.references, strict=True)
        frames = [replace_lower_half(*(to_frame(image) for image in pair)) for pair in pairs]
        return np.stack([to_image(frame) for frame in frames])


def to_frame(image: Floats32) -> Image8:
    """[3, H, W] in [0, 1] -> uint8 [H, W, 3]."""
    return np.rint(255.0 * image.transpose(1, 2, 0)).astype(np.uint8)


def read_clips(root: Path) -> list[HeldOutClip]:
    """The validation clips of a prepared data set.

    Raises:
        UserError: there are none, or a person is in training and validation.
    """
    entries = read_manifest(root)
    trained = {entry.identity for entry in entries if entry.split == "train"}
    clips = [
        HeldOutClip(entry.clip, PreparedClip(root / entry.clip)) for entry in entries if entry.split == "val"
    ]
    if not clips:
        raise UserError(f"{root} has no validation clips: run scripts.train_demo first")
    seen = sorted({clip.identity for clip in clips} & trained)
    if seen:
        raise UserError(f"{root}: {seen[0]} is in training and in validation; prepare the data again")
    return clips


def one_each(clips: Sequence[HeldOutClip]) -> list[HeldOutClip]:
    """The longest clip of each person, the first of several, in the order of the people."""
    longest: dict[str, HeldOutClip] = {}
    for item in clips:
        if item.identity not in longest or len(item.clip) > len(longest[item.identity].clip):
            longest[item.identity] = item
    return list(longest.values())


def mean(values: Sequence[float]) -> float | None:
    """Mean of the figures of clips; None where no clip has one."""
    return float(np.mean(values)) if values else None

"""Landmarks of pictures whose faces lie about where they are known to be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.datasets.collection import to_image
from videoretalking.faces.align import extract, landmark_crop
from videoretalking.models.landmarks import LandmarkNet

_BATCH = 16


def find_landmarks(pictures: Sequence[Image8], around: Sequence[Floats32], network: LandmarkNet) -> Floats32:
    """Landmarks by the network, each in the crop that a known face gives, so that only the network's view counts.

    Args:
        pictures: uint8 [H, W, 3] each.
        around: [68, 2] for each picture: landmarks of the source frame.
        network: that finds them.

    Returns:
        [N, 68, 2] float32 in pixels of the pictures.
    """
    crops = [landmark_crop(points) for points in around]
    faces = [extract(frame, crop) for frame, crop in zip(pictures, crops, strict=True)]
    found = []
    for first in range(0, len(faces), _BATCH):
        batch = torch.from_numpy(np.stack([to_image(face) for face in faces[first : first + _BATCH]]))
        found += list(network(batch).points.numpy())
    points = [crop.to_image(point) for crop, point in zip(crops, found, strict=True)]
    return np.stack(points).astype(np.float32)

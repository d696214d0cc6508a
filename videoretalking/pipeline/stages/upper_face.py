"""Emotion of the upper face by GANimation, the plug-in of section 3.1."""

from __future__ import annotations

import torch
from torch import nn

from videoretalking.core.expressions import action_units
from videoretalking.models.layers.blocks import resize
from videoretalking.pipeline.config import UpperFace
from videoretalking.pipeline.engine import Runner

_SIZE = 128  # what the generator was trained at


class UpperFaceEditor:
    """Adds an emotion to brows, eyes and forehead.

    The generator paints at 128x128. Only the change that it makes is enlarged and added to the crop, so the
    detail of the frame stays.

    Args:
        ganimation: the generator.
        emotion: not ``original``.
    """

    def __init__(self, ganimation: Runner[nn.Module], emotion: UpperFace) -> None:
        self.ganimation = ganimation
        self.units = torch.from_numpy(action_units(emotion))

    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        """[N, 3, S, S] crops in [0, 1] -> the same with the emotion in them."""
        small = resize(faces, _SIZE)
        change = self.ganimation(small, self.units.expand(len(small), -1)) - small
        return (faces + resize(change, (faces.shape[2], faces.shape[3]))).clamp(0.0, 1.0)

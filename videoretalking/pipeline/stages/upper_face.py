"""Emotion of the upper face by GANimation, the plug-in of section 3.1."""

from __future__ import annotations

import torch
from torch import nn

from videoretalking.core.devices import autocast
from videoretalking.core.expressions import action_units
from videoretalking.models.blocks import resize
from videoretalking.pipeline.batching import BatchRunner
from videoretalking.pipeline.config import UpperFace

_SIZE = 128  # what the generator was trained at


class UpperFaceEditor:
    """Adds an emotion to brows, eyes and forehead.

    The generator paints at 128x128. Only the change that it makes is enlarged and added to the crop, so the
    detail of the frame stays.

    Args:
        ganimation: generator on its device.
        emotion: not ``original``.
        batch_size: faces in one call.
        dtype: number format of the network.
    """

    def __init__(
        self, ganimation: nn.Module, emotion: UpperFace, batch_size: int, dtype: torch.dtype
    ) -> None:
        self.ganimation = ganimation
        self.runner = BatchRunner(batch_size)
        self.dtype = dtype
        self.units = torch.from_numpy(action_units(emotion))

    def __call__(self, faces: torch.Tensor) -> torch.Tensor:
        """[N, 3, S, S] crops in [0, 1] -> the same with the emotion in them."""
        small = resize(faces, _SIZE)
        change = self.runner(self._run, small) - small
        return (faces + resize(change, (faces.shape[2], faces.shape[3]))).clamp(0.0, 1.0)

    def _run(self, faces: torch.Tensor) -> torch.Tensor:
        units = self.units.to(faces.device).expand(len(faces), -1)
        with torch.inference_mode(), autocast(faces.device, self.dtype):
            image: torch.Tensor = self.ganimation(faces, units).image
        return image.float()

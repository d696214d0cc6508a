"""Teeth by a face restorer (paper, section 3.4), which changes the identity and so gives its mouth only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from core.constants import RESTORER_SIZE
from core.devices import autocast
from faces.align import enhancer_crop, extract, warp
from faces.masks import mouth_polygon_mask
from faces.types import Crop
from pipeline.batching import BatchRunner
from pipeline.blend import fade_window
from pipeline.work import FaceWork, Image, between, to_images, to_tensor

_FADE = 0.08  # share of the face crop over which it runs into the frame around it, as in the final blend


class MouthRestorer:
    """Replaces the mouth of each new face by the restorer's.

    Args:
        restorer: GFPGAN on its device.
        strength: 0 keeps the mouth .. 1 takes the restorer's.
        batch_size: faces in one call.
        dtype: number format of the network.
    """

    def __init__(self, restorer: nn.Module, strength: float, batch_size: int, dtype: torch.dtype) -> None:
        self.restorer = restorer
        self.strength = strength
        self.runner = BatchRunner(batch_size)
        self.dtype = dtype
        self.device = next(restorer.parameters()).device
        self.size = int(getattr(restorer.config, "image_size", RESTORER_SIZE))

    def __call__(self, faces: Sequence[FaceWork], patches: Sequence[Image]) -> list[Image]:
        """Restore.

        Args:
            faces: where the patches belong.
            patches: the new faces, [S, S, 3] float32 RGB in [0, 1].

        Returns:
            The patches with restored mouths.
        """
        crops = [enhancer_crop(face.landmarks, self.size) for face in faces]
        scenes = [_scene(*item) for item in zip(faces, patches, crops, strict=True)]
        restored = to_images(self.runner(self._run, to_tensor(scenes, self.device)))
        return [self._merge(*item) for item in zip(faces, patches, crops, restored, strict=True)]

    def _merge(self, face: FaceWork, patch: Image, crop: Crop, restored: Image) -> Image:
        mask = mouth_polygon_mask(face.crop.to_crop(face.landmarks), face.crop.size)[..., None]
        mouth = warp(restored, between(crop, face.crop), face.crop.size)
        return np.asarray(patch + self.strength * mask * (mouth - patch))

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(), autocast(self.device, self.dtype):
            restored: torch.Tensor = self.restorer(image)
        return restored.float().clamp(0.0, 1.0)


def _scene(face: FaceWork, patch: Image, crop: Crop) -> Image:
    """The restorer's view: the frame with the new face in it."""
    matrix = between(face.crop, crop)
    weight = warp(fade_window(*face.crop.size, _FADE), matrix, crop.size, edge=False)[..., None]
    around = extract(face.frame, crop).astype(np.float32) / 255.0
    return np.asarray(around + weight * (warp(patch, matrix, crop.size) - around))

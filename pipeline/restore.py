"""Teeth by a face restorer (paper, section 3.4), which changes the identity and so gives its mouth only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from core.constants import RESTORER_SIZE
from core.devices import autocast
from faces.align import enhancer_crop, warp
from faces.types import Crop
from models.int8 import Int8Trial
from pipeline.batching import BatchRunner
from pipeline.masking import FaceMasker, scene
from pipeline.work import FaceWork, Image, between, to_images, to_tensor


class MouthRestorer:
    """Replaces the mouth of each new face by the restorer's.

    Args:
        restorer: GFPGAN on its device.
        masker: finds the mouth.
        strength: 0 keeps the mouth .. 1 takes the restorer's.
        batch_size: faces in one call.
        dtype: number format of the network.
    """

    def __init__(
        self, restorer: nn.Module, masker: FaceMasker, strength: float, batch_size: int, dtype: torch.dtype
    ) -> None:
        self.restorer = restorer
        self.masker = masker
        self.strength = strength
        self.runner = BatchRunner(batch_size)
        self.dtype = dtype
        self.trial = Int8Trial(restorer, dtype == torch.int8)
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
        scenes = [scene(*item) for item in zip(faces, patches, crops, strict=True)]
        restored = to_images(self.runner(self._run, to_tensor(scenes, self.device)))
        masks = self.masker.mouth_masks(faces, patches)
        return [self._merge(*item) for item in zip(faces, patches, crops, restored, masks, strict=True)]

    def _merge(self, face: FaceWork, patch: Image, crop: Crop, restored: Image, mask: Image) -> Image:
        mouth = warp(restored, between(crop, face.crop), face.crop.size)
        return np.asarray(patch + self.strength * mask[..., None] * (mouth - patch))

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        self.trial(image)
        with torch.inference_mode(), autocast(self.device, self.dtype):
            restored: torch.Tensor = self.restorer(image)
        return restored.float().clamp(0.0, 1.0)

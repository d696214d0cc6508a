"""Teeth by a face restorer (paper, section 3.4), which changes the identity and so gives its mouth only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from videoretalking.core.arrays import AnyImage
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.core.devices import autocast
from videoretalking.faces.align import enhancer_crop, extract
from videoretalking.faces.types import Crop
from videoretalking.models.int8 import Int8Trial
from videoretalking.pipeline.batching import BatchRunner
from videoretalking.pipeline.jobs import FaceJob, to_images, to_tensor
from videoretalking.pipeline.stages.mask import FaceMasker, scene


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

    def __call__(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[AnyImage]:
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

    def _merge(
        self, face: FaceJob, patch: AnyImage, crop: Crop, restored: AnyImage, mask: AnyImage
    ) -> AnyImage:
        mouth = extract(restored, face.crop.after(crop))
        return np.asarray(patch + self.strength * mask[..., None] * (mouth - patch))

    def _run(self, image: torch.Tensor) -> torch.Tensor:
        self.trial(image)
        with torch.inference_mode(), autocast(self.device, self.dtype):
            restored: torch.Tensor = self.restorer(image)
        return restored.float().clamp(0.0, 1.0)

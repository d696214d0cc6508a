"""Teeth by a face restorer (paper, section 3.4), which changes the identity and so gives its mouth only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoretalking.core.arrays import AnyImage
from videoretalking.faces.align import enhancer_crop, extract
from videoretalking.faces.types import Crop
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob, to_images, to_tensor
from videoretalking.pipeline.stages.mask import scene


class MouthRestorer:
    """Replaces the mouth of each new face by the restorer's.

    Args:
        restorer: GFPGAN.
        strength: 0 keeps the mouth .. 1 takes the restorer's.
    """

    def __init__(self, restorer: Runner[GFPGAN], strength: float) -> None:
        self.restorer = restorer
        self.strength = strength
        self.size = restorer.network.config.image_size

    def __call__(
        self, faces: Sequence[FaceJob], patches: Sequence[AnyImage], mouths: Sequence[AnyImage]
    ) -> list[AnyImage]:
        """Restore.

        Args:
            faces: where the patches belong.
            patches: the new faces, [S, S, 3] float32 RGB in [0, 1].
            mouths: [S, S] float32 in [0, 1], where their mouths are.

        Returns:
            The patches with restored mouths.
        """
        crops = [enhancer_crop(face.landmarks, self.size) for face in faces]
        scenes = [scene(*item) for item in zip(faces, patches, crops, strict=True)]
        restored = to_images(self.restorer(to_tensor(scenes, self.restorer.device)).clamp(0.0, 1.0))
        return [self._merge(*item) for item in zip(faces, patches, crops, restored, mouths, strict=True)]

    def _merge(
        self, face: FaceJob, patch: AnyImage, crop: Crop, restored: AnyImage, mask: AnyImage
    ) -> AnyImage:
        mouth = extract(restored, face.crop.after(crop))
        return np.asarray(patch + self.strength * mask[..., None] * (mouth - patch))

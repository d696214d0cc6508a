"""Teeth by a face restorer (paper, section 3.4), which changes the identity and so gives its mouth only."""

from __future__ import annotations

from collections.abc import Sequence

from videoretalking.faces.align import enhancer_crop
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels, Raster
from videoretalking.pipeline.stages.mask import scene


class MouthRestorer:
    """Replaces the mouth of each new face by the restorer's.

    Args:
        restorer: GFPGAN.
        strength: 0 keeps the mouth .. 1 takes the restorer's.
        raster: for the pixel work.
    """

    def __init__(self, restorer: Runner[GFPGAN], strength: float, raster: Raster) -> None:
        self.raster = raster
        self.restorer = restorer
        self.strength = strength
        self.size = restorer.network.config.image_size

    def __call__(self, faces: Sequence[FaceJob], patches: Pixels, mouths: Pixels) -> Pixels:
        """Restore.

        Args:
            faces: where the patches belong.
            patches: [N, S, S, 3] float32 RGB in [0, 1], the new faces.
            mouths: [N, S, S] float32 in [0, 1], where their mouths are.

        Returns:
            The patches with restored mouths.
        """
        crops = [enhancer_crop(face.landmarks, self.size) for face in faces]
        scenes = scene(faces, patches, crops, self.raster)
        restored = self.restorer(self.raster.tensor(scenes)).clamp(0.0, 1.0)
        views = [face.crop.after(crop) for face, crop in zip(faces, crops, strict=True)]
        changes = self.raster.view(self.raster.pixels(restored), views) - patches
        return patches + self.strength * mouths[..., None] * changes

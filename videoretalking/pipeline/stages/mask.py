"""Which pixels of a new face replace the frame's: the produced face is segmented (paper, section 3.4)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from videoretalking.core.arrays import AnyImage
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.faces.align import enhancer_crop, extract
from videoretalking.faces.masks import eye_distance, face_polygon_mask, mouth_polygon_mask, soften
from videoretalking.faces.parsing import FACE_CLASSES, MOUTH_CLASSES, FaceParser
from videoretalking.faces.types import Crop
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.stages.blend import fade_window

_FADE = 0.08  # share of the face crop over which it runs into the frame around it, as in the final blend
_SOFTNESS = 0.05  # blur of a parsed mask's edge in eye distances


class FaceMasker:
    """Soft masks of produced faces, in their crops.

    Args:
        parser: with a parsing network, or without one: then polygons of the tracked landmarks.
        batch_size: faces in one call.
    """

    def __init__(self, parser: FaceParser, batch_size: int) -> None:
        self.parser = parser
        self.batch_size = batch_size

    def face_masks(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[AnyImage]:
        """[S, S] weights of each face with its chin, without hair, ears and neck.

        Args:
            faces: where the patches belong.
            patches: the new faces, [S, S, 3] float32 RGB in [0, 1].
        """
        if self.parser.network is None:
            return [face_polygon_mask(_points(face), face.crop.size) for face in faces]
        return self._parsed(faces, patches, FACE_CLASSES)

    def mouth_masks(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[AnyImage]:
        """[S, S] weights of each mouth with its lips; arguments as in :meth:`face_masks`."""
        if self.parser.network is None:
            return [mouth_polygon_mask(_points(face), face.crop.size) for face in faces]
        return self._parsed(faces, patches, MOUTH_CLASSES)

    def _parsed(
        self, faces: Sequence[FaceJob], patches: Sequence[AnyImage], classes: Collection[str]
    ) -> list[AnyImage]:
        crops = [enhancer_crop(face.landmarks, RESTORER_SIZE) for face in faces]
        scenes = [
            np.rint(scene(*item) * 255.0).astype(np.uint8) for item in zip(faces, patches, crops, strict=True)
        ]
        masks: list[AnyImage] = []
        for start in range(0, len(scenes), self.batch_size):
            masks += self.parser.parse(scenes[start : start + self.batch_size], classes)
        return [_to_face_crop(*item) for item in zip(faces, crops, masks, strict=True)]


def scene(face: FaceJob, patch: AnyImage, crop: Crop) -> AnyImage:
    """A view of the frame with the new face in it: [S, S, 3] float32 RGB in [0, 1] of the size of ``crop``."""
    view = crop.after(face.crop)
    weight = extract(fade_window(*face.crop.size, _FADE), view, edge=False)[..., None]
    around = extract(face.frame, crop).astype(np.float32) / 255.0
    return np.asarray(around + weight * (extract(patch, view) - around))


def _to_face_crop(face: FaceJob, crop: Crop, mask: AnyImage) -> AnyImage:
    in_crop = extract(mask, face.crop.after(crop), edge=False)
    return soften(in_crop, _SOFTNESS * eye_distance(_points(face)))


def _points(face: FaceJob) -> AnyImage:
    return face.crop.to_crop(face.landmarks)

"""Which pixels of a new face replace the frame's: the produced face is segmented (paper, section 3.4).

The paper names BiSeNet (section 3.1), the published code runs ParseNet; both work here, and without either the
masks follow the landmarks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from videoretalking.core.arrays import AnyImage
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.faces.align import enhancer_crop, extract
from videoretalking.faces.masks import eye_distance, face_polygon_mask, mouth_polygon_mask, soften
from videoretalking.faces.types import Crop
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob, to_tensor
from videoretalking.pipeline.stages.blend import fade_window

# What the published code pastes back, and what it hands to the restorer of the teeth.
MOUTH_CLASSES = ("mouth", "upper_lip", "lower_lip")
FACE_CLASSES = (
    *MOUTH_CLASSES, "skin", "nose", "glasses", "left_eye", "right_eye", "left_brow", "right_brow",
)  # fmt: skip

_FADE = 0.08  # share of the face crop over which it runs into the frame around it, as in the final blend
_SOFTNESS = 0.05  # blur of a parsed mask's edge in eye distances


class FaceMasker:
    """Soft masks of produced faces, in their crops.

    Args:
        parser: a parsing network; None draws polygons around the tracked landmarks.
    """

    def __init__(self, parser: Runner[BiSeNet | ParseNet] | None) -> None:
        self.parser = parser.using(partial(class_shares, parser.network)) if parser else None

    def face_masks(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[AnyImage]:
        """[S, S] weights of each face with its chin, without hair, ears and neck.

        Args:
            faces: where the patches belong.
            patches: the new faces, [S, S, 3] float32 RGB in [0, 1].
        """
        return self._masks(faces, patches, FACE_CLASSES, face_polygon_mask)

    def mouth_masks(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[AnyImage]:
        """[S, S] weights of each mouth with its lips; arguments as in :meth:`face_masks`."""
        return self._masks(faces, patches, MOUTH_CLASSES, mouth_polygon_mask)

    def _masks(
        self,
        faces: Sequence[FaceJob],
        patches: Sequence[AnyImage],
        classes: Sequence[str],
        draw_polygon: Callable[..., AnyImage],
    ) -> list[AnyImage]:
        if self.parser is None:
            return [draw_polygon(_points(face), face.crop.size) for face in faces]
        crops = [enhancer_crop(face.landmarks, RESTORER_SIZE) for face in faces]
        scenes = [
            np.rint(scene(*item) * 255.0).astype(np.uint8) for item in zip(faces, patches, crops, strict=True)
        ]
        masks = self.parser(to_tensor(scenes, self.parser.device), classes=classes).cpu().numpy()
        return [_to_face_crop(*item) for item in zip(faces, crops, masks, strict=True)]


def class_shares(network: BiSeNet | ParseNet, images: torch.Tensor, classes: Sequence[str]) -> torch.Tensor:
    """Probability that a pixel belongs to one of some classes: [B, 3, 512, 512] in [0, 1] -> [B, 512, 512]."""
    chosen = [network.classes.index(name) for name in sorted(classes)]
    logits = network(images).logits.float()
    return logits.softmax(dim=1)[:, chosen].sum(dim=1)


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

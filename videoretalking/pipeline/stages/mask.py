"""Which pixels of a new face replace the frame's: the produced face is segmented (paper, section 3.4).

The paper names BiSeNet (section 3.1), the published code runs ParseNet; both work here, and without either the
masks follow the landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class FaceMasks:
    """Weights of one produced face's pixels, in its crop.

    Attributes:
        face: [S, S] float32 in [0, 1], the face with its chin, without hair, ears and neck.
        mouth: [S, S] likewise, the mouth with its lips.
    """

    face: AnyImage
    mouth: AnyImage


class FaceMasker:
    """Soft masks of produced faces; one parse of a face gives both.

    Args:
        parser: a parsing network; None draws polygons around the tracked landmarks.
    """

    def __init__(self, parser: Runner[BiSeNet | ParseNet] | None) -> None:
        self.parser = parser.using(partial(class_shares, parser.network)) if parser else None

    def __call__(self, faces: Sequence[FaceJob], patches: Sequence[AnyImage]) -> list[FaceMasks]:
        """Segment.

        Args:
            faces: where the patches belong.
            patches: the new faces, [S, S, 3] float32 RGB in [0, 1].
        """
        if self.parser is None:
            return [_polygons(face) for face in faces]
        crops = [enhancer_crop(face.landmarks, RESTORER_SIZE) for face in faces]
        scenes = [
            np.rint(scene(*item) * 255.0).astype(np.uint8) for item in zip(faces, patches, crops, strict=True)
        ]
        shares = self.parser(to_tensor(scenes, self.parser.device)).cpu().numpy()
        return [
            FaceMasks(*(_to_face_crop(face, crop, share) for share in pair))
            for face, crop, pair in zip(faces, crops, shares, strict=True)
        ]


def class_shares(network: BiSeNet | ParseNet, images: torch.Tensor) -> torch.Tensor:
    """Probability that a pixel belongs to the face, and to the mouth.

    Args:
        network: BiSeNet or ParseNet.
        images: [B, 3, 512, 512] RGB in [0, 1].

    Returns:
        [B, 2, 512, 512] in [0, 1].
    """
    shares = network(images).logits.float().softmax(dim=1)
    chosen = [[network.classes.index(name) for name in group] for group in (FACE_CLASSES, MOUTH_CLASSES)]
    return torch.stack([shares[:, numbers].sum(dim=1) for numbers in chosen], dim=1)


def scene(face: FaceJob, patch: AnyImage, crop: Crop) -> AnyImage:
    """A view of the frame with the new face in it: [S, S, 3] float32 RGB in [0, 1] of the size of ``crop``."""
    view = crop.after(face.crop)
    weight = extract(fade_window(*face.crop.size, _FADE), view, edge=False)[..., None]
    around = extract(face.frame, crop).astype(np.float32) / 255.0
    return np.asarray(around + weight * (extract(patch, view) - around))


def _polygons(face: FaceJob) -> FaceMasks:
    points, size = _points(face), face.crop.size
    return FaceMasks(face_polygon_mask(points, size), mouth_polygon_mask(points, size))


def _to_face_crop(face: FaceJob, crop: Crop, mask: AnyImage) -> AnyImage:
    in_crop = extract(mask, face.crop.after(crop), edge=False)
    return soften(in_crop, _SOFTNESS * eye_distance(_points(face)))


def _points(face: FaceJob) -> AnyImage:
    return face.crop.to_crop(face.landmarks)

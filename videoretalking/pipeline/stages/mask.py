"""Which pixels of a new face replace the frame's: the produced face is segmented (paper, section 3.4).

The paper names BiSeNet (section 3.1), the published code runs ParseNet; both work here, and without either the
masks follow the landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from videoretalking.core.arrays import Floats64
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.faces.align import enhancer_crop
from videoretalking.faces.masks import (
    FACE_SOFTNESS,
    MOUTH_SOFTNESS,
    eye_distance,
    face_outline,
    mouth_outline,
)
from videoretalking.faces.types import Crop
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels, Raster
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
    """Weights of the pixels of produced faces, in their crops.

    Attributes:
        face: [N, S, S] float32 in [0, 1], the faces with their chins, without hair, ears and neck.
        mouth: [N, S, S] likewise, the mouths with their lips.
    """

    face: Pixels
    mouth: Pixels


class FaceMasker:
    """Soft masks of produced faces; one parse of a face gives both.

    Args:
        parser: a parsing network; None draws polygons around the tracked landmarks.
        raster: for the pixel work.
    """

    def __init__(self, parser: Runner[BiSeNet | ParseNet] | None, raster: Raster) -> None:
        self.raster = raster
        self.parser = parser.using(partial(class_shares, parser.network)) if parser else None

    def __call__(self, faces: Sequence[FaceJob], patches: Pixels) -> FaceMasks:
        """Segment.

        Args:
            faces: where the patches belong.
            patches: [N, S, S, 3] float32 RGB in [0, 1], the new faces.
        """
        points = [face.crop.to_crop(face.landmarks) for face in faces]
        if self.parser is None:
            return self._polygons(points, faces[0].crop.size)
        crops = [enhancer_crop(face.landmarks, RESTORER_SIZE) for face in faces]
        scenes = (scene(faces, patches, crops, self.raster) * 255.0).round() / 255.0
        shares = self.parser(self.raster.tensor(scenes))
        views = [face.crop.after(crop) for face, crop in zip(faces, crops, strict=True)]
        softness = [_SOFTNESS * eye_distance(corners) for corners in points]
        return FaceMasks(
            *(
                self.raster.soften(self.raster.view(self.raster.pixels(share), views, edge=False), softness)
                for share in shares.unbind(1)
            )
        )

    def _polygons(self, points: Sequence[Floats64], size: tuple[int, int]) -> FaceMasks:
        units = [eye_distance(corners) for corners in points]
        return FaceMasks(
            *(
                self.raster.polygons(
                    [outline(corners) for corners in points], size, [softness * unit for unit in units]
                )
                for outline, softness in ((face_outline, FACE_SOFTNESS), (mouth_outline, MOUTH_SOFTNESS))
            )
        )


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


def scene(faces: Sequence[FaceJob], patches: Pixels, crops: Sequence[Crop], raster: Raster) -> Pixels:
    """Views of frames with new faces in them: [N, S, S, 3] float32 RGB in [0, 1] of the size of the crops."""
    views = [crop.after(face.crop) for face, crop in zip(faces, crops, strict=True)]
    window = raster.constant(fade_window(*faces[0].crop.size, _FADE))
    weights = raster.view([window] * len(faces), views, edge=False)[..., None]
    around = raster.cut([face.frame for face in faces], crops)
    return around + weights * (raster.view(patches, views) - around)

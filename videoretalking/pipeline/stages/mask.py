"""Which pixels of a new face replace the frame's: the produced face is segmented (paper, section 3.4).

The paper names BiSeNet (section 3.1), the published code runs ParseNet; both work here, and without either the
masks follow the landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch

from videoretalking.core.arrays import Floats64
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.core.landmarks import STILL
from videoretalking.faces.align import enhancer_crop, fit_similarity
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

    Between two parses the masks of the last one move with the face: by the similarity that takes its eyes and its
    nose from there to here. So the jaw and the mouth in a mask are at most ``every - 1`` frames old, which its soft
    edge covers.

    Args:
        parser: a parsing network; None draws polygons around the tracked landmarks.
        raster: for the pixel work.
        every: frames between parses of a person; 1 parses every face.
    """

    def __init__(self, parser: Runner[BiSeNet | ParseNet] | None, raster: Raster, every: int = 1) -> None:
        self.raster = raster
        self.every = every
        self.parser = parser.using(partial(class_shares, parser.network)) if parser else None
        self._people: dict[tuple[int, int, int], _Parsed] = {}

    def __call__(self, faces: Sequence[FaceJob], patches: Pixels) -> FaceMasks:
        """Segment.

        Args:
            faces: where the patches belong, in the order of their time.
            patches: [N, S, S, 3] float32 RGB in [0, 1], the new faces.
        """
        points = [face.crop.to_crop(face.landmarks) for face in faces]
        size = faces[0].crop.size
        if self.parser is None:
            return self._polygons(points, size)
        known = [self._known(face, corners) for face, corners in zip(faces, points, strict=True)]
        due = [place for place, parsed in enumerate(known) if parsed.points is points[place]]
        if due:
            fresh = self._parse(
                [faces[place] for place in due], self.raster.stack([patches[place] for place in due])
            )
            for number, place in enumerate(due):
                known[place].masks = FaceMasks(fresh.face[number], fresh.mouth[number])
            if len(due) == len(faces):
                return fresh
        moves = [
            fit_similarity(parsed.points[STILL], corners[STILL])
            for parsed, corners in zip(known, points, strict=True)
        ]
        masks = [cast(FaceMasks, parsed.masks) for parsed in known]
        return FaceMasks(
            self.raster.warp(self.raster.stack([pair.face for pair in masks]), moves, size),
            self.raster.warp(self.raster.stack([pair.mouth for pair in masks]), moves, size),
        )

    def _known(self, face: FaceJob, points: Floats64) -> _Parsed:
        """The parse whose masks serve a face: an earlier one, or one of these points, which is due."""
        person = (face.track, face.stretch, face.crop.size[0])
        parsed = self._people.get(person)
        if parsed is None or parsed.uses >= self.every:
            parsed = self._people[person] = _Parsed(points)
        parsed.uses += 1
        return parsed

    def _parse(self, faces: Sequence[FaceJob], patches: Pixels) -> FaceMasks:
        assert self.parser is not None
        crops = [enhancer_crop(face.landmarks, RESTORER_SIZE) for face in faces]
        scenes = (scene(faces, patches, crops, self.raster) * 255.0).round() / 255.0
        shares = self.parser(self.raster.tensor(scenes))
        views = [face.crop.after(crop) for face, crop in zip(faces, crops, strict=True)]
        points = np.stack([face.crop.to_crop(face.landmarks) for face in faces])
        softness = (_SOFTNESS * eye_distance(points)).tolist()
        return FaceMasks(
            *(
                self.raster.soften(self.raster.view(self.raster.pixels(share), views, edge=False), softness)
                for share in shares.unbind(1)
            )
        )

    def _polygons(self, points: Sequence[Floats64], size: tuple[int, int]) -> FaceMasks:
        units = eye_distance(np.stack(points)).tolist()
        return FaceMasks(
            *(
                self.raster.polygons(
                    [outline(corners) for corners in points], size, [softness * unit for unit in units]
                )
                for outline, softness in ((face_outline, FACE_SOFTNESS), (mouth_outline, MOUTH_SOFTNESS))
            )
        )


@dataclass
class _Parsed:
    """One parse and how often it was used.

    Attributes:
        points: [68, 2] landmarks in the crop of the parsed face.
        uses: faces that it served.
        masks: [S, S] of the face and of the mouth; None until it was parsed.
    """

    points: Floats64
    uses: int = 0
    masks: FaceMasks | None = None


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
    # one by one: a list of numbers would have to go to a GPU first
    return torch.stack([sum(shares[:, number] for number in numbers) for numbers in chosen], dim=1)


def scene(faces: Sequence[FaceJob], patches: Pixels, crops: Sequence[Crop], raster: Raster) -> Pixels:
    """Views of frames with new faces in them: [N, S, S, 3] float32 RGB in [0, 1] of the size of the crops."""
    views = [crop.after(face.crop) for face, crop in zip(faces, crops, strict=True)]
    window = raster.constant(fade_window(*faces[0].crop.size, _FADE))
    weights = raster.view([window] * len(faces), views, edge=False)[..., None]
    around = raster.cut([face.frame for face in faces], crops)
    return around + weights * (raster.view(patches, views) - around)

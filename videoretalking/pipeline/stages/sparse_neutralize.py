"""Stage 1 at a lower rate: D-Net renders some frames of a person, and its face moves with the head between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import nn

from videoretalking.core.arrays import Floats64
from videoretalking.core.landmarks import STILL
from videoretalking.faces.types import Crop
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Raster
from videoretalking.pipeline.stages.neutralize import DrivingWindows, Neutralizer
from videoretalking.pipeline.stages.rest import RestingMouths

# Pixels of D-Net's 256 within a face, on the mean: a head that turned further since the frame before is rendered
# anew, half of it since two frames before, and so on.
_MOVED = 1.0


class SparseNeutralizer(Neutralizer):
    """A neutralizer of which D-Net sees a part of the frames.

    D-Net's crop follows the still points of the face, so that what it rendered for one frame lies where the face of
    the next one is; slow turns of the head come up to ``every - 1`` frames late. Everything else is done for each
    frame: colors, and which pixels of the frame stay.

    Args:
        dnet: D-Net.
        windows: as for :class:`Neutralizer`.
        raster: likewise.
        every: frames between renderings of a person; 1 renders each frame.
        rest: likewise.
    """

    def __init__(
        self,
        dnet: Runner[nn.Module],
        windows: Sequence[DrivingWindows],
        raster: Raster,
        every: int,
        rest: RestingMouths | None = None,
    ) -> None:
        super().__init__(dnet, windows, raster, rest)
        self.every = every
        self._people: dict[tuple[int, int], _Rendering] = {}

    def _render(self, faces: Sequence[FaceJob], crops: Sequence[Crop]) -> torch.Tensor:
        """What D-Net rendered last for the faces that are not due."""
        shown, due = [], []
        for place, (face, crop) in enumerate(zip(faces, crops, strict=True)):
            points = crop.to_crop(face.landmarks)[STILL]
            person = (face.track, face.stretch)
            known = self._people.get(person)
            if known is None or known.uses >= self.every or known.moved(points) > _MOVED / known.uses:
                known = self._people[person] = _Rendering(points)
                due.append(place)
            known.uses += 1
            shown.append(known)
        if due:
            images = super()._render([faces[place] for place in due], [crops[place] for place in due])
            for place, image in zip(due, images, strict=True):
                shown[place].images = image
        return torch.stack([cast(torch.Tensor, rendering.images) for rendering in shown])


@dataclass
class _Rendering:
    """What D-Net made of one frame, and how often it was used.

    Attributes:
        points: [K, 2] still points of the face in D-Net's crop.
        uses: frames that it served.
        images: [6, 256, 256], edited and warped; None until it was rendered.
    """

    points: Floats64
    uses: int = 0
    images: torch.Tensor | None = None

    def moved(self, points: Floats64) -> float:
        """How far the points are from those of the image, on the mean."""
        return float(np.linalg.norm(points - self.points, axis=1).mean())

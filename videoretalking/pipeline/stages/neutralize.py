"""Stage 1 of the paper: one canonical expression for every frame, by D-Net (section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from videoretalking.core.arrays import AnyImage, Floats32
from videoretalking.core.coefficients import (
    MOTION_EXPRESSION,
    MOTION_SCALE,
    NUM_EXPRESSION,
    TRAIN_WINDOW,
    WINDOW_BEFORE,
    crop_ratio,
    driving_window,
    motion_window,
)
from videoretalking.core.constants import DNET_SIZE
from videoretalking.faces.align import anchor_crop, extract
from videoretalking.faces.masks import mouth_polygon_mask, soften
from videoretalking.faces.reconstruct import rows_in_view
from videoretalking.faces.types import Crop, FaceTrack
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob, to_images, to_tensor
from videoretalking.pipeline.stages.blend import fade_window

_FADE = 0.08  # share of D-Net's crop over which its image runs into the original at the border
_COLOR_BLUR = 0.05  # of the crop's side: colors that vary over a longer way are those of the frame
_LEAST_SEEN = 1e-3  # keeps the mean finite where nothing is seen
_MOUTH_MARGIN = 0.2  # eye distances around the lips that are not measured


class DrivingWindows:
    """Coefficient windows of one face with the expression replaced by the template.

    D-Net sees a face in its own anchored crop, so the rows of a window are those of that view (as in training,
    where the view is fixed). Windows never cross a shot cut or a gap in the track.

    Args:
        track: the face, with its 3DMM rows.
        expression: [64] template.
        one_shot: windows for the first frame of each stretch instead of for the frame itself.
        length: frames of a window.
    """

    def __init__(
        self, track: FaceTrack, expression: Floats32, one_shot: bool, length: int = TRAIN_WINDOW
    ) -> None:
        self.track = track
        self.expression = expression
        self.one_shot = one_shot
        self.length = length
        self.spans = list(track.present_slices())
        self._starts = np.array([span.start for span in self.spans])
        self._ratios: dict[int, float] = {}

    def __call__(self, index: int, view: Crop) -> Floats32:
        """[73, length] window for frame ``index`` seen through ``view``, its anchored crop."""
        span = self._span(index)
        near = slice(max(span.start, index - WINDOW_BEFORE), min(span.stop, index + WINDOW_BEFORE + 1))
        rows = rows_in_view(self.track.rows[near], self.track.landmarks[near], view)
        if not self.one_shot:
            return driving_window(rows, index - near.start, self.expression, length=self.length)
        window = motion_window(rows, index - near.start, self.length)
        window[MOTION_SCALE] *= self._ratio(span)
        window[MOTION_EXPRESSION] = self.expression.reshape(NUM_EXPRESSION, 1)
        return window

    def _span(self, index: int) -> slice:
        return self.spans[int(np.searchsorted(self._starts, index, side="right")) - 1]

    def _ratio(self, span: slice) -> float:
        """The published correction of the crop's scale; one number for all frames of a stretch."""
        if span.start not in self._ratios:
            landmarks = self.track.landmarks[span]
            views = [anchor_crop(points, DNET_SIZE) for points in landmarks]
            rows = rows_in_view(self.track.rows[span], landmarks, views)
            self._ratios[span.start] = crop_ratio(rows, rows[0]) or 1.0
        return self._ratios[span.start]


class Neutralizer:
    """Renders references for L-Net: the face of each frame with the template's expression.

    Args:
        dnet: D-Net.
        windows: coefficient windows of each face track.
    """

    def __init__(self, dnet: Runner[nn.Module], windows: Sequence[DrivingWindows]) -> None:
        self.dnet = dnet
        self.windows = windows
        self._sources: dict[
            tuple[int, int], AnyImage
        ] = {}  # (track, first frame) -> D-Net's source in one-shot mode
        self._last: dict[tuple[int, int], AnyImage] = {}  # (track, frame) -> reference, of the call before

    def __call__(self, faces: Sequence[FaceJob], originals: Sequence[AnyImage]) -> list[AnyImage]:
        """Reference crops.

        Args:
            faces: the faces.
            originals: their crops, [S, S, 3] uint8.

        Returns:
            [S, S, 3] float32 RGB in [0, 1]: the crops with D-Net's face in them.
        """
        new = {(face.track, face.index): place for place, face in enumerate(faces)}
        for key in new.keys() & self._last.keys():
            del new[key]
        places = sorted(new.values())
        made = self._references([faces[place] for place in places], [originals[place] for place in places])
        # a still image, or a frame that is held, is rendered once
        known = self._last | {
            (faces[place].track, faces[place].index): image for place, image in zip(places, made, strict=True)
        }
        references = [known[face.track, face.index] for face in faces]
        self._last = {(face.track, face.index): image for face, image in zip(faces, references, strict=True)}
        return references

    def _references(self, faces: Sequence[FaceJob], originals: Sequence[AnyImage]) -> list[AnyImage]:
        if not faces:
            return []
        crops = [anchor_crop(face.landmarks, DNET_SIZE) for face in faces]
        sources = [self._source(face, crop) for face, crop in zip(faces, crops, strict=True)]
        windows = np.stack(
            [self.windows[face.track](face.index, crop) for face, crop in zip(faces, crops, strict=True)]
        )
        edited = self.dnet(to_tensor(sources, self.dnet.device), torch.from_numpy(windows))
        images = to_images(edited.clamp(0.0, 1.0))
        return [
            _insert(image, crop, face, original)
            for image, crop, face, original in zip(images, crops, faces, originals, strict=True)
        ]

    def _source(self, face: FaceJob, crop: Crop) -> AnyImage:
        """The image to warp: the frame's own face, or in one-shot mode the first of its stretch."""
        if not self.windows[face.track].one_shot:
            return extract(face.frame, crop)
        key = (face.track, face.stretch)
        if key not in self._sources:
            self._sources[key] = extract(face.frame, crop)
        return self._sources[key]


def _insert(image: AnyImage, source: Crop, face: FaceJob, original: AnyImage) -> AnyImage:
    """Put D-Net's image into L-Net's crop of the same frame, in the frame's colors, faded at its border.

    Differs from paper: the colors of D-Net's face drift from those of the frame, and the two would meet at the
    border of what L-Net paints. Colors that vary slowly are those of the frame, measured without the mouth, which
    must not leak.
    """
    target = face.crop
    view = target.after(source)
    weight = extract(fade_window(*source.size, _FADE), view, edge=False)
    frame = original.astype(np.float32) / 255.0
    inserted = extract(image, view)
    blur = _COLOR_BLUR * max(target.size)
    seen = weight * (
        1.0 - mouth_polygon_mask(target.to_crop(face.landmarks), target.size, grow=_MOUTH_MARGIN)
    )
    drift = soften(seen[..., None] * (frame - inserted), blur) / (soften(seen, blur)[..., None] + _LEAST_SEEN)
    inserted = np.clip(inserted + drift, 0.0, 1.0)
    return weight[..., None] * inserted + (1.0 - weight[..., None]) * frame

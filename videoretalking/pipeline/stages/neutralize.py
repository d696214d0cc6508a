"""Stage 1 of the paper: one canonical expression for every frame, by D-Net (section 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from videoretalking.core.arrays import Floats32
from videoretalking.core.coefficients import (
    MOTION_EXPRESSION,
    MOTION_SCALE,
    NUM_EXPRESSION,
    NUM_MOTION,
    TRAIN_WINDOW,
    WINDOW_BEFORE,
    crop_ratio,
    driving_expression,
    driving_window,
    motion_window,
)
from videoretalking.core.constants import DNET_SIZE
from videoretalking.faces.align import anchor_crop
from videoretalking.faces.reconstruct import rows_in_view
from videoretalking.faces.types import Crop, FaceTrack
from videoretalking.pipeline.engine import Runner
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels, Raster
from videoretalking.pipeline.stages.blend import fade_window
from videoretalking.pipeline.stages.detail import (
    MOUTH_MARGIN,
    REDUCTION,
    keep_detail,
    likeness,
    lips_mask,
    slow_colors,
)
from videoretalking.pipeline.stages.rest import RestingMouths

_FADE = 0.08  # share of D-Net's crop over which its image runs into the original at the border
_TRIED = 2  # faces by which D-Net's number format is chosen
_LIPS_MARGIN = 0.3  # eye distances around the lips within which nothing of the frame is kept
# Pixels of a picture -> pixels of the reduced one.
_REDUCED = np.array([[1.0, 0.0, 0.5 - REDUCTION / 2], [0.0, 1.0, 0.5 - REDUCTION / 2]]) / REDUCTION


class DrivingWindows:
    """Coefficient windows of one face with the expression replaced by the template.

    D-Net sees a face in its own anchored crop, so the rows of a window are those of that view (as in training,
    where the view is fixed). Windows never cross a shot cut or a gap in the track.

    Args:
        track: the face, with its 3DMM rows.
        expression: [64] template.
        one_shot: windows for the first frame of each stretch instead of for the frame itself.
        length: frames of a window.
        overshoot: how far beyond the template this D-Net is to be driven (:class:`models.dnet.DNetConfig`).
    """

    def __init__(
        self,
        track: FaceTrack,
        expression: Floats32,
        one_shot: bool,
        length: int = TRAIN_WINDOW,
        overshoot: float = 0.0,
    ) -> None:
        self.track = track
        self.expression = expression
        self.one_shot = one_shot
        self.length = length
        self.overshoot = overshoot
        self.spans = list(track.present_slices())
        self._starts = np.array([span.start for span in self.spans])
        self._ratios: dict[int, float] = {}

    def __call__(self, indices: Sequence[int], views: Sequence[Crop]) -> Floats32:
        """[N, 73, length] windows for N frames, each seen through a view, its anchored crop."""
        spans = [self._span(index) for index in indices]
        near = [
            np.arange(max(span.start, index - WINDOW_BEFORE), min(span.stop, index + WINDOW_BEFORE + 1))
            for index, span in zip(indices, spans, strict=True)
        ]
        each = [view for view, frames in zip(views, near, strict=True) for _ in frames]
        frames = np.concatenate(near)
        rows = rows_in_view(self.track.rows[frames], self.track.landmarks[frames], each)
        ends = np.cumsum([len(frames) for frames in near])
        return np.stack(
            [
                self._window(own, index - int(frames[0]), span)
                for own, index, frames, span in zip(
                    np.split(rows, ends[:-1]), indices, near, spans, strict=True
                )
            ]
        )

    def _window(self, rows: Floats32, place: int, span: slice) -> Floats32:
        """[73, length] the window around row ``place`` of those near it in a stretch."""
        if not self.one_shot:
            return driving_window(rows, place, self.expression, length=self.length, overshoot=self.overshoot)
        window = motion_window(rows, place, self.length)
        window[MOTION_SCALE] *= self._ratio(span)
        first = self.track.rows[span.start]  # the expression is the same in every view
        wanted = driving_expression(self.expression, first, self.overshoot)
        window[MOTION_EXPRESSION] = wanted.reshape(NUM_EXPRESSION, 1)
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
        raster: for the pixel work.
        rest: what puts resting mouths into the faces first; None leaves them, as the paper does.
    """

    def __init__(
        self,
        dnet: Runner[nn.Module],
        windows: Sequence[DrivingWindows],
        raster: Raster,
        rest: RestingMouths | None = None,
    ) -> None:
        self.dnet = dnet
        self._both = dnet.using(_both_images(dnet.network))
        self.windows = windows
        self.raster, self.rest = raster, rest
        # (track, first frame) -> D-Net's source in one-shot mode
        self._sources: dict[tuple[int, int], Pixels] = {}
        # (track, frame, size) -> reference, of the call before
        self._last: dict[tuple[int, int, int], Pixels] = {}

    def __call__(self, faces: Sequence[FaceJob], originals: Pixels) -> Pixels:
        """Reference crops.

        Args:
            faces: the faces.
            originals: [N, S, S, 3] float32 in [0, 1], their crops.

        Returns:
            [N, S, S, 3] float32 RGB in [0, 1]: the crops with D-Net's face in them.
        """
        keys = [(face.track, face.index, face.crop.size[0]) for face in faces]
        new = {key: place for place, key in enumerate(keys)}
        for key in new.keys() & self._last.keys():
            del new[key]
        places = sorted(new.values())
        made = self._references([faces[place] for place in places], [originals[place] for place in places])
        # a still image, or a frame that is held, is rendered once
        known = self._last | {keys[place]: image for place, image in zip(places, made, strict=True)}
        references = [known[key] for key in keys]
        self._last = dict(zip(keys, references, strict=True))
        return self.raster.stack(references)

    def _references(self, faces: Sequence[FaceJob], originals: Sequence[Pixels]) -> Sequence[Pixels]:
        if not faces:
            return []
        crops = [anchor_crop(face.landmarks, DNET_SIZE) for face in faces]
        edited, warped = self._render(faces, crops).split(3, dim=1)
        images = keep_detail(
            self.raster,
            self.raster.pixels(edited),
            self.raster.pixels(warped),
            [crop.to_crop(face.landmarks) for face, crop in zip(faces, crops, strict=True)],
        )
        return insert_renderings(
            self.raster,
            images,
            crops,
            [face.crop for face in faces],
            [face.landmarks for face in faces],
            self.raster.stack(originals),
        )

    def _render(self, faces: Sequence[FaceJob], crops: Sequence[Crop]) -> torch.Tensor:
        """[N, 6, 256, 256] in [0, 1]: D-Net's edited and warped image of each face in its crop."""
        found = np.zeros((len(faces), NUM_MOTION, self.windows[0].length), dtype=np.float32)
        for number, track_windows in enumerate(self.windows):
            own = [place for place, face in enumerate(faces) if face.track == number]
            if own:
                found[own] = track_windows(
                    [faces[place].index for place in own], [crops[place] for place in own]
                )
        windows = torch.from_numpy(found)
        cut = self._cut_sources(faces, crops)
        if self.rest is not None:
            cut = self.rest(faces, [item.track for item in self.windows], crops, cut)
        sources = self.raster.tensor(cut)
        self.dnet.settle(sources[:_TRIED], windows[:_TRIED])
        return self._both(sources, windows).clamp(0.0, 1.0)

    def _cut_sources(self, faces: Sequence[FaceJob], crops: Sequence[Crop]) -> Pixels:
        """The images to warp: each frame's own face, or in one-shot mode the first of its stretch."""
        if not any(windows.one_shot for windows in self.windows):
            return self.raster.cut([face.frame for face in faces], crops)
        for face, crop in zip(faces, crops, strict=True):
            key = (face.track, face.stretch)
            if key not in self._sources:
                self._sources[key] = self.raster.cut([face.frame], [crop])[0]
        return self.raster.stack([self._sources[face.track, face.stretch] for face in faces])


def _both_images(network: nn.Module) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """D-Net as a function with one output [N, 6, 256, 256]: the edited image, and the warped one."""

    def run(images: torch.Tensor, coefficients: torch.Tensor) -> torch.Tensor:
        rendered = network(images, coefficients)
        return torch.cat([rendered.image, rendered.warped.to(rendered.image.dtype)], dim=1)

    return run


def insert_renderings(
    raster: Raster,
    images: Pixels,
    sources: Sequence[Crop],
    crops: Sequence[Crop],
    landmarks: Sequence[Floats32],
    originals: Pixels,
) -> Pixels:
    """Put D-Net's images into other crops of the same frames, in the frames' colors, faded at the border.

    Differs from paper: the colors of D-Net's face drift from those of the frame, and the two would meet at the
    border of what L-Net paints. Colors that vary slowly are those of the frame, measured without the mouth, which
    must not leak. And D-Net's picture is softer than the frame: outside of the lips, where both show the same, the
    frame stays.

    Args:
        raster: for the pixel work.
        images: [N, D, D, 3] float32 in [0, 1] that D-Net rendered.
        sources: its N crops.
        crops: the N other crops, squares of one size S.
        landmarks: N times [68, 2] pixels of the frame.
        originals: [N, S, S, 3] float32 in [0, 1], the frames in the other crops.

    Returns:
        [N, S, S, 3] float32 RGB in [0, 1].
    """
    views = [crop.after(source) for crop, source in zip(crops, sources, strict=True)]
    difference = originals - raster.view(images, views, cubic=True)
    reduced = raster.shrink(difference, REDUCTION)
    side = reduced.shape[1]
    window = raster.constant(fade_window(*sources[0].size, _FADE))
    small = [view.then(_REDUCED, (side, side)) for view in views]
    weights = raster.view([window] * len(crops), small, edge=False)
    points = [crop.to_crop(lips) for crop, lips in zip(crops, landmarks, strict=True)]
    drift = slow_colors(raster, reduced, weights * (1.0 - lips_mask(raster, points, side, MOUTH_MARGIN)))
    kept = likeness(raster, reduced - drift) * (1.0 - lips_mask(raster, points, side, _LIPS_MARGIN))
    shown = raster.stack([weights * (1.0 - kept)] * 3, axis=3)
    difference *= raster.enlarge(shown, REDUCTION)
    difference -= raster.enlarge(shown * drift, REDUCTION)
    return (originals - difference).clip(0.0, 1.0)

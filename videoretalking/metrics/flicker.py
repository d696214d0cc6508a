"""Temporal flicker: how far the edited face jumps between frames beyond the motion of the source.

Lai et al. (2018) measure temporal consistency by the error after warping each frame onto its neighbor. Here the
motion is taken from the source video and the region that speech itself moves (mouth and chin) is left out, so
that lip movement does not count as flicker. Lower is steadier.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Image8
from videoretalking.core.landmarks import CHIN_LINE, OUTER_LIPS
from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.masks import polygon_mask
from videoretalking.faces.types import Crop, Face
from videoretalking.metrics.base import Chunk, Clip, Metric, luma

SIZE = 160  # pixels: the face is measured at this size, whatever the video's
BOX_MARGIN = 0.1  # of the face's longer side
SPEECH_POINTS = np.r_[CHIN_LINE, OUTER_LIPS]
SPEECH_MARGIN = 0.06  # of SIZE
MAX_ROUND_TRIP = 1.0  # pixels; flows that disagree more are occlusions and not counted


def warp_error(
    before: Image8, after: Image8, flow: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> float:
    """Mean absolute difference in 8-bit levels of ``before`` and ``after`` warped back along ``flow``.

    Args:
        before: [H, W] uint8 frame t.
        after: [H, W] uint8 frame t + 1.
        flow: [H, W, 2] pixels from t to t + 1.
        valid: [H, W] pixels that count; NaN is returned if there are none.
    """
    if not valid.any():
        return float("nan")
    return float(np.abs(_sample_along(after.astype(np.float32), flow) - before)[valid].mean())


def _sample_along(image: npt.NDArray[np.float32], flow: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``image`` at every pixel moved by ``flow``."""
    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    moved = cv2.remap(
        image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.float32)


def optical_flow(before: Image8, after: Image8) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Dense flow from ``before`` to ``after`` and where it agrees with the flow back.

    Returns:
        [H, W, 2] float32 pixels and [H, W] bool.
    """
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    start = np.zeros((*before.shape, 2), dtype=np.float32)
    forward = np.asarray(estimator.calc(before, after, start.copy()), dtype=np.float32)
    backward = np.asarray(estimator.calc(after, before, start.copy()), dtype=np.float32)
    returned = _sample_along(backward, forward)
    return forward, np.linalg.norm(forward + returned, axis=-1) < MAX_ROUND_TRIP


class Flicker(Metric):
    """Warp error of the generated and of the source face, and what the method adds to it."""

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._last: tuple[Image8, Image8, Face] | None = None
        self._generated: list[float] = []
        self._source: list[float] = []

    def update(self, chunk: Chunk) -> None:
        """Compare every frame with the one before it."""
        if chunk.source is None:
            return
        images = zip(chunk.generated, chunk.source, chunk.source_faces, strict=True)
        for generated, source, face in images:
            if face is None or face.landmarks is None:
                self._last = None
                continue
            current = (luma(generated), luma(source), face)
            if self._last is not None:
                self._compare(self._last, current)
            self._last = current

    def _compare(self, before: tuple[Image8, Image8, Face], after: tuple[Image8, Image8, Face]) -> None:
        """Measure in the view of the earlier frame's face."""
        view = _view(before[2])
        crops = [extract(image, view) for image in (before[0], after[0], before[1], after[1])]
        flow, reliable = optical_flow(crops[2], crops[3])
        valid = reliable & ~_speech_region(before[2], view) & ~_speech_region(after[2], view)
        if valid.any():
            self._generated.append(warp_error(crops[0], crops[1], flow, valid))
            self._source.append(warp_error(crops[2], crops[3], flow, valid))

    def compute(self) -> dict[str, float]:
        """``flicker`` of the result and ``flicker_added`` (less that of the source), 8-bit levels."""
        if not self._generated:
            return {}
        generated, source = float(np.mean(self._generated)), float(np.mean(self._source))
        return {"flicker": generated, "flicker_added": generated - source}


def _view(face: Face) -> Crop:
    """Square crop around the face."""
    x1, y1, x2, y2 = face.box.astype(np.float64)
    half = max(x2 - x1, y2 - y1, 1.0) * (0.5 + BOX_MARGIN)
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return box_crop([x - half, y - half, x + half, y + half], (SIZE, SIZE))


def _speech_region(face: Face, view: Crop) -> npt.NDArray[np.bool_]:
    """[SIZE, SIZE] bool, mouth and chin."""
    assert face.landmarks is not None
    outline = cv2.convexHull(view.to_crop(face.landmarks[SPEECH_POINTS]).astype(np.float32))[:, 0]
    mask = (polygon_mask(outline, view.size) > 0).astype(np.uint8)
    reach = 2 * round(SPEECH_MARGIN * SIZE) + 1
    return cv2.dilate(mask, np.ones((reach, reach), dtype=np.uint8)) > 0

"""Visibility of the seam around the edited region. Lower is better; 0 where nothing was edited.

A pasted region shows when the change that it makes to the picture starts abruptly. So the change, generated minus
source, is differentiated, and its slope is averaged along the border of the region that changed: a hard edge of
A levels scores about A / 2 levels a pixel, a feather of n pixels A / n.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.faces.types import Face
from videoretalking.metrics.base import Chunk, Clip, Metric, luma

CHANGE_LEVELS = 3.0  # 8-bit levels: smoothed changes above this are edits, below it coding noise
SMOOTHING = 5  # pixels, box filter against coding noise
MIN_AREA = 16  # pixels; smaller specks of change are ignored
REACH = 0.6  # how far around the face box edits are looked for, in box sizes


def seam_visibility(generated: npt.NDArray[np.uint8], source: npt.NDArray[np.uint8]) -> float:
    """Mean slope of the change along the border of the edited region, in 8-bit levels a pixel.

    Args:
        generated: [H, W] uint8 luma.
        source: [H, W] uint8 luma of the frame before the edit.
    """
    change = generated.astype(np.float32) - source
    edited = cv2.blur(np.abs(change), (SMOOTHING, SMOOTHING)) > CHANGE_LEVELS
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(edited.astype(np.uint8), connectivity=8)
    large = statistics[:, cv2.CC_STAT_AREA] >= MIN_AREA
    large[0] = False
    if count < 2 or not large.any():
        return 0.0
    contours, _ = cv2.findContours(large[labels].astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    outline = np.zeros(edited.shape, dtype=np.uint8)
    cv2.drawContours(outline, contours, -1, 1, thickness=1)
    slope_x = cv2.Sobel(change, cv2.CV_32F, 1, 0, ksize=3) / 8.0
    slope_y = cv2.Sobel(change, cv2.CV_32F, 0, 1, ksize=3) / 8.0
    slope = np.hypot(slope_x, slope_y)
    # The smoothed region reaches a few pixels past the true border: take the steepest place near it.
    steepest = cv2.dilate(slope, np.ones((SMOOTHING, SMOOTHING), dtype=np.uint8))
    inside = outline.astype(bool)
    inside[[0, -1]] = inside[:, [0, -1]] = False  # where the region meets the picture's edge there is no seam
    return float(steepest[inside].mean()) if inside.any() else 0.0


class Seam(Metric):
    """Mean seam visibility of the edited faces of a video."""

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._values: list[float] = []

    def update(self, chunk: Chunk) -> None:
        """Measure around the face of every frame."""
        if chunk.source is None:
            return
        images = zip(chunk.generated, chunk.source, chunk.source_faces, strict=True)
        for generated, source, face in images:
            if face is not None:
                around = _surroundings(face, generated.shape[0], generated.shape[1])
                self._values.append(seam_visibility(luma(generated[around]), luma(source[around])))

    def compute(self) -> dict[str, float]:
        """``seam``: mean over frames with a face, 8-bit levels a pixel."""
        return {"seam": float(np.mean(self._values))} if self._values else {}


def _surroundings(face: Face, height: int, width: int) -> tuple[slice, slice]:
    x1, y1, x2, y2 = face.box.astype(np.float64)
    margin_x, margin_y = REACH * (x2 - x1), REACH * (y2 - y1)
    rows = slice(max(0, int(y1 - margin_y)), min(height, int(y2 + margin_y) + 1))
    return rows, slice(max(0, int(x1 - margin_x)), min(width, int(x2 + margin_x) + 1))

"""What a dubbed frame looks like beside its source: detail and colors of the mouth, colors of the cheeks, the seam.

All of them compare a frame with the frame that it was made from, so none needs another network than the one that
finds landmarks.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.landmarks import (
    INNER_LIPS,
    LEFT_EYE,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
    OUTER_LIPS,
    RIGHT_EYE,
)
from videoretalking.core.quality import detail
from videoretalking.faces.masks import eye_distance, polygon_mask
from videoretalking.metrics.base import luma

EDGES = ("left", "right", "lower")  # of the lower half of the crop, where a seam can be
_MOUTH_MARGIN = 0.15  # of the eye distance, around the lips
_CHEEK_RADIUS = 0.14  # of the eye distance
_CHEEK_OUTWARDS = 0.1  # of the eye distance, from the middle between eye and corner of the mouth
_LEAST_MOUTH = 6  # pixels: a smaller mouth has no detail to speak of
_SEAM_BAND = 3  # pixels on both sides of the edge
_LEAST_SLOPE = 0.25  # levels a pixel: a flat background has no slope that a ratio could be taken of


def eye_span(landmarks: Floats32) -> float:
    """Distance of the outer eye corners in pixels."""
    left, right = OUTER_EYE_CORNERS
    return float(np.linalg.norm(landmarks[left] - landmarks[right]))


def mouth_detail(frame: Image8, landmarks: Floats32) -> float | None:
    """Fine detail of the mouth in levels (:func:`core.quality.detail`), at the frame's own size.

    Args:
        frame: uint8 [H, W, 3].
        landmarks: [68, 2] that say where the mouth is.

    Returns:
        The detail of the brightness; None where the mouth is too small or outside of the frame.
    """
    lips = landmarks[OUTER_LIPS]
    margin = _MOUTH_MARGIN * eye_distance(landmarks)
    x1, y1 = np.maximum(np.floor(lips.min(axis=0) - margin), 0).astype(int)
    x2, y2 = np.ceil(lips.max(axis=0) + margin).astype(int) + 1
    mouth = luma(frame[y1:y2, x1:x2]).astype(np.float32)
    if min(mouth.shape) < _LEAST_MOUTH:
        return None
    return float(detail(torch.from_numpy(mouth)[None, None])[0])


def lip_color(frame: Image8, landmarks: Floats32) -> Floats32 | None:
    """Mean a, b of the red of the lips, without what is inside of the mouth; see :func:`mean_color`."""
    size = (frame.shape[1], frame.shape[0])
    mask = polygon_mask(landmarks[OUTER_LIPS], size) - polygon_mask(landmarks[INNER_LIPS], size)
    return mean_color(frame, np.clip(mask, 0.0, 1.0))


def cheek_color(frame: Image8, landmarks: Floats32) -> Floats32 | None:
    """Mean a, b of both cheeks, below the eyes and beside the mouth; see :func:`mean_color`."""
    unit = float(eye_distance(landmarks))
    mask = np.zeros(frame.shape[:2], np.float32)
    across = landmarks[RIGHT_EYE].mean(axis=0) - landmarks[LEFT_EYE].mean(axis=0)
    across = across / max(float(np.linalg.norm(across)), 1e-6)
    for eye, corner, side in zip((LEFT_EYE, RIGHT_EYE), MOUTH_CORNERS, (-1.0, 1.0), strict=True):
        middle = (landmarks[eye].mean(axis=0) + landmarks[corner]) / 2
        x, y = np.rint(middle + side * _CHEEK_OUTWARDS * unit * across).astype(int).tolist()
        cv2.circle(mask, (x, y), max(1, round(_CHEEK_RADIUS * unit)), 1.0, -1)
    return mean_color(frame, mask)


def mean_color(frame: Image8, mask: npt.NDArray[np.float32]) -> Floats32 | None:
    """Mean color of a part of a frame.

    Args:
        frame: uint8 [H, W, 3] RGB.
        mask: [H, W] weights.

    Returns:
        [2] a and b of CIELAB; None where the mask is empty.
    """
    if mask.sum() < 1.0:
        return None
    lab = cv2.cvtColor(frame.astype(np.float32) / 255.0, cv2.COLOR_RGB2LAB)
    weighted = (lab[..., 1:] * mask[..., None]).sum(axis=(0, 1)) / mask.sum()
    return np.asarray(weighted, np.float32)


def color_error(color: Floats32 | None, source: Floats32 | None) -> float | None:
    """Distance of two colors in the plane of a and b; None where one is not known."""
    return None if color is None or source is None else float(np.linalg.norm(color - source))


def edge_slope(frame: Image8, box: npt.ArrayLike, edges: Sequence[str] = EDGES) -> float | None:
    """How steep a frame is across the border of what is painted, along edges of the crop's lower half.

    Args:
        frame: uint8 [H, W, 3].
        box: [4] x1, y1, x2, y2 of L-Net's crop.
        edges: some of :data:`EDGES`.

    Returns:
        Mean of the absolute slope across the edges, in levels a pixel, over a band around them; None where they are
        outside of the frame.
    """
    levels = luma(frame).astype(np.float32)
    height, width = levels.shape
    x1, y1, x2, y2 = np.rint(np.asarray(box, np.float64)).astype(int).tolist()
    rows, columns = slice(max(0, (y1 + y2) // 2), max(0, y2)), slice(max(0, x1), max(0, x2))
    places = {"left": x1, "right": x2}
    slopes = []
    for offset in range(-_SEAM_BAND, _SEAM_BAND + 1):
        for x in (places[edge] + offset for edge in edges if edge in places):
            if 1 <= x < width - 1:
                slopes.append(np.abs(levels[rows, x + 1] - levels[rows, x - 1]) / 2)
        y = y2 + offset
        if "lower" in edges and 1 <= y < height - 1:
            slopes.append(np.abs(levels[y + 1, columns] - levels[y - 1, columns]) / 2)
    values = np.concatenate(slopes) if slopes else np.empty(0)
    return float(values.mean()) if len(values) else None


def seam_ratio(
    frame: Image8, source: Image8, box: npt.ArrayLike, edges: Sequence[str] = EDGES
) -> float | None:
    """:func:`edge_slope` of a dubbed frame over that of its source: 1 where no seam was added."""
    new, old = edge_slope(frame, box, edges), edge_slope(source, box, edges)
    if new is None or old is None:
        return None
    return max(new, _LEAST_SLOPE) / max(old, _LEAST_SLOPE)

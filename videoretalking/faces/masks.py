"""Soft masks that say which pixels of a face are replaced.

Masks are float32 [H, W] in [0, 1]; polygons come from the 68 landmarks.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64, Mask
from videoretalking.core.landmarks import BROWS, CHIN, JAW, LEFT_EYE, NOSE, OUTER_LIPS, RIGHT_EYE

_SUBPIXEL_BITS = 4
FACE_SOFTNESS = 0.08  # blur of the edge of the face's polygon in eye distances
MOUTH_SOFTNESS = 0.05  # of the mouth's


def polygon_mask(polygon: npt.ArrayLike, size: tuple[int, int], softness: float = 0.0) -> Mask:
    """Filled polygon with a soft edge.

    Args:
        polygon: [K, 2] pixels of the crop.
        size: (width, height).
        softness: standard deviation of the edge's blur in pixels; 0 keeps it hard.
    """
    return soften(draw_polygon(polygon, size).astype(np.float32) / 255.0, softness)


def draw_polygon(polygon: npt.ArrayLike, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """[height, width] uint8, 255 inside a polygon of [K, 2] pixels, less on its border pixels."""
    points = np.round(np.asarray(polygon, dtype=np.float64) * 2**_SUBPIXEL_BITS).astype(np.int32)
    mask = np.zeros(size[::-1], dtype=np.uint8)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return mask


def soften(mask: Mask, softness: float) -> Mask:
    """Blur a mask's edge; ``softness`` is the standard deviation in pixels, 0 leaves the mask as it is."""
    if softness <= 0.0:
        return mask
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), softness, borderType=cv2.BORDER_REPLICATE))


def eye_distance(landmarks: npt.ArrayLike) -> float:
    """Distance of the eye centers in pixels, but at least half that from the eyes to the chin."""
    points = np.asarray(landmarks, dtype=np.float64)
    left, right = points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0)
    height = np.linalg.norm(points[CHIN] - (left + right) / 2)
    return float(max(np.linalg.norm(right - left), height / 2))


def face_polygon_mask(
    landmarks: npt.ArrayLike, size: tuple[int, int], softness: float = FACE_SOFTNESS, grow: float = 0.04
) -> Mask:
    """The face below the brows, chin included, with a soft edge.

    Args:
        landmarks: [68, 2] pixels of the crop.
        size: (width, height) of the crop.
        softness: blur of the edge in eye distances.
        grow: how far the jaw line is pushed outwards, in eye distances, so that a chin that opens further
            than the original stays inside.
    """
    return polygon_mask(face_outline(landmarks, grow), size, softness * eye_distance(landmarks))


def face_outline(landmarks: npt.ArrayLike, grow: float = 0.04) -> Floats64:
    """[K, 2] outline of the face below the brows; arguments as in :func:`face_polygon_mask`."""
    points = np.asarray(landmarks, dtype=np.float64)
    outline = np.concatenate([points[JAW], points[BROWS][::-1]])
    center = points[NOSE].mean(axis=0)
    outward = outline - center
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    outline[JAW] += outward[JAW] * eye_distance(points) * grow
    return outline


def mouth_polygon_mask(
    landmarks: npt.ArrayLike, size: tuple[int, int], softness: float = MOUTH_SOFTNESS, grow: float = 0.06
) -> Mask:
    """The mouth with its lips and a soft edge; arguments as in :func:`face_polygon_mask`."""
    return polygon_mask(mouth_outline(landmarks, grow), size, softness * eye_distance(landmarks))


def mouth_outline(landmarks: npt.ArrayLike, grow: float = 0.06) -> Floats64:
    """[K, 2] outline of the lips; arguments as in :func:`face_polygon_mask`."""
    points = np.asarray(landmarks, dtype=np.float64)
    lips = points[OUTER_LIPS]
    outward = lips - lips.mean(axis=0)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    return np.asarray(lips + outward * eye_distance(points) * grow, dtype=np.float64)

"""Soft masks that say which pixels of a face are replaced.

Masks are float32 [H, W] in [0, 1]. Polygons come from the 68 landmarks; the ``*_published`` functions are
those of the published inference program, which works on parsing maps.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Mask
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.core.landmarks import BROWS, CHIN, JAW, LEFT_EYE, NOSE, OUTER_LIPS, RIGHT_EYE

_SUBPIXEL_BITS = 4
_FEATHER_BORDER = 20  # pixels of a 512 x 512 mask
_FEATHER_TAPS, _FEATHER_SIGMA = 101, 11.0
_DROPPED_ROWS = 5  # lowest rows of the detection box


def polygon_mask(polygon: npt.ArrayLike, size: tuple[int, int], softness: float = 0.0) -> Mask:
    """Filled polygon with a soft edge.

    Args:
        polygon: [K, 2] pixels of the crop.
        size: (width, height).
        softness: standard deviation of the edge's blur in pixels; 0 keeps it hard.
    """
    points = np.round(np.asarray(polygon, dtype=np.float64) * 2**_SUBPIXEL_BITS).astype(np.int32)
    mask = np.zeros(size[::-1], dtype=np.uint8)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=_SUBPIXEL_BITS)
    return soften(mask.astype(np.float32) / 255.0, softness)


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
    landmarks: npt.ArrayLike, size: tuple[int, int], softness: float = 0.08, grow: float = 0.04
) -> Mask:
    """The face below the brows, chin included, with a soft edge.

    Args:
        landmarks: [68, 2] pixels of the crop.
        size: (width, height) of the crop.
        softness: blur of the edge in eye distances.
        grow: how far the jaw line is pushed outwards, in eye distances, so that a chin that opens further
            than the original stays inside.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    unit = eye_distance(points)
    outline = np.concatenate([points[JAW], points[BROWS][::-1]])
    center = points[NOSE].mean(axis=0)
    outward = outline - center
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    outline[JAW] += outward[JAW] * unit * grow
    return polygon_mask(outline, size, softness * unit)


def mouth_polygon_mask(
    landmarks: npt.ArrayLike, size: tuple[int, int], softness: float = 0.05, grow: float = 0.06
) -> Mask:
    """The mouth with its lips and a soft edge; arguments as in :func:`face_polygon_mask`."""
    points = np.asarray(landmarks, dtype=np.float64)
    unit = eye_distance(points)
    lips = points[OUTER_LIPS]
    outward = lips - lips.mean(axis=0)
    outward /= np.maximum(np.linalg.norm(outward, axis=1, keepdims=True), 1e-6)
    return polygon_mask(lips + outward * unit * grow, size, softness * unit)


# -------------------------------------------------------------------------------- as published


def feather_published(mask: Mask) -> Mask:
    """Soft edge of the published blending: clear a 20-pixel frame, then blur twice.

    Args:
        mask: [512, 512] float32; the frame is cleared **in place**, as published.
    """
    border = _FEATHER_BORDER
    mask[:border] = 0
    mask[-border:] = 0
    mask[:, :border] = 0
    mask[:, -border:] = 0
    soft = mask
    for _ in range(2):
        soft = np.asarray(cv2.GaussianBlur(soft, (_FEATHER_TAPS, _FEATHER_TAPS), _FEATHER_SIGMA))
    return soft


def mouth_mask_published(
    parsed: npt.NDArray[np.uint8], box: tuple[int, int, int, int], frame_size: tuple[int, int]
) -> tuple[npt.NDArray[np.uint8], Mask]:
    """Mouth mask of a whole frame, and its 512 x 512 version that blends.

    The soft rim is lost on the way: values below a full 1 are stored as 0.

    Args:
        parsed: [S, S] uint8, 255 where the parser sees mouth or lips.
        box: y1, y2, x1, x2 of the face.
        frame_size: (width, height).
    """
    y1, y2, x1, x2 = box
    frame_mask = np.zeros(frame_size[::-1], dtype=np.uint8)
    resized = np.asarray(cv2.resize(parsed, (x2 - x1, y2 - y1)))
    frame_mask[y1:y2, x1:x2] = (resized / 255.0).astype(np.uint8)
    return frame_mask, _resize_mask(frame_mask)


def face_mask_published(
    mask: npt.NDArray[np.float64], box: tuple[int, int, int, int]
) -> npt.NDArray[np.float64]:
    """Face mask of the published paste-back, 512 x 512.

    Args:
        mask: [H, W] float64 of the whole frame.
        box: y1, y2, x1, x2 of the face; its lowest five rows are dropped.
    """
    y1, y2, x1, x2 = box
    blurred = cv2.GaussianBlur(mask, (0, 0), sigmaX=1, sigmaY=1, borderType=cv2.BORDER_DEFAULT)
    kept = np.zeros_like(mask)
    kept[y1 : y2 - _DROPPED_ROWS, x1:x2] = blurred[y1 : y2 - _DROPPED_ROWS, x1:x2]
    return np.asarray(cv2.resize(kept, (RESTORER_SIZE, RESTORER_SIZE)))


def _resize_mask(mask: npt.NDArray[np.uint8]) -> Mask:
    return np.asarray(cv2.resize(mask.astype(np.float32), (RESTORER_SIZE, RESTORER_SIZE)))

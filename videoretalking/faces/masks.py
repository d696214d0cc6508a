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
_SMALLEST_BLUR = 3.0  # pixels of the reduced image that a wide blur is computed on
_REACH = 3.0  # standard deviations


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
    """Blur a mask's edge, or an image.

    A wide blur is computed on a reduced image, which takes a tenth of the time and is 70 dB from the exact one.

    Args:
        mask: [H, W] or [H, W, C] float32.
        softness: standard deviation in pixels; 0 leaves the mask as it is.
    """
    if softness <= 0.0:
        return mask
    factor = int(softness / _SMALLEST_BLUR)
    if factor < 2:
        return _blur(mask, softness)
    height, width = mask.shape[:2]
    border = (
        -(-round(_REACH * softness) // factor) * factor
    )  # as the exact blur, which repeats the last pixel
    down, right = border + -height % factor, border + -width % factor
    wider = cv2.copyMakeBorder(mask, border, down, border, right, cv2.BORDER_REPLICATE)
    size = wider.shape[1], wider.shape[0]
    reduced = size[0] // factor, size[1] // factor
    small = np.asarray(cv2.resize(wider, reduced, interpolation=cv2.INTER_AREA), dtype=np.float32)
    # the mean over a square blurs too, and so does the straight line between two pixels on the way back
    variance = softness**2 - (factor**2 - 1) / 12 - factor**2 / 6
    soft = _blur(small, variance**0.5 / factor)
    large = cv2.resize(soft, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[border : border + height, border : border + width], dtype=np.float32)


def _blur(mask: Mask, deviation: float) -> Mask:
    return np.asarray(cv2.GaussianBlur(mask, (0, 0), deviation, borderType=cv2.BORDER_REPLICATE))


def eye_distance(landmarks: npt.ArrayLike) -> Floats64:
    """Distance of the eye centers in pixels, but at least half that from the eyes to the chin.

    Args:
        landmarks: [..., 68, 2] pixels.

    Returns:
        [...] pixels; one number for one face.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    left, right = points[..., LEFT_EYE, :].mean(axis=-2), points[..., RIGHT_EYE, :].mean(axis=-2)
    height = np.linalg.norm(points[..., CHIN, :] - (left + right) / 2, axis=-1)
    distance: Floats64 = np.maximum(np.linalg.norm(right - left, axis=-1), height / 2)
    return distance


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
    return polygon_mask(face_outline(landmarks, grow), size, softness * float(eye_distance(landmarks)))


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
    return polygon_mask(mouth_outline(landmarks, grow), size, softness * float(eye_distance(landmarks)))


def mouth_outline(landmarks: npt.ArrayLike, grow: float = 0.06) -> Floats64:
    """[..., K, 2] outline of the lips of [..., 68, 2] landmarks; else as in :func:`face_polygon_mask`."""
    points = np.asarray(landmarks, dtype=np.float64)
    lips = points[..., OUTER_LIPS, :]
    outward = lips - lips.mean(axis=-2, keepdims=True)
    outward /= np.maximum(np.linalg.norm(outward, axis=-1, keepdims=True), 1e-6)
    units = np.asarray(eye_distance(points))[..., None, None]
    return np.asarray(lips + outward * units * grow, dtype=np.float64)

"""Masks exactly as the published inference program makes them, from parsing maps."""

from __future__ import annotations

import cv2
import numpy as np

from videoretalking.core.arrays import Floats64, Image8, Mask
from videoretalking.core.constants import RESTORER_SIZE

_FEATHER_BORDER = 20  # pixels of a 512 x 512 mask
_FEATHER_TAPS, _FEATHER_SIGMA = 101, 11.0
_DROPPED_ROWS = 5  # lowest rows of the detection box


def feather(mask: Mask) -> Mask:
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


def mouth_mask(
    parsed: Image8, box: tuple[int, int, int, int], frame_size: tuple[int, int]
) -> tuple[Image8, Mask]:
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


def face_mask(mask: Floats64, box: tuple[int, int, int, int]) -> Floats64:
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


def _resize_mask(mask: Image8) -> Mask:
    return np.asarray(cv2.resize(mask.astype(np.float32), (RESTORER_SIZE, RESTORER_SIZE)))

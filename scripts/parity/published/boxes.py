"""Face boxes exactly as the published program finds, chooses, pads and smooths them.

Boxes are x1, y1, x2, y2 in pixels unless a function says otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torchvision.ops import nms

from videoretalking.core.arrays import Floats32

Box = tuple[int, int, int, int]

_DECODE_VARIANCES = (0.1, 0.2)  # of centers and of sizes (S3FD, RetinaFace)
_ANCHOR_FACTOR = 4  # anchor side over stride (S3FD)
CONFIDENT = 0.5


def suppress_inclusive(detections: npt.ArrayLike, threshold: float) -> list[int]:
    """Suppression of the published detector, which counts x2 and y2 as part of a box (widths + 1).

    Args:
        detections: [N, 5] boxes with scores.
        threshold: boxes whose intersection over union with a better one exceeds this are dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    found = torch.as_tensor(np.asarray(detections, dtype=np.float64)).reshape(-1, 5)
    kept: list[int] = nms(found[:, :4] + torch.tensor([0, 0, 1, 1]), found[:, 4], threshold).tolist()
    return kept


def decode(offsets: Floats32, level: npt.ArrayLike, column_row: npt.ArrayLike) -> Floats32:
    """S3FD's regression outputs as boxes.

    Args:
        offsets: [N, 4] center and size offsets.
        level: [N] pyramid level; the stride is 2 ** (level + 2).
        column_row: [N, 2] cell.

    Returns:
        [N, 4] float32 pixels.
    """
    stride = 2.0 ** (np.asarray(level, dtype=np.float64)[:, None] + 2)
    anchor = np.asarray(column_row, dtype=np.float64) * stride + stride / 2
    side = _ANCHOR_FACTOR * stride
    center = anchor + offsets[:, :2] * _DECODE_VARIANCES[0] * side
    size = side * np.exp(offsets[:, 2:] * _DECODE_VARIANCES[1])
    corner = center - size / 2
    return np.concatenate([corner, corner + size], axis=1).astype(np.float32)


def best_box(detections: npt.ArrayLike) -> Box | None:
    """The published choice: the first surviving detection, negatives to 0, truncated.

    Args:
        detections: [N, 5] boxes with scores, best first.
    """
    found = np.asarray(detections, dtype=np.float64).reshape(-1, 5)
    if len(found) == 0:
        return None
    x1, y1, x2, y2 = np.clip(found[0, :4], 0, None).astype(int).tolist()
    return x1, y1, x2, y2


def pad_box(box: Box, pads: Box, frame_size: tuple[int, int]) -> Box:
    """Enlarge a box by pads (top, bottom, left, right) in pixels and clip it to (width, height)."""
    x1, y1, x2, y2 = box
    top, bottom, left, right = pads
    width, height = frame_size
    return max(x1 - left, 0), max(y1 - top, 0), min(x2 + right, width), min(y2 + bottom, height)


def smooth_boxes(boxes: npt.NDArray[np.generic], length: int = 5) -> npt.NDArray[np.generic]:
    """Box smoothing as published: a window that starts at its frame, computed in place.

    The last ``length`` boxes share one window whose content is already averaged, fewer boxes than
    ``length`` slice from a negative start, and integer boxes are truncated at every store.

    Args:
        boxes: [N, 4], integer or float.
        length: frames.

    Returns:
        [N, 4] of the same type.
    """
    smoothed = boxes.copy()
    for index in range(len(smoothed)):
        start = index if index + length <= len(smoothed) else len(smoothed) - length
        window = smoothed[start : start + length] if index == start else smoothed[start:]
        smoothed[index] = window.mean(axis=0)
    return smoothed


def face_coords(
    rectangles: npt.ArrayLike, pads: Box, frame_size: tuple[int, int], smooth: bool = True
) -> list[Box]:
    """Face coordinates of the published program: pads, clipping, then smoothing.

    Args:
        rectangles: [N, 4] integer x1, y1, x2, y2.
        pads: top, bottom, left, right.
        frame_size: (width, height).
        smooth: average over five frames.

    Returns:
        y1, y2, x1, x2 per frame.
    """
    padded = np.array([pad_box(tuple(box), pads, frame_size) for box in np.asarray(rectangles).tolist()])
    if smooth:
        padded = smooth_boxes(padded)
    return [(y1, y2, x1, x2) for x1, y1, x2, y2 in padded.tolist()]

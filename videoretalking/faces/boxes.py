"""Face boxes: overlap, suppression, decoding, padding and smoothing.

Boxes are x1, y1, x2, y2 in pixels unless a function says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64

Box = tuple[int, int, int, int]

_DECODE_VARIANCES = (0.1, 0.2)  # of centers and of sizes (S3FD, RetinaFace)
_ANCHOR_FACTOR = 4  # anchor side over stride (S3FD)
CONFIDENT = 0.5


def iou(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats64:
    """Intersection over union of boxes: [..., 4] and [..., 4], broadcast against each other, to [...]."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    shared = _intersection(a, b)
    return np.asarray(shared / np.maximum(_area(a) + _area(b) - shared, 1e-12))


def overlap(first: npt.ArrayLike, second: npt.ArrayLike) -> Floats64:
    """Intersection over the smaller of two boxes, which also tells a box inside another; shapes as in iou."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    smaller = np.minimum(_area(a), _area(b))
    return np.asarray(_intersection(a, b) / np.maximum(smaller, 1e-12))


def _intersection(a: Floats64, b: Floats64) -> Floats64:
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.clip(size, 0, None).prod(axis=-1))


def _area(box: Floats64) -> Floats64:
    return np.asarray(np.clip(box[..., 2:] - box[..., :2], 0, None).prod(axis=-1))


def suppress(
    boxes: npt.ArrayLike,
    scores: npt.ArrayLike,
    threshold: float,
    measure: Callable[[Floats64, Floats64], Floats64] = iou,
    inclusive: bool = False,
) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: [N, 4].
        scores: [N].
        threshold: boxes that overlap a better one by more than this are dropped.
        measure: of the overlap.
        inclusive: count x2 and y2 as part of the box (widths + 1), as the published detector does.

    Returns:
        Indices of the boxes kept, best first.
    """
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += float(inclusive)
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")[::-1]
    keep: list[int] = []
    while len(order):
        keep.append(int(order[0]))
        order = order[1:][measure(boxes[order[0]], boxes[order[1:]]) <= threshold]
    return keep


def decode(
    offsets: npt.NDArray[np.float32], level: npt.ArrayLike, column_row: npt.ArrayLike
) -> npt.NDArray[np.float32]:
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


def smooth_boxes(boxes: npt.ArrayLike, length: int = 5) -> Floats64:
    """Mean over a centered window of ``length`` frames, shorter at the ends.

    Args:
        boxes: [N, 4], one face, no cut inside.
        length: odd number of frames.

    Returns:
        [N, 4] float64.
    """
    # Unlike smooth_boxes_published, whose window starts at its frame (boxes move two frames early) and which
    # averages averages at the end.
    values = np.asarray(boxes, dtype=np.float64)
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    index = np.arange(len(values))
    start = np.maximum(index - length // 2, 0)
    stop = np.minimum(index + length // 2 + 1, len(values))
    return np.asarray((total[stop] - total[start]) / (stop - start)[:, None])


def smooth_boxes_published(boxes: npt.NDArray[np.generic], length: int = 5) -> npt.NDArray[np.generic]:
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


def published_coords(
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
        padded = smooth_boxes_published(padded)
    return [(y1, y2, x1, x2) for x1, y1, x2, y2 in padded.tolist()]

"""Face boxes: overlap, suppression and smoothing.

Boxes are x1, y1, x2, y2 in pixels unless a function says otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64


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


def suppress(boxes: npt.ArrayLike, scores: npt.ArrayLike, threshold: float) -> list[int]:
    """Greedy non-maximum suppression by :func:`overlap`, which also drops a box inside a better one.

    torchvision's ``nms`` compares by :func:`iou` only, to which a small box inside a large one is another face.

    Args:
        boxes: [N, 4].
        scores: [N].
        threshold: boxes that overlap a better one by more than this are dropped.

    Returns:
        Indices of the boxes kept, best first.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    order = np.argsort(np.asarray(scores, dtype=np.float64), kind="stable")[::-1]
    keep: list[int] = []
    while len(order):
        keep.append(int(order[0]))
        order = order[1:][overlap(boxes[order[0]], boxes[order[1:]]) <= threshold]
    return keep


def smooth_boxes(boxes: npt.ArrayLike, length: int = 5) -> Floats64:
    """Mean over a centered window of ``length`` frames, shorter at the ends.

    Args:
        boxes: [N, 4], one face, no cut inside.
        length: odd number of frames.

    Returns:
        [N, 4] float64.
    """
    # The published window starts at its frame, so that boxes move two frames early.
    values = np.asarray(boxes, dtype=np.float64)
    total = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    index = np.arange(len(values))
    start = np.maximum(index - length // 2, 0)
    stop = np.minimum(index + length // 2 + 1, len(values))
    return np.asarray((total[stop] - total[start]) / (stop - start)[:, None])

"""Boxes: overlap, suppression and smoothing without delay."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.faces import boxes
from videoretalking.scripts.parity.published import boxes as published


def test_iou_by_hand() -> None:
    assert boxes.iou([0, 0, 4, 4], [2, 0, 6, 4]) == pytest.approx(1 / 3)
    assert boxes.iou([0, 0, 4, 4], [4, 0, 8, 4]) == 0
    assert boxes.iou([0, 0, 0, 0], [0, 0, 0, 0]) == 0
    assert boxes.overlap([0, 0, 4, 4], [1, 1, 3, 2]) == 1
    assert boxes.overlap([0, 0, 4, 4], [3, 0, 7, 4]) == pytest.approx(1 / 4)
    assert boxes.iou(np.zeros((3, 1, 4)), np.zeros((1, 2, 4))).shape == (3, 2)


def test_suppress_keeps_the_best_of_each_cluster() -> None:
    found = [[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60], [0, 0, 10, 9]]
    assert boxes.suppress(found, [0.5, 0.9, 0.3, 0.8], 0.3) == [1, 2]
    assert boxes.suppress(found[:3], [0.5, 0.9, 0.3], 0.95) == [1, 0, 2]
    assert boxes.suppress([], [], 0.3) == []
    assert boxes.suppress([[0, 0, 10, 10], [4, 4, 7, 7]], [0.8, 0.9], 0.4) == [1]  # one lies in the other


def test_smoothing_is_centered_and_keeps_lines() -> None:
    line = np.arange(20.0)[:, None] * [1, 2, 3, 4]
    smoothed = boxes.smooth_boxes(line, 5)
    assert np.allclose(smoothed[2:-2], line[2:-2])  # no delay
    spike = np.zeros((9, 4))
    spike[4] = 5
    assert boxes.smooth_boxes(spike, 5)[:, 0].tolist() == [0, 0, 1, 1, 1, 1, 1, 0, 0]
    assert published.smooth_boxes(spike, 5)[:5, 0].tolist() == [1, 1, 1, 1, 1]  # two frames early
    assert boxes.smooth_boxes(line[:1]).tolist() == line[:1].tolist()

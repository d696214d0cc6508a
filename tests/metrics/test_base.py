from __future__ import annotations

import numpy as np
import pytest

from videoretalking.metrics.base import Chunk, frame_grid, to_float


@pytest.mark.parametrize(("start", "expected"), [(0, [0, 3, 6]), (1, [3, 6]), (3, [3, 6, 9])])
def test_every_follows_the_index_in_the_video(start: int, expected: list[int]) -> None:
    chunk = Chunk(start, np.zeros((7, 1, 1, 3), dtype=np.uint8))
    assert [start + index for index in range(7)[chunk.every(3)]] == expected


def test_grid_of_25_fps_is_the_video_itself() -> None:
    assert frame_grid(np.arange(40) / 25).tolist() == list(range(40))


def test_other_rates_repeat_and_drop_frames() -> None:
    half = frame_grid(np.arange(10) / 12.5)
    assert len(half) == 20
    assert np.bincount(half).tolist() == [2] * 9 + [2]
    double = frame_grid(np.arange(40) / 50)
    assert double.tolist() == list(range(0, 40, 2))


def test_grid_keeps_the_place_in_time_of_late_and_uneven_frames() -> None:
    times = np.array([0.2, 0.24, 0.28, 0.60])
    assert frame_grid(times).tolist() == [0] * 6 + [1] + [2] * 5 + [3] * 4
    assert frame_grid(np.zeros(0)).tolist() == []
    assert frame_grid(np.zeros(1)).tolist() == [0]


def test_to_float_range_and_layout() -> None:
    frames = np.zeros((2, 3, 4, 3), dtype=np.uint8)
    frames[1, 2, 3] = [255, 51, 0]
    tensor = to_float(frames)
    assert tuple(tensor.shape) == (2, 3, 3, 4)
    assert tensor[1, :, 2, 3].tolist() == pytest.approx([1.0, 0.2, 0.0])

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoretalking.metrics.base import Chunk, Clip, luma
from videoretalking.metrics.cpbd import Cpbd, canny, cpbd, measure_edges


def _ramp(width: int, levels: int = 200) -> np.ndarray:
    """A vertical edge that rises by ``levels`` over ``width`` pixels, steepest in the middle."""
    steps = np.minimum(np.arange(1, width + 1), np.arange(width, 0, -1)) + 0.3 * np.arange(width)
    row = np.zeros(128)
    row[21 : 21 + width] = steps / steps.sum() * levels
    return np.repeat(np.rint(20 + row.cumsum()).astype(np.uint8)[None], 128, axis=0)


@pytest.mark.parametrize("width", [2, 3, 4, 6])
def test_width_of_a_ramp_is_measured(width: int) -> None:
    # The width of Marziliano et al. counts the steps between the two ends of the ramp.
    for image in (_ramp(width), _ramp(width)[:, ::-1]):
        widths = measure_edges(np.ascontiguousarray(image)).widths[10:-10]
        assert set(widths[widths > 0].tolist()) == {width}
        assert (widths > 0).sum(axis=1).tolist() == [1] * 108


def test_sharp_edges_count_and_wide_ones_do_not() -> None:
    assert cpbd(_ramp(3)) == 1.0
    assert cpbd(_ramp(4)) == 0.0
    assert cpbd(np.full((128, 128), 90, dtype=np.uint8)) == 0.0


def test_low_contrast_blocks_forgive_wider_edges() -> None:
    assert cpbd(_ramp(5, levels=50)) == 1.0
    assert cpbd(_ramp(5, levels=51)) == 0.0


def test_falls_monotonically_with_blur() -> None:
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (16, 16), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    values = [
        cpbd(cv2.GaussianBlur(blocks, (0, 0), sigma).astype(np.uint8)) for sigma in (0.3, 0.8, 1.2, 1.8, 2.5)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0.9 > 0.1 > values[-1]


def test_images_smaller_than_a_block_have_no_score() -> None:
    for shape in ((1, 1), (2, 200), (63, 63)):
        assert cpbd(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)) == 0.0


def test_canny_finds_a_step_once() -> None:
    image = np.zeros((32, 32))
    image[:, 16:] = 100.0
    edges = canny(image)
    assert edges[5:-5].sum(axis=1).min() >= 1
    assert not edges[:, :12].any() and not edges[:, 20:].any()


def test_luma_weights() -> None:
    colors = np.eye(3, dtype=np.uint8)[None] * 255
    assert luma(colors).tolist() == [[76, 150, 29]]


def test_stride_counts_frames_of_the_video_not_of_the_chunk() -> None:
    sharp, blurred = (np.repeat(_ramp(width)[..., None], 3, axis=2) for width in (3, 6))
    frames = np.stack([sharp, blurred, blurred, sharp, blurred, blurred, sharp])
    metric = Cpbd(stride=3)
    metric.reset(Clip(times=np.arange(7) / 25))
    metric.update(Chunk(0, frames[:2]))
    metric.update(Chunk(2, frames[2:5]))
    metric.update(Chunk(5, frames[5:]))
    assert metric.compute() == {"cpbd": 1.0}
    metric.reset(Clip(times=np.arange(1) / 25))
    assert metric.compute() == {}

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from metric_samples import smooth_frame

from videoretalking.metrics.base import Chunk, Clip, to_float
from videoretalking.metrics.fid import FeatureStatistics, FidFeatures, frechet_distance
from videoretalking.metrics.inception import RandomFeatures


def _statistics(rows: np.ndarray, blocks: int = 1) -> FeatureStatistics:
    statistics = FeatureStatistics()
    for block in np.array_split(rows, blocks):
        statistics.update(block)
    return statistics


def test_blocks_merge_to_the_plain_statistics() -> None:
    rows = np.random.default_rng(0).normal(size=(101, 7)) + 1e4
    merged = _statistics(rows, blocks=9)
    assert merged.count == 101
    assert merged.mean == pytest.approx(rows.mean(axis=0))
    assert merged.covariance == pytest.approx(np.cov(rows, rowvar=False), rel=1e-9)


def test_distance_of_known_gaussians() -> None:
    rows = np.random.default_rng(1).normal(size=(200, 3))
    first = _statistics(rows)
    second = _statistics(rows * 2.0 + 5.0)
    shift = first.mean + 5.0
    # Same eigenvectors, standard deviations doubled: tr(C) + 4 tr(C) - 2 * 2 tr(C) = tr(C).
    expected = ((shift) ** 2).sum() + np.trace(first.covariance)
    assert frechet_distance(first, second) == pytest.approx(expected)
    assert frechet_distance(first, second, "direct") == pytest.approx(expected)


def test_distance_to_itself_is_zero_even_with_fewer_rows_than_features() -> None:
    few = _statistics(np.random.default_rng(2).normal(size=(12, 64)))
    assert abs(frechet_distance(few, few)) < 1e-3


def test_one_row_has_no_covariance() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        _ = _statistics(np.ones((1, 4))).covariance


def test_stand_in_features_grow_with_blur() -> None:
    frames = np.stack([smooth_frame(32, 32, seed, detail=2) for seed in range(8)])
    extractor = RandomFeatures()

    def distance(sigma: float) -> float:
        blurred = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames])
        sharp = _statistics(extractor(to_float(frames)).numpy())
        return frechet_distance(sharp, _statistics(extractor(to_float(blurred)).numpy()))

    values = [distance(sigma) for sigma in (0.5, 1.0, 2.0)]
    assert 0 < values[0] < values[1] / 2 < values[2] / 4
    assert torch.equal(extractor(to_float(frames)), RandomFeatures()(to_float(frames)))


def test_features_are_collected_over_chunks() -> None:
    metric = FidFeatures(lambda images: images.mean(dim=(2, 3)), stride=2)
    frames = np.stack([np.full((4, 4, 3), 10 * index, dtype=np.uint8) for index in range(5)])
    metric.reset(Clip(times=np.arange(5) / 25))
    metric.update(Chunk(0, frames[:3]))
    metric.update(Chunk(3, frames[3:]))
    assert metric.compute() == {"fid_frames": 3.0}
    assert metric.features[:, 0] * 255 == pytest.approx([0.0, 20.0, 40.0])

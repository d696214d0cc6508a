from __future__ import annotations

import numpy as np
import pytest

from videoretalking.metrics.offset import (
    best_offset,
    median_filter,
    pairwise_accuracy,
    shifted_distances,
    sync_score,
)


def _embeddings(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


@pytest.mark.parametrize("shift", [-7, 0, 4])
def test_offset_is_positive_when_the_sound_comes_first(shift: int) -> None:
    video = _embeddings(60)
    # Sound that belongs to picture k sits at k - shift.
    audio = np.roll(video, -shift, axis=0)
    score = sync_score(video, audio)
    assert score.offset == shift
    assert score.confidence > 1.0


def test_distances_by_hand() -> None:
    video = np.array([[0.0], [1.0]], dtype=np.float32)
    audio = np.array([[3.0], [5.0]], dtype=np.float32)
    # columns: sound one earlier (zero beyond the clip), same place, one later
    expected = [[0.0, 3.0, 5.0], [2.0, 4.0, 1.0]]
    assert shifted_distances(video, audio, max_shift=1) == pytest.approx(np.array(expected), abs=2e-6)


def test_score_by_hand() -> None:
    video = np.array([[0.0], [1.0]], dtype=np.float32)
    audio = np.array([[3.0], [5.0]], dtype=np.float32)
    score = sync_score(video, audio, max_shift=1)
    assert score.mean_distance == pytest.approx([1.0, 3.5, 3.0], abs=2e-6)
    assert (score.min_distance, score.offset) == (pytest.approx(1.0, abs=2e-6), 1)
    assert score.confidence == pytest.approx(3.0 - 1.0, abs=4e-6)
    assert score.unshifted_distance == pytest.approx(3.5, abs=2e-6)


def test_median_filter_pads_with_zeros() -> None:
    values = np.array([5.0, 9.0, 7.0, 1.0])
    assert median_filter(values, 3).tolist() == [5.0, 7.0, 7.0, 1.0]
    assert median_filter(values, 9).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="equally many"):
        shifted_distances(_embeddings(4), _embeddings(5))


@pytest.mark.parametrize("shift", [-7, 0, 4])
def test_best_offset_agrees_with_the_score(shift: int) -> None:
    video = _embeddings(60)
    audio = np.roll(video, -shift, axis=0)
    assert best_offset(video, audio, slice(15, 40)) == sync_score(video, audio).offset == shift


def test_best_offset_hears_beyond_the_stretch() -> None:
    """The published score of ten windows sees only zero vectors there, which are nearer than any wrong sound."""
    video = _embeddings(60)
    audio = np.roll(video, 12, axis=0)
    assert best_offset(video, audio, slice(20, 30)) == -12
    assert sync_score(video[20:30], audio[20:30]).offset == 15


def test_pairwise_accuracy() -> None:
    video = _embeddings(80)
    assert pairwise_accuracy(video, video, min_shift=5) == 1.0
    assert pairwise_accuracy(video, _embeddings(80, seed=1), 5) == pytest.approx(0.5, abs=0.1)
    assert pairwise_accuracy(video, np.zeros_like(video), 5) == 0.5  # ties count half
    noisy = video + np.float32(4.0) * _embeddings(80, seed=2)
    single, averaged = (pairwise_accuracy(video, noisy, 5, length) for length in (1, 20))
    assert single is not None and averaged is not None and 0.55 < single < averaged - 0.1


def test_pairwise_accuracy_by_hand() -> None:
    video = np.array([[0.0], [1.0], [2.0]], dtype=np.float32)
    audio = np.array([[0.0], [5.0], [1.5]], dtype=np.float32)
    # shift 1: (0; 0 | 5) right, (1; 4 | 0.5) wrong; shift -1: (1; 4 | 1) wrong, (2; 0.5 | 3) right
    assert pairwise_accuracy(video, audio, min_shift=1) == pytest.approx((1 + 1 + 1 + 1) / 6)
    assert pairwise_accuracy(video, audio, min_shift=2) == 1.0
    assert pairwise_accuracy(video, audio, min_shift=3) is None

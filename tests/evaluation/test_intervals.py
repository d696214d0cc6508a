from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.intervals import (
    FidGroups,
    IntervalConfig,
    draw_counts,
    features_statistics,
    mean_intervals,
)
from videoretalking.metrics.fid import frechet_distance


def test_every_draw_has_as_many_items() -> None:
    counts = draw_counts(7, 500, seed=3)
    assert counts.shape == (500, 7) and (counts.sum(axis=1) == 7).all()
    assert (counts == draw_counts(7, 500, seed=3)).all()
    assert (counts != draw_counts(7, 500, seed=4)).any()


def test_interval_is_that_of_the_normal_law_for_many_videos() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=400)
    videos = [{"cpbd": float(value)} for value in values]
    low, high = mean_intervals(videos, range(400), IntervalConfig(draws=4000))["cpbd"]
    half = 1.96 * values.std(ddof=1) / 20.0
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        videos = [{"cpbd": float(value)} for value in generator.normal(size=40)]
        low, high = mean_intervals(videos, range(40), IntervalConfig(draws=400))["cpbd"]
        covered += low <= 0.0 <= high
    assert 0.89 <= covered / 200 <= 0.98


def test_dubs_of_one_video_are_drawn_together() -> None:
    """Ten equal dubs of a video say no more than one."""
    values = np.random.default_rng(2).normal(size=30)
    once = mean_intervals([{"x": float(v)} for v in values], range(30), IntervalConfig())["x"]
    repeated = [{"x": float(v)} for v in values for _ in range(10)]
    together = mean_intervals(repeated, [i for i in range(30) for _ in range(10)], IntervalConfig())["x"]
    apart = mean_intervals(repeated, range(300), IntervalConfig())["x"]
    assert together == pytest.approx(once)
    assert apart[1] - apart[0] < 0.5 * (once[1] - once[0])


def test_tracks_count_by_their_number_and_absent_values_do_not() -> None:
    videos = [
        {"lse_d": 6.0, "sync_tracks": 1.0, "cpbd": 0.1},
        {"lse_d": 9.0, "sync_tracks": 3.0},
        {"sync_tracks": 0.0, "cpbd": 0.2},
    ]
    intervals = mean_intervals(videos, "abc", IntervalConfig())
    assert intervals["lse_d_per_track"] == (6.0, 9.0) == intervals["lse_d"]
    assert intervals["cpbd"] == pytest.approx((0.1, 0.2))
    assert "lse_c_per_track" not in intervals


def test_one_video_or_no_draw_has_no_interval() -> None:
    assert mean_intervals([{"x": 1.0}, {"x": 2.0}], ["a", "a"], IntervalConfig()) == {}
    assert mean_intervals([{"x": 1.0}, {"x": 2.0}], ["a", "b"], IntervalConfig(draws=0)) == {}
    groups = FidGroups(1, IntervalConfig())
    groups.add(0, [features_statistics(np.eye(3))], features_statistics(np.eye(3)))
    assert groups.interval(1.0) is None


def test_interval_of_fid_narrows_with_more_videos() -> None:
    generator = np.random.default_rng(5)

    def interval(num_videos: int) -> tuple[float, float, float]:
        groups = FidGroups(num_videos, IntervalConfig(fid_draws=40, fid_groups=16))
        rows = {"made": [], "real": []}
        for number in range(num_videos):
            made = generator.normal(generator.normal(0.5, 0.3, 4), 1.0, size=(25, 4))
            real = generator.normal(generator.normal(0.0, 0.3, 4), 1.0, size=(25, 4))
            groups.add(number, [features_statistics(made)], features_statistics(real))
            rows["made"].append(made)
            rows["real"].append(real)
        fid = frechet_distance(*(features_statistics(np.concatenate(rows[name])) for name in rows))
        found = groups.interval(fid)
        assert found is not None
        return fid, *found

    (few, few_low, few_high), (many, many_low, many_high) = interval(16), interval(256)
    assert few_low < few < few_high and many_low < many < many_high
    assert few_high + few_low == pytest.approx(2 * few)
    # four times as narrow, give or take what 40 draws leave to chance
    assert 0.12 < (many_high - many_low) / (few_high - few_low) < 0.5


def test_merged_statistics_are_those_of_all_rows() -> None:
    first, second = np.random.default_rng(6).normal(3.0, 1.0, size=(2, 20, 5))
    merged = features_statistics(first)
    merged.merge(features_statistics(second), times=2)
    whole = features_statistics(np.concatenate([first, second, second]))
    assert merged.count == whole.count == 60
    assert merged.mean == pytest.approx(whole.mean) and merged.covariance == pytest.approx(whole.covariance)
    assert features_statistics(first).covariance == pytest.approx(np.cov(first, rowvar=False))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match=r"fid_groups must be at least 2"):
        load_config(EvaluationConfig, None, ["intervals.fid_groups=1"])
    assert "percentiles of 1000 draws" in IntervalConfig().describe()

from __future__ import annotations

import pytest

from videoretalking.evaluation.summary import summarize


def test_each_video_counts_once_and_each_track_once() -> None:
    videos = [
        {"lse_d": 6.0, "lse_c": 8.0, "sync_tracks": 1.0, "cpbd": 0.2},
        {"lse_d": 9.0, "lse_c": 2.0, "sync_tracks": 3.0},
        {"sync_tracks": 0.0, "cpbd": 0.4},
    ]
    summary = summarize(videos)
    assert summary["lse_d"] == pytest.approx(7.5)
    assert summary["lse_d_per_track"] == pytest.approx((6 + 3 * 9) / 4)
    assert summary["lse_c_per_track"] == pytest.approx((8 + 3 * 2) / 4)
    assert summary["cpbd"] == pytest.approx(0.3)
    assert summary["sync_tracks"] == pytest.approx(4 / 3)


def test_nothing_gives_nothing() -> None:
    assert summarize([]) == {}

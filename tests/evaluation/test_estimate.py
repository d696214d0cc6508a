from __future__ import annotations

from pathlib import Path

import pytest
from sample_media import write_clip

from videoretalking.evaluation.estimate import (
    Work,
    count_frames,
    describe_work,
    seconds_per_frame,
    total_hours,
)
from videoretalking.evaluation.pairs import Pair


def test_frames_end_with_the_shorter_of_picture_and_sound(tmp_path: Path) -> None:
    short = write_clip(tmp_path / "short.mp4", levels=range(40, 140, 10))
    long = write_clip(tmp_path / "long.mp4", levels=range(40, 240, 5))
    pairs = [
        Pair(0, "a", long, short),
        Pair(1, "b", short, long),
        Pair(2, "c", long, None),
        Pair(3, "d", tmp_path / "none.mp4", long),
    ]
    assert count_frames(pairs) == pytest.approx(10 + 10 + 40, abs=4)
    assert count_frames(pairs[2:3] * 50, sampled=5) == pytest.approx(50 * 40, abs=50)
    assert count_frames([]) == 0.0


def test_the_first_pair_pays_for_loading() -> None:
    assert seconds_per_frame([(100, 90.0), (100, 20.0), (50, 10.0)]) == pytest.approx(0.2)
    assert seconds_per_frame([(100, 90.0)]) == pytest.approx(0.9)
    assert seconds_per_frame([(100, 5.0), (0, 3.0)]) is None
    assert seconds_per_frame([]) is None


def test_hours_are_added_and_unknown_ones_said() -> None:
    work = [Work("Ours", "LRS2", 10, 3600.0, 2.0), Work("Theirs", "HDTF", 5, 100.0, None)]
    assert total_hours(work) == pytest.approx(2.0)
    lines = describe_work("Table 1", work, "cuda (A card)").splitlines()
    assert lines[0] == "Table 1, hours of one process here (cuda (A card)):"
    assert lines[2].split() == ["Ours", "LRS2", "10", "3600", "2.00"]
    assert lines[3].split()[-1] == "unknown" and "2.00 hours" in lines[4]

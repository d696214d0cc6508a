from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts.check_sync import Verdict, judge, report


def _track(noise: float, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    video = generator.normal(size=(count, 16)).astype(np.float32)
    return video, (video + noise * generator.normal(size=(count, 16))).astype(np.float32)


@pytest.mark.parametrize("shift", [-8, -5, 5, 8])
def test_shifts_within_the_search_are_found(shift: int) -> None:
    assert judge("clip", *_track(0.1), shift) == Verdict("clip", shift, True, None, None, 0)


@pytest.mark.parametrize("shift", [-20, 30])
def test_shifts_beyond_the_search_spoil_the_scores(shift: int) -> None:
    assert judge("clip", *_track(0.1), shift) == Verdict("clip", shift, True, True, True, None)


def test_swapped_tracks_fail() -> None:
    video, audio = _track(0.1)
    within = judge("clip", video, np.roll(audio, 5, axis=0), -5)
    beyond = judge("clip", video, np.roll(audio, 20, axis=0), -20)
    assert within is not None and not within.nearer
    assert beyond == Verdict("clip", -20, False, False, False, None)


def test_a_shift_needs_a_track_of_twice_its_length() -> None:
    assert judge("clip", *_track(0.1, count=39), 20) is None
    assert judge("clip", *_track(0.1, count=40), 20) is not None


def test_report_counts() -> None:
    verdicts = [
        Verdict("a", 5, True, None, None, 0),
        Verdict("a", 20, True, True, False, None),
        Verdict("b", 5, False, None, None, 4),
    ]
    text = report(verdicts, ["asked: the expert"]).markdown()
    assert "| a | 2 | 100.0 % | 100.0 % | 0.0 % | 100.0 % |" in text
    assert "| b | 1 | 0.0 % | - | - | 0.0 % |" in text
    assert "| all | 3 | 66.7 % | 100.0 % | 0.0 % | 50.0 % |" in text
    assert "2 clips" in text and "asked: the expert" in text and "by 5, 20 frames" in text
    with pytest.raises(UserError, match="no clip"):
        report([])

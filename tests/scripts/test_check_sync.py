from __future__ import annotations

import numpy as np
import pytest

from core.errors import UserError
from scripts.check_sync import Verdict, judge, report, shifted_score


def _track(noise: float, count: int = 80) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    video = generator.normal(size=(count, 16)).astype(np.float32)
    return video, (video + noise * generator.normal(size=(count, 16))).astype(np.float32)


@pytest.mark.parametrize("shift", [-8, -5, 5, 8, 20, -20])
def test_shifts_are_found_in_a_good_track(shift: int) -> None:
    verdict = judge("clip", *_track(0.1), shift)
    assert verdict is not None
    assert verdict == Verdict("clip", shift, True, 0 if abs(shift) <= 15 else None)


def test_late_sound_has_a_negative_offset() -> None:
    score = shifted_score(*_track(0.1), 6)
    assert score is not None and (score.offset, score.num_windows) == (-6, 74)


def test_swapped_tracks_fail() -> None:
    video, audio = _track(0.1)
    verdict = judge("clip", video, np.roll(audio, 5, axis=0), -5)
    assert verdict is not None and not verdict.better


def test_short_tracks_are_left_out() -> None:
    assert judge("clip", *_track(0.1, count=15), 20) is None


def test_report_counts() -> None:
    verdicts = [Verdict("a", 5, True, 0), Verdict("a", 20, True, None), Verdict("b", 5, False, 4)]
    text = report(verdicts)
    assert "2 clips, 3 comparisons" in text
    assert "66.7 %" in text and "within 1 frame: 50.0 %" in text
    with pytest.raises(UserError, match="no clip"):
        report([])

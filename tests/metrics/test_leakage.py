from __future__ import annotations

import numpy as np
import pytest
from metric_samples import make_face, make_landmarks

from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.leakage import Leakage, is_silent, lip_gap

OPENINGS = 0.2 + 0.15 * np.sin(np.arange(40) / 3.0)
SPEECH = (np.random.default_rng(0).normal(size=16000) * 3000).astype(np.int16)


def _score(result: np.ndarray, source: np.ndarray, speech: np.ndarray) -> dict[str, float]:
    metric = Leakage()
    metric.reset(Clip(times=np.arange(len(result)) / 25, speech=speech))
    frames = np.zeros((len(result), 2, 2, 3), dtype=np.uint8)
    faces = [make_face(opening=opening) for opening in result]
    source_faces = [make_face(opening=opening) for opening in source]
    for start in range(0, len(result), 16):
        part = slice(start, start + 16)
        metric.update(Chunk(start, frames[part], frames[part], faces[part], source_faces[part]))
    return metric.compute()


def test_opening_is_measured_in_eye_distances() -> None:
    assert lip_gap(make_landmarks(opening=0.3)) == pytest.approx(0.3, rel=0.2)
    ratio = lip_gap(make_landmarks(opening=0.3)) / lip_gap(make_landmarks(opening=0.1))
    assert ratio == pytest.approx(3.0, rel=1e-3)
    assert lip_gap(make_landmarks(size=30.0)) == pytest.approx(lip_gap(make_landmarks()), rel=1e-3)


def test_copying_the_source_is_full_leakage() -> None:
    assert _score(OPENINGS, OPENINGS, SPEECH) == {"leakage": pytest.approx(1.0)}
    assert _score(OPENINGS, OPENINGS, SPEECH * 0) == {"leakage_silence": pytest.approx(1.0)}


def test_unrelated_motion_does_not_leak() -> None:
    other = 0.2 + 0.15 * np.cos(np.arange(40) / 3.0)
    assert abs(_score(other, OPENINGS, SPEECH)["leakage"]) < 0.2
    assert _score(0.4 - OPENINGS, OPENINGS, SPEECH)["leakage"] == pytest.approx(-1.0, abs=1e-3)


def test_a_resting_mouth_under_silence_is_zero() -> None:
    rest = np.full(40, 0.05)
    assert _score(rest, OPENINGS, SPEECH * 0)["leakage_silence"] == pytest.approx(0.0, abs=1e-6)
    assert _score(0.1 + OPENINGS / 4, OPENINGS, SPEECH * 0)["leakage_silence"] == pytest.approx(
        0.25, abs=1e-3
    )


def test_undefined_where_the_source_does_not_move_or_is_too_short() -> None:
    assert _score(OPENINGS, np.full(40, 0.2), SPEECH) == {}
    assert _score(OPENINGS[:5], OPENINGS[:5], SPEECH) == {}


def test_silence_by_level() -> None:
    assert is_silent(np.zeros(0, dtype=np.int16)) and is_silent(np.full(100, 20, dtype=np.int16))
    assert not is_silent(np.full(100, 100, dtype=np.int16))

"""Faces nearly in profile are left alone, by the confidence of the bundled landmark network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from videoretalking.core.coefficients import ANGLES
from videoretalking.faces.trust import FADE, LIMITS, trust
from videoretalking.faces.types import FaceTrack

SURE, TURNED, BETWEEN = 8.0, 2.0, 4.5


def track(
    logits: list[float], backend: str = "bundled", cut: int | None = None, yaw: float = -25.0
) -> FaceTrack:
    """A face with a confidence in each frame, turned by ``yaw`` degrees; NaN: it is absent, -inf: filled in."""
    count = len(logits)
    values = np.array(logits, np.float64)
    scores = np.where(np.isinf(values), 0.0, 1.0 / (1.0 + np.exp(-values))).astype(np.float32)
    shots = (np.arange(count) >= (count if cut is None else cut)).astype(np.int64)
    empty = FaceTrack.empty(np.arange(count) / 25, (320, 240), backend)
    empty.rows[:, ANGLES] = np.radians([0.0, yaw, 0.0])
    return replace(empty, present=~np.isnan(values), scores=np.nan_to_num(scores), shots=shots)


def test_a_face_that_turns_into_profile_fades_to_its_own_pixels_and_back() -> None:
    values = trust(track([SURE] * 5 + [TURNED] * 6 + [SURE] * 6))
    assert (values[:5] == 1).all()
    np.testing.assert_allclose(values[5 : 5 + FADE], np.arange(FADE - 1, -1, -1) / FADE, atol=1e-6)
    assert (values[4 + FADE : 11] < 1e-6).all()
    assert (np.diff(values[10 : 11 + FADE]) > 0).all() and values[-1] == pytest.approx(1)


def test_a_confidence_in_between_changes_nothing() -> None:
    """A head that stays at the limit would flicker else."""
    least, enough = LIMITS["bundled"]
    assert least < BETWEEN < enough
    assert (trust(track([SURE, *[BETWEEN] * 6])) == 1).all()
    assert (trust(track([TURNED, *[BETWEEN] * 6])) == 0).all()


def test_a_frame_that_was_filled_in_says_nothing() -> None:
    filled = -np.inf
    assert (trust(track([SURE, SURE, filled, filled, SURE])) == 1).all()
    assert (trust(track([TURNED, TURNED, filled, filled, TURNED])) == 0).all()


def test_a_cut_or_a_gap_begins_anew() -> None:
    assert (trust(track([TURNED] * 4 + [BETWEEN] * 4, cut=4))[4:] == 1).all()
    assert (trust(track([*[TURNED] * 3, np.nan, *[BETWEEN] * 3]))[3:] == 1).all()


def test_a_frame_knows_nothing_of_later_ones() -> None:
    logits = [SURE] * 4 + [TURNED] * 5 + [SURE] * 4
    whole = trust(track(logits))
    for count in range(1, len(logits)):
        np.testing.assert_allclose(trust(track(logits[:count])), whole[:count], atol=1e-6)


def test_a_poor_picture_of_a_frontal_face_is_painted() -> None:
    assert (trust(track([TURNED] * 5, yaw=8.0)) == 1).all()


def test_other_detectors_mean_something_else() -> None:
    assert (trust(track([TURNED] * 5, backend="face-alignment")) == 1).all()

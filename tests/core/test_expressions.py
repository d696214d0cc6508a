from __future__ import annotations

import pytest

from videoretalking.core.expressions import ACTION_UNITS, UPPER_FACE_EMOTIONS, action_units


@pytest.mark.parametrize("emotion", sorted(UPPER_FACE_EMOTIONS))
def test_every_emotion_moves_the_brows_or_lids(emotion: str) -> None:
    units = dict(zip(ACTION_UNITS, action_units(emotion).tolist(), strict=True))
    assert len(units) == 17
    moved = {unit for unit, intensity in units.items() if intensity > 0.0}
    assert moved and moved <= {"AU01", "AU04", "AU05"}

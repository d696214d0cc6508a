"""The published variants reproduce every recorded value of the parity kit."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from videoretalking.scripts.parity.face_cases import CASES
from videoretalking.scripts.parity.published.faces import ffhq_croper


@pytest.mark.parametrize("name", sorted(CASES))
def test_cases_of_the_kit(name: str, kit_cases: ModuleType) -> None:
    inputs, expected = kit_cases.load_case(name)
    result = CASES[name](inputs)
    assert set(result) == set(expected)
    for sub_case, fields in expected.items():
        assert set(result[sub_case]) == set(fields)
        assert kit_cases.check(name, sub_case, result[sub_case]) == []


def test_ffhq_crop_keeps_the_published_width_for_height(frontal: np.ndarray) -> None:
    found = ffhq_croper(frontal, (150, 400))
    assert found.limits[3] == found.crop[2] - found.crop[0]  # the lower limit is the crop's width

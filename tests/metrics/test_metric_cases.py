from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from videoretalking.scripts.parity.metric_cases import CASES


@pytest.fixture(scope="module")
def kit(kit_dir: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("parity_cases", kit_dir / "algorithms" / "cases.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("case", sorted(CASES))
def test_case_agrees_with_the_kit(kit: ModuleType, case: str) -> None:
    inputs, expected = kit.load_case(case)
    results = CASES[case](inputs)
    for name, fields in expected.items():
        assert set(results[name]) == set(fields), name
        assert kit.check(case, name, results[name]) == [], name

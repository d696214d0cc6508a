from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.evaluation.provenance import (
    describe_environment,
    fingerprint,
    read_json,
    write_json,
)


def test_fingerprint_sees_values_not_order() -> None:
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_json_keeps_every_digit(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"value": 0.1 + 0.2})
    assert read_json(tmp_path / "x.json") == {"value": 0.1 + 0.2}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(UserError, match="delete it"):
        read_json(tmp_path / "x.json")


def test_environment_names_what_computes() -> None:
    assert {"python", "torch", "numpy", "opencv-python"} <= set(describe_environment())

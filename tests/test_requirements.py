"""The table of the paper's requirements is whole: every row there, every place and every named test exists."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NUM_REQUIREMENTS = 63
VERDICTS = {"verified", "needs released weights", "needs corpus", "in part"}
_NAME = re.compile(r"`([^`]+)`")


@dataclass(frozen=True)
class Row:
    number: int
    requirement: str
    verdict: str
    places: tuple[str, ...]
    tests: tuple[str, ...]
    remark: str


def parse(text: str) -> list[Row]:
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| ") and cells[0].isdigit():
            number, requirement, verdict, code, tests, remark = cells
            rows.append(
                Row(
                    int(number),
                    requirement,
                    verdict,
                    tuple(_NAME.findall(code)),
                    tuple(_NAME.findall(tests)),
                    remark,
                )
            )
    return rows


ROWS = parse((ROOT / "docs" / "requirements.md").read_text(encoding="utf-8"))


def find(place: str) -> Any:
    """The module, class, function or value of a dotted name below ``videoretalking``."""
    parts = place.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(["videoretalking", *parts[:length]]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            found = getattr(found, part)
        return found
    raise ModuleNotFoundError(place)


def test_every_requirement_has_its_row() -> None:
    assert [row.number for row in ROWS] == list(range(1, NUM_REQUIREMENTS + 1))
    assert {row.verdict for row in ROWS} <= VERDICTS
    assert all(row.requirement and row.places and row.tests for row in ROWS)
    assert len({row.requirement for row in ROWS}) == NUM_REQUIREMENTS


def test_what_holds_in_part_says_what_is_missing() -> None:
    assert [row.number for row in ROWS if row.verdict == "in part" and not row.remark] == []


@pytest.mark.parametrize("row", ROWS, ids=[str(row.number) for row in ROWS])
def test_places_and_tests_exist(row: Row) -> None:
    for place in row.places:
        assert find(place) is not None
    for test in row.tests:
        path, _, name = test.partition("::")
        assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE), test


def test_names_of_nothing_are_seen() -> None:
    with pytest.raises(ModuleNotFoundError):
        find("nowhere.at_all")
    with pytest.raises(AttributeError):
        find("models.lnet.nothing")

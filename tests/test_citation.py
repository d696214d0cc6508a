"""The citation file has the shape of the Citation File Format 1.2.0, as far as this project uses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TOP = {"cff-version", "message", "title", "abstract", "type", "license", "authors", "preferred-citation"}
REFERENCE = {
    "type", "title", "authors", "year", "month", "collection-title", "collection-type", "conference", "publisher",
    "doi", "isbn",
}  # fmt: skip
CONFERENCE = {"name", "city", "country", "date-start", "date-end"}


def read() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return content


def check_authors(authors: list[Mapping[str, str]]) -> None:
    assert authors
    for author in authors:
        assert set(author) in ({"name"}, {"family-names", "given-names"})
        assert all(isinstance(value, str) and value.strip() for value in author.values())


def test_keys_and_values_are_those_of_the_format() -> None:
    content = read()
    assert content["cff-version"] == "1.2.0" and content["type"] == "software"
    assert set(content) <= TOP and {"cff-version", "message", "title", "authors"} <= set(content)
    check_authors(content["authors"])
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert content["license"] == "Apache-2.0"


def test_the_paper_is_what_is_cited() -> None:
    paper = read()["preferred-citation"]
    assert set(paper) <= REFERENCE and {"type", "title", "authors"} <= set(paper)
    check_authors(paper["authors"])
    assert len(paper["authors"]) == 9 and paper["authors"][0] == {
        "family-names": "Cheng",
        "given-names": "Kun",
    }
    assert paper["type"] == "conference-paper" and paper["year"] == 2022 and 1 <= paper["month"] <= 12
    assert re.fullmatch(r"10\.\d{4,9}/[\w.()/-]+", paper["doi"])
    digits = [int(digit) for digit in paper["isbn"].replace("-", "")]
    assert len(digits) == 13 and sum(digits[::2]) % 10 == (-3 * sum(digits[1::2])) % 10
    conference = paper["conference"]
    assert set(conference) <= CONFERENCE and re.fullmatch("[A-Z]{2}", conference["country"])
    for key in ("date-start", "date-end"):  # dates as strings: YAML's own type is not what the format means
        assert re.fullmatch(r"2022-12-\d\d", conference[key])

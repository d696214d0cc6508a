from __future__ import annotations

import pytest

from videoretalking.evaluation.tables import Table, figure, heading


def test_markdown_and_latex_hold_the_same_cells() -> None:
    table = Table(
        "A_b", ["Method", heading("fid")], [["Ours", figure("fid", {"fid": 4.5041})]], ["50 % done"]
    )
    assert table.markdown().splitlines() == [
        "**A_b**",
        "",
        "| Method | FID ↓ |",
        "| --- | ---: |",
        "| Ours | 4.504 |",
        "",
        "- 50 % done",
    ]
    latex = table.latex()
    assert r"\caption{A\_b}" in latex
    assert r"Method & FID $\downarrow$ \\" in latex and r"Ours & 4.504 \\" in latex
    assert r"50 \% done" in latex


def test_absent_figures_and_decimals() -> None:
    assert figure("cpbd", {"cpbd": 0.28094}) == "0.2809"
    assert figure("cpbd", {}) == figure("cpbd", None) == "-"
    assert heading("cpbd") == "CPBD ↑"


def test_rows_must_fill_the_headings() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table("t", ["a", "b"], [["only one"]])

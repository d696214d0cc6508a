from __future__ import annotations

import pytest

from videoretalking.evaluation.tables import Table, figure, heading, summarize, worst_videos


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


def test_each_video_counts_once_and_each_track_once() -> None:
    videos = [
        {"lse_d": 6.0, "lse_c": 8.0, "sync_tracks": 1.0, "cpbd": 0.2},
        {"lse_d": 9.0, "lse_c": 2.0, "sync_tracks": 3.0},
        {"sync_tracks": 0.0, "cpbd": 0.4},
    ]
    summary = summarize(videos)
    assert summary["lse_d"] == pytest.approx(7.5)
    assert summary["lse_d_per_track"] == pytest.approx((6 + 3 * 9) / 4)
    assert summary["lse_c_per_track"] == pytest.approx((8 + 3 * 2) / 4)
    assert summary["cpbd"] == pytest.approx(0.3)
    assert summary["sync_tracks"] == pytest.approx(4 / 3)


def test_nothing_gives_nothing() -> None:
    assert summarize([]) == {}


def test_a_figure_can_show_its_interval() -> None:
    intervals = {"lse_d": (6.5, 7.25)}
    assert figure("lse_d", {"lse_d": 7.0, "lse_c": 5.0}, intervals) == "7.000 [6.500, 7.250]"
    assert figure("lse_c", {"lse_d": 7.0, "lse_c": 5.0}, intervals) == "5.000"


def test_the_worst_are_low_where_higher_is_better() -> None:
    videos = {
        "a": {"lse_d": 7.0, "lse_c": 6.0},
        "b": {"lse_d": 9.0},
        "c": {"lse_d": 8.0, "lse_c": 2.0, "psnr": 1.0},
    }
    assert worst_videos(videos, count=2) == {"lse_d": ["b", "c"], "lse_c": ["c", "a"]}

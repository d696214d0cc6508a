from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videoretalking.evaluation.plots import (
    FILL,
    OURS,
    PAPER,
    Panel,
    Sample,
    _density,
    _ticks,
    draw_curves,
    draw_distributions,
    panel_title,
)
from videoretalking.media.images import load_image


def _middles(image: np.ndarray, color: tuple[int, int, int]) -> list[float]:
    """Columns of a color's separate runs in the picture above the legend."""
    columns = np.flatnonzero((image[: image.shape[0] - 60] == color).all(axis=2).any(axis=0))
    parts = np.split(columns, np.flatnonzero(np.diff(columns) > 3) + 1)
    return [float(part.mean()) for part in parts if len(part)]


def test_marks_stand_where_their_numbers_are(tmp_path: Path) -> None:
    samples = [
        Sample("low", [1.0, 1.2, 1.5, 1.8, 2.0], 1.5, (1.2, 1.8), 3.0),
        Sample("high", [8.0, 8.2, 8.5, 8.8, 9.0], 8.5, (8.2, 8.8), 7.0),
    ]
    path = tmp_path / "distributions.png"
    draw_distributions(path, "A table", [Panel(panel_title("LSE-D", False), samples)])
    image = load_image(path)
    paper = _middles(image, PAPER)
    # the axis runs linearly, so the marks at 3 and 7 are half as far apart as the ends at 1 and 9
    filled = np.flatnonzero((image == FILL).all(axis=2).any(axis=0))
    assert (paper[-1] - paper[0]) / (filled[-1] - filled[0]) == pytest.approx(0.5, abs=0.03)


def test_a_curve_goes_up_where_its_numbers_do(tmp_path: Path) -> None:
    samples = [Sample(str(x), [], 5.0 + x, (4.8 + x, 5.2 + x), 5.0) for x in (0.0, 0.5, 1.0)]
    path = tmp_path / "curve.png"
    draw_curves(path, "A table", "ratio", [Panel("LSE-C", samples, (0.0, 0.5, 1.0))])
    image = load_image(path)[:-60]
    rows, columns = np.nonzero((image == OURS).all(axis=2))
    left, right = rows[columns < np.quantile(columns, 0.1)], rows[columns > np.quantile(columns, 0.9)]
    assert right.mean() < left.mean() - 50  # rows are counted downwards


def test_many_curves_stand_in_rows(tmp_path: Path) -> None:
    samples = [Sample("", [], value) for value in (0.0, 1.0)]
    panels = [Panel(name, samples, (0.0, 1.0)) for name in "abcde"]
    draw_curves(tmp_path / "one.png", "A table", "step", panels[:1])
    draw_curves(tmp_path / "rows.png", "A table", "step", panels, columns=2)
    one, rows = load_image(tmp_path / "one.png"), load_image(tmp_path / "rows.png")
    assert rows.shape[0] > 2 * one.shape[0] and rows.shape[1] < 2 * one.shape[1]
    ours = (rows == OURS).all(axis=2)
    height, width = rows.shape[0] // 3, rows.shape[1] // 2
    drawn = [
        ours[row * height : (row + 1) * height - 60, column * width : (column + 1) * width].sum() > 100
        for row in range(3)
        for column in range(2)
    ]
    assert drawn == [True] * 5 + [False]


@pytest.mark.parametrize("values", [[], [0.3], [0.3, 0.3, 0.3], [0.1, 0.2]])
def test_few_and_equal_values_are_drawn_too(tmp_path: Path, values: list[float]) -> None:
    path = tmp_path / "few.png"
    draw_distributions(path, "few", [Panel("CPBD", [Sample("only", values, 0.3)])])
    assert load_image(path).std() > 0
    draw_curves(path, "few", "ratio", [Panel("CPBD", [Sample("only", values, 0.3)], (0.0,))])
    assert load_image(path).std() > 0


def test_density_has_its_peak_where_values_crowd() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(2.0, 0.2, 300), [5.0]])
    grid = np.linspace(1.0, 5.0, 81)
    density = _density(np.sort(values), grid)
    assert density.max() == 1.0 and grid[density.argmax()] == pytest.approx(2.0, abs=0.15)


def test_ticks_are_round_and_inside() -> None:
    assert _ticks(0.0, 1.0) == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert _ticks(6.93, 7.21) == pytest.approx([7.0, 7.1, 7.2])

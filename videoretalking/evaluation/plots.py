"""Pictures of the tables, drawn with Pillow: distributions of a quantity by method, and curves over a setting."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videoretalking.core.arrays import Floats64
from videoretalking.core.files import atomic_path

Color = tuple[int, int, int]

SCALE = 2  # everything is drawn so much larger and reduced, which smooths lines
PANEL = (420, 300)  # pixels of a curve's axes
ROW = 62  # pixels of a violin
MARGIN = 24
FONT = 15
INK: Color = (40, 40, 40)
FAINT: Color = (222, 222, 222)
OURS: Color = (31, 99, 166)
PAPER: Color = (205, 92, 30)
FILL: Color = (190, 211, 233)
MIN_SHAPED = 5  # fewer values have no shape
MAX_POINTS = 40  # fewer values are drawn one by one on top of their violin


@dataclass(frozen=True)
class Sample:
    """One quantity of one row of a table.

    Attributes:
        label: name of the row.
        values: of every video.
        mean: their average, as in the table.
        interval: low and high of the average; None where there is none.
        paper: the paper's average; None where it has none.
    """

    label: str
    values: Sequence[float]
    mean: float
    interval: Sequence[float] | None = None
    paper: float | None = None


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Attributes:
        title: name of the quantity, and which direction is better.
        samples: its rows, from top to bottom, or from left to right along a curve.
        positions: place of each sample along a curve; unused for distributions.
    """

    title: str
    samples: Sequence[Sample]
    positions: Sequence[float] = field(default_factory=tuple)


class _Canvas:
    """A white picture that is drawn on in its final pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), "white")
        self._draw = ImageDraw.Draw(self.image)

    def line(self, points: Sequence[tuple[float, float]], color: Color, width: float = 1.0) -> None:
        self._draw.line(_scaled(points), fill=color, width=max(1, round(width * SCALE)), joint="curve")

    def polygon(self, points: Sequence[tuple[float, float]], fill: Color, outline: Color) -> None:
        self._draw.polygon(_scaled(points), fill=fill, outline=outline, width=SCALE)

    def dot(self, x: float, y: float, radius: float, fill: Color) -> None:
        left, top, right, bottom = (SCALE * edge for edge in (x - radius, y - radius, x + radius, y + radius))
        self._draw.ellipse((left, top, right, bottom), fill=fill)

    def text(self, x: float, y: float, text: str, anchor: str, color: Color = INK, size: int = FONT) -> None:
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=color, font=font, anchor=anchor)

    def save(self, path: Path) -> None:
        size = (self.image.width // SCALE, self.image.height // SCALE)
        with atomic_path(path) as temporary:
            self.image.resize(size, Image.Resampling.BOX).save(temporary, format="PNG")


def draw_distributions(path: Path, title: str, panels: Sequence[Panel], unit: str = "every video") -> None:
    """A violin for each row, quantities side by side, as PNG.

    Args:
        path: the picture.
        title: heading.
        panels: quantities; all with the same rows.
        unit: what a value belongs to, for the legend.
    """
    labels = [sample.label for sample in panels[0].samples]
    left = MARGIN + 9 * max(map(len, labels))
    top, (width, _) = 2 * MARGIN + 44, PANEL
    height = ROW * len(labels)
    canvas = _Canvas(left + len(panels) * (width + MARGIN) + MARGIN, top + height + 2 * MARGIN + 28)
    canvas.text(MARGIN, MARGIN, title, "lm", size=FONT + 3)
    for row, label in enumerate(labels):
        canvas.text(left - 12, top + (row + 0.5) * ROW, label, "rm")
    for number, panel in enumerate(panels):
        x0 = left + number * (width + MARGIN)
        to_x = _axis(_extent(panel), (x0 + 8, x0 + width - 8))
        canvas.text(x0 + width / 2, top - 18, panel.title, "mm")
        _vertical_grid(canvas, _ticks(*_extent(panel)), to_x, (top, top + height))
        for row, sample in enumerate(panel.samples):
            _violin(canvas, sample, to_x, top + (row + 0.5) * ROW)
    _legend(canvas, (left, top + height + 2 * MARGIN + 8), panels, f"{unit}, quartiles, median")
    canvas.save(path)


def draw_curves(
    path: Path, title: str, axis: str, panels: Sequence[Panel], columns: int | None = None
) -> None:
    """Averages with their intervals over a setting, quantities side by side, as PNG.

    Args:
        path: the picture.
        title: heading.
        axis: name of the setting.
        panels: quantities with the place of every sample.
        columns: most of them beside each other; None for all.
    """
    columns = min(columns or len(panels), len(panels))
    width, height = PANEL
    pitch, row_pitch = width + 3 * MARGIN, height + 4 * MARGIN
    rows = math.ceil(len(panels) / columns)
    canvas = _Canvas(2 * MARGIN + columns * pitch, 2 * MARGIN + 40 + rows * row_pitch + MARGIN)
    canvas.text(MARGIN, MARGIN, title, "lm", size=FONT + 3)
    for number, panel in enumerate(panels):
        row, column = divmod(number, columns)
        x0, top = MARGIN + 48 + column * pitch, 2 * MARGIN + 40 + row * row_pitch
        low, high = _extent(panel, averages=True)
        to_y = _axis((low, high), (top + height - 10, top + 10))
        first, last = min(panel.positions), max(panel.positions)
        to_x = _axis((first, last if last > first else first + 1.0), (x0 + 16, x0 + width - 30))
        canvas.text(x0 + width / 2 - 8, top - 18, panel.title, "mm")
        for tick in _ticks(low, high):
            canvas.line([(x0, to_y(tick)), (x0 + width - 16, to_y(tick))], FAINT)
            canvas.text(x0 - 8, to_y(tick), _number(tick), "rm", size=FONT - 2)
        for place in panel.positions:
            canvas.text(to_x(place), top + height + 14, f"{place:g}", "mm", size=FONT - 2)
        canvas.text(x0 + width / 2 - 8, top + height + 38, axis, "mm")
        _curve(canvas, panel, to_x, to_y)
    bottom = 2 * MARGIN + 40 + rows * row_pitch
    _legend(canvas, (MARGIN + 48, bottom - 20), panels, "")
    canvas.save(path)


def _curve(
    canvas: _Canvas, panel: Panel, to_x: Callable[[float], float], to_y: Callable[[float], float]
) -> None:
    placed = list(zip(map(to_x, panel.positions), panel.samples, strict=True))
    theirs = [(x, to_y(sample.paper)) for x, sample in placed if sample.paper is not None]
    if len(theirs) > 1:
        canvas.line(theirs, PAPER, 1.5)
    for x, y in theirs:
        canvas.dot(x, y, 4.0, PAPER)
    if len(placed) > 1:
        canvas.line([(x, to_y(sample.mean)) for x, sample in placed], OURS, 1.5)
    for x, sample in placed:
        if sample.interval is not None:
            low, high = (to_y(edge) for edge in sample.interval)
            canvas.line([(x, low), (x, high)], OURS, 1.5)
            for y in (low, high):
                canvas.line([(x - 5, y), (x + 5, y)], OURS, 1.5)
        canvas.dot(x, to_y(sample.mean), 4.5, OURS)


def _violin(canvas: _Canvas, sample: Sample, to_x: Callable[[float], float], y: float) -> None:
    values = np.sort(np.asarray(sample.values, dtype=np.float64))
    if len(values) >= MIN_SHAPED and values[-1] > values[0]:
        grid = np.linspace(values[0], values[-1], 80)
        half = _density(values, grid) * 0.36 * ROW
        upper = [(to_x(place), y - reach) for place, reach in zip(grid, half, strict=True)]
        lower = [(to_x(place), y + reach) for place, reach in zip(grid, half, strict=True)]
        canvas.polygon([*upper, *reversed(lower)], FILL, OURS)
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        canvas.line([(to_x(low), y), (to_x(high), y)], (110, 150, 190), 5)
        canvas.line([(to_x(middle), y - 7), (to_x(middle), y + 7)], INK, 2)
    if len(values) <= MAX_POINTS:
        for value in values:
            canvas.dot(to_x(value), y, 1.8, INK)
    if sample.paper is not None:
        canvas.line([(to_x(sample.paper), y - 22), (to_x(sample.paper), y + 22)], PAPER, 2.5)
    if len(values):
        if sample.interval is not None:
            canvas.line([(to_x(edge), y + 16) for edge in sample.interval], OURS, 2.5)
        canvas.dot(to_x(sample.mean), y + 16, 4.0, OURS)


def _density(values: Floats64, grid: Floats64) -> Floats64:
    """Kernel estimate at the grid, its peak 1; Silverman's bandwidth."""
    spread = float(np.std(values))
    bandwidth = max(1.06 * spread * len(values) ** -0.2, 1e-3 * (grid[-1] - grid[0]))
    total = np.zeros(len(grid))
    for part in np.array_split(values, max(1, len(values) // 2000)):
        total += np.exp(-0.5 * ((grid[:, None] - part) / bandwidth) ** 2).sum(axis=1)
    return np.asarray(total / total.max(), dtype=np.float64)


def _legend(canvas: _Canvas, place: tuple[float, float], panels: Sequence[Panel], values: str) -> None:
    x, y = place
    canvas.dot(x + 8, y, 4.5, OURS)
    canvas.line([(x, y), (x + 16, y)], OURS, 2)
    known = any(sample.interval is not None for panel in panels for sample in panel.samples)
    canvas.text(x + 24, y, "average, 95 % interval" if known else "average", "lm", size=FONT - 1)
    x += 200
    if any(sample.paper is not None for panel in panels for sample in panel.samples):
        canvas.line([(x, y - 8), (x, y + 8)], PAPER, 2.5)
        canvas.dot(x, y, 4.0, PAPER)
        canvas.text(x + 12, y, "the paper's average", "lm", size=FONT - 1)
        x += 170
    if values:
        canvas.text(x, y, f"shape: {values}", "lm", size=FONT - 1)


def _vertical_grid(
    canvas: _Canvas, ticks: Sequence[float], to_x: Callable[[float], float], rows: tuple[float, float]
) -> None:
    for tick in ticks:
        canvas.line([(to_x(tick), rows[0]), (to_x(tick), rows[1])], FAINT)
        canvas.text(to_x(tick), rows[1] + 14, _number(tick), "mm", size=FONT - 2)


def _extent(panel: Panel, averages: bool = False) -> tuple[float, float]:
    """Smallest and largest number that a panel shows, with a margin."""
    shown: list[float] = []
    for sample in panel.samples:
        shown += [] if averages else sample.values
        shown += [sample.mean, *(sample.interval or ())]
        shown += [] if sample.paper is None else [sample.paper]
    finite = [value for value in shown if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    margin = 0.06 * (high - low) or 0.5
    return low - margin, high + margin


def _axis(values: tuple[float, float], pixels: tuple[float, float]) -> Callable[[float], float]:
    (low, high), (start, end) = values, pixels
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two bounds, about ``count`` of them."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if power * factor >= raw)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]


def _number(value: float) -> str:
    return f"{round(value, 10):g}"


def _scaled(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x * SCALE, y * SCALE) for x, y in points]


def panel_title(heading: str, higher: bool) -> str:
    """Name of a quantity with its better direction in words, which every font has."""
    return f"{heading} ({'higher' if higher else 'lower'} is better)"

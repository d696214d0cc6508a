"""Figures over a training: the same measures for each of several weights of one network."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.plots import Panel, Sample, draw_curves
from videoretalking.scripts.demo_figures.sync import Figures
from videoretalking.scripts.demo_figures.table import ROWS

_SUFFIX = ".safetensors"
_COLUMNS = 4  # curves beside each other


@dataclass(frozen=True)
class Stage:
    """Weights of one moment of a training.

    Attributes:
        path: checkpoint.
        network: name in the catalog.
        step: after which it was saved.
    """

    path: Path
    network: str
    step: int


def find_stages(places: Sequence[Path]) -> list[Stage]:
    """The weights in some files and folders (``kept`` of a run), in the order of their steps.

    Raises:
        UserError: none, files without a step, of several networks, or two of one step.
    """
    found = [
        file
        for place in places
        for file in (sorted(place.glob(f"*{_SUFFIX}")) if place.is_dir() else [place])
    ]
    if not found:
        raise UserError(f"--over: no weights ({_SUFFIX}) in {', '.join(map(str, places))}")
    stages: list[Stage] = []
    for path in found:
        metadata = read_metadata(path)
        step = metadata["extra"].get("step")
        if not isinstance(step, int):
            raise UserError(f"--over: {path} does not say after which step it was saved")
        stages.append(Stage(path, metadata["network"], step))
    stages.sort(key=lambda stage: stage.step)
    for earlier, later in itertools.pairwise(stages):
        if later.network != earlier.network:
            raise UserError(
                f"--over: {earlier.path} is of {earlier.network}, {later.path} of {later.network}; "
                "name weights of one network"
            )
        if later.step == earlier.step:
            raise UserError(f"--over: {earlier.path} and {later.path} are both of step {later.step}")
    return stages


def measure_over(
    stages: Sequence[Stage], checkpoints: Path, measure: Callable[[Path], Figures]
) -> list[Figures]:
    """What ``measure`` finds in a folder of weights, for each stage in place of its network's weights there."""
    found = []
    for stage in stages:
        with _swapped(stage, checkpoints) as folder:
            figures = measure(folder)
        found.append({"weights": str(stage.path), "step": stage.step, "figures": figures})
    return found


@contextmanager
def _swapped(stage: Stage, checkpoints: Path) -> Iterator[Path]:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for path in checkpoints.glob(f"*{_SUFFIX}"):
            shutil.copyfile(path, folder / path.name)
        shutil.copyfile(stage.path, folder / f"{stage.network}{_SUFFIX}")
        yield folder


def write_curves(path: Path, found: Sequence[Figures]) -> None:
    """Write what :func:`measure_over` found as JSON, as CSV with a line for each step, and as curves (PNG).

    Args:
        path: the JSON file; the others lie beside it. Only figures of the printed table that were measured become
            columns, and curves where they change.
        found: of each step.
    """
    steps = [item["step"] for item in found]
    columns = {
        f"{row.network}.{row.key}": [item["figures"].get(row.network, {}).get(row.key) for item in found]
        for row in ROWS
    }
    columns = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(list(found), indent=1), encoding="utf-8")
    with (
        atomic_path(path.with_suffix(".csv")) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(["step", *columns])
        writer.writerows(
            [step, *("" if value is None else value for value in line)]
            for step, *line in zip(steps, *columns.values(), strict=True)
        )
    panels = [
        Panel(name, *_points(steps, values)) for name, values in columns.items() if len(set(values)) > 1
    ]
    if panels:
        draw_curves(path.with_suffix(".png"), "People that no training saw", "step", panels, columns=_COLUMNS)


def _points(steps: Sequence[int], values: Sequence[float | None]) -> tuple[list[Sample], list[float]]:
    places = [
        (Sample("", [], value), float(step))
        for step, value in zip(steps, values, strict=True)
        if value is not None
    ]
    return [sample for sample, _ in places], [place for _, place in places]

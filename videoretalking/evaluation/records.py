"""What a table leaves beside its text: a record of how it was made, the worst videos, and pictures."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from videoretalking.core.config import to_dict
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation.estimate import Work
from videoretalking.evaluation.paper import COLUMNS
from videoretalking.evaluation.plots import Panel, Sample, draw_curves, draw_distributions, panel_title
from videoretalking.evaluation.provenance import describe_code, describe_environment
from videoretalking.evaluation.reproduction import Outcome, Reproduction, TablePlan
from videoretalking.evaluation.tables import Table

NUM_SHOWN = 3  # worst videos of each quantity below a table; the CSV names more


def describe_table(
    reproduction: Reproduction,
    plan: TablePlan,
    outcomes: Sequence[Outcome],
    work: Sequence[Work] = (),
    train_manifest: Path | None = None,
) -> dict[str, Any]:
    """Everything behind a table, as plain values for JSON.

    Args:
        reproduction: what ran.
        plan: the table.
        outcomes: of its jobs.
        work: the estimate that was made before, if one was.
        train_manifest: list of the training that the pairs were compared with.
    """
    return {
        "title": plan.title,
        "preset": to_dict(reproduction.preset),
        "seed": reproduction.seed,
        "limit": reproduction.limit,
        "number_formats": sorted(
            {
                runtime["method"]["dtype"]
                for outcome in outcomes
                for runtime in outcome.summary["runtimes"]
                if runtime["method"]
            }
        ),
        "train_manifest": None
        if train_manifest is None
        else {"path": str(train_manifest), "sha256": file_hash(train_manifest)},
        "estimated_hours": [
            {"row": item.row, "dataset": item.dataset, "pairs": item.pairs, "hours": item.hours}
            for item in work
        ],
        "rows": [_describe_row(outcome) for outcome in outcomes],
        "notes": list(reproduction.notes),
        "code": describe_code(),
        "environment": describe_environment(),
    }


def _describe_row(outcome: Outcome) -> dict[str, Any]:
    job, summary = outcome.job, outcome.summary
    return {
        "name": job.name,
        "dataset": job.dataset,
        "paper": None if job.paper is None else dict(job.paper),
        **{
            key: summary[key]
            for key in ("values", "intervals", "interval_method", "videos", "failed", "runtimes", "worst")
        },
        # settings, number format, marks and hashes of the weights; the same of what measures
        "method": outcome.settings["method"],
        "measures": outcome.settings["measures"],
    }


def worst_rows(plan: TablePlan, outcomes: Sequence[Outcome]) -> list[list[str]]:
    """Row, data set, quantity, rank, name, value, video and audio of the worst videos, for a CSV."""
    rows = []
    for outcome in outcomes:
        pairs = {pair.name: pair for pair in outcome.job.pairs}
        for quantity, names in _worst(plan, outcome):
            for rank, name in enumerate(names, start=1):
                value = repr(outcome.videos[name][quantity])
                files = [str(pairs[name].video), str(pairs[name].audio or "silence")]
                rows.append([outcome.job.name, outcome.job.dataset, quantity, str(rank), name, value, *files])
    return rows


def write_worst(path: Path, plan: TablePlan, outcomes: Sequence[Outcome]) -> None:
    """The rows of :func:`worst_rows` with a header, atomically."""
    header = ["row", "dataset", "quantity", "rank", "name", "value", "video", "audio"]
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle, lineterminator="\n").writerows([header, *worst_rows(plan, outcomes)])


def worst_table(plan: TablePlan, outcomes: Sequence[Outcome]) -> Table:
    """The worst videos of every row, by name with their values, to be put below the table."""
    quantities = [name for name in plan.quantities if any(name in o.summary["worst"] for o in outcomes)]
    rows = []
    for outcome in outcomes:
        worst = dict(_worst(plan, outcome))
        cells = [
            ", ".join(
                f"{name} ({outcome.videos[name][quantity]:.{COLUMNS[quantity][1]}f})"
                for name in worst.get(quantity, [])[:NUM_SHOWN]
            )
            for quantity in quantities
        ]
        rows.append([f"{outcome.job.name}, {outcome.job.dataset}", *cells])
    headings = [plan.first, *(COLUMNS[name][0] for name in quantities)]
    return Table("Worst videos, the worst first", headings, rows)


def _worst(plan: TablePlan, outcome: Outcome) -> Iterator[tuple[str, list[str]]]:
    worst: Mapping[str, list[str]] = outcome.summary["worst"]
    yield from ((name, worst[name]) for name in plan.quantities if name in worst)


def draw_table(folder: Path, name: str, plan: TablePlan, outcomes: Sequence[Outcome]) -> list[Path]:
    """The table as pictures: a curve where its rows are places on an axis, else distributions by row.

    Args:
        folder: where they go.
        name: their names begin with it.
        plan: the table.
        outcomes: of its jobs; those that scored no video are left out.

    Returns:
        The pictures, none where nothing was scored.
    """
    pictures = []
    for dataset in plan.datasets:
        scored = [item for item in outcomes if item.job.dataset == dataset and item.videos]
        panels = [_panel(plan, quantity, scored) for quantity in plan.quantities if quantity != "fid"]
        panels = [panel for panel in panels if panel.samples]
        if not panels:
            continue
        path = folder / (f"{name}_{dataset.lower()}.png" if plan.several else f"{name}.png")
        title = f"{plan.title}, {dataset}" if plan.several else plan.title
        if plan.ratios:
            draw_curves(path, title, plan.first.lower(), panels)
        else:
            draw_distributions(path, title, panels)
        pictures.append(path)
    return pictures


def _panel(plan: TablePlan, quantity: str, outcomes: Sequence[Outcome]) -> Panel:
    having = [item for item in outcomes if quantity in item.summary["values"]]
    samples = [
        Sample(
            label=item.job.name,
            values=[video[quantity] for video in item.videos.values() if quantity in video],
            mean=item.summary["values"][quantity],
            interval=item.summary["intervals"].get(quantity),
            paper=(item.job.paper or {}).get(quantity) if _is_comparable(quantity, item) else None,
        )
        for item in having
    ]
    text, _, higher = COLUMNS[quantity]
    positions = [plan.ratios[item.job.name] for item in having] if plan.ratios else []
    return Panel(panel_title(text, higher), samples, positions)


def _is_comparable(quantity: str, outcome: Outcome) -> bool:
    """Whether the paper's figure may stand beside ours: not where another network took SyncNet's place."""
    return not (quantity.startswith("lse_") and "lse" in outcome.summary["notes"])

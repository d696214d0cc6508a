"""What all preprocessing steps share: work in parallel, skip what is done, report what was rejected and why.

A step is a function from one item to nothing. Work that must not enter the data set raises :class:`Rejected`;
the reason goes to ``rejects/<step>.csv`` in the work folder and the item is not tried again until that line is
deleted. Any other error is reported and tried again by the next run. Steps write atomically, so a killed run
continues where it stopped.
"""

from __future__ import annotations

import csv
import logging
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

logger = logging.getLogger(__name__)


class Named(Protocol):
    """Anything with a unique name."""

    @property
    def name(self) -> str:
        """Unique name with forward slashes."""


Item = TypeVar("Item", bound=Named)


class Rejected(Exception):  # noqa: N818  (a verdict on data, not a defect)
    """The item must not enter the data set; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """Counts of one run of a step.

    Attributes:
        done: items that were worked on.
        skipped: items that were done already or rejected by an earlier run.
        rejected: items rejected now.
        failed: items that stopped with an error and will be tried again.
    """

    done: int
    skipped: int
    rejected: int
    failed: int


def run_step(
    name: str,
    items: Sequence[Item],
    work: Callable[[Item], None],
    is_done: Callable[[Item], bool],
    folder: Path,
    processes: int,
) -> Outcome:
    """Run one step over all items.

    Args:
        name: of the step, for the report.
        items: what to work on.
        work: does one item; must be picklable (a module-level function, or ``functools.partial`` of one).
        is_done: whether the result of an item is there.
        folder: the work folder; the report is ``rejects/<name>.csv`` in it.
        processes: worker processes; 1 works in this process.

    Raises:
        UserError: every item that was tried failed, so the cause is not in the data.
    """
    rejects = read_rejects(folder, name)
    todo = [item for item in items if item.name not in rejects and not is_done(item)]
    failures: dict[str, str] = {}
    new_rejects = 0
    bar = tqdm(total=len(items), initial=len(items) - len(todo), desc=name, unit="item")
    with bar, _Workers(processes) as workers:
        for item_name, verdict, reason in workers.map(_Guard(work), todo):
            bar.update()
            if verdict == "rejected":
                rejects[item_name] = reason
                new_rejects += 1
                _write_rejects(folder, name, rejects)
            elif verdict == "failed":
                failures[item_name] = reason
                logger.error("%s: %s failed: %s", name, item_name, reason)
    done = len(todo) - new_rejects - len(failures)
    outcome = Outcome(done, len(items) - len(todo), new_rejects, len(failures))
    logger.info(
        "%s: %d done, %d there before, %d rejected, %d failed",
        name, outcome.done, outcome.skipped, outcome.rejected, outcome.failed,
    )  # fmt: skip
    for reason, count in Counter(rejects.values()).most_common(5):
        logger.info("%s: %d rejected in all: %s", name, count, reason)
    if failures and not done and not new_rejects:
        first = next(iter(failures))
        raise UserError(f"step {name}: all {len(failures)} items failed; {first}: {failures[first]}")
    return outcome


def read_rejects(folder: Path, step: str) -> dict[str, str]:
    """Names and reasons of what a step has rejected so far."""
    path = _rejects_path(folder, step)
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        return {row["name"]: row["reason"] for row in csv.DictReader(handle)}


def step_parser(description: str) -> CommandParser:
    """Options that the steps on prepared clips have: ``--work``, ``--root`` and ``--processes``."""
    parser = work_parser(description)
    parser.add_argument("--root", type=Path, required=True, help="folder of the prepared clips")
    return parser


def work_parser(description: str) -> CommandParser:
    """Options that every step has: ``--work`` and ``--processes``."""
    parser = CommandParser(description=description)
    parser.add_argument("--work", type=Path, required=True, help="folder for what the steps hand on")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    return parser


def _rejects_path(folder: Path, step: str) -> Path:
    return folder / "rejects" / f"{step}.csv"


def _write_rejects(folder: Path, step: str, rejects: dict[str, str]) -> None:
    path = _rejects_path(folder, step)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["name", "reason"])
        writer.writerows(sorted(rejects.items()))


@dataclass(frozen=True)
class _Guard:
    """Turns the ways in which work can end into a verdict that travels between processes."""

    work: Callable[[Any], None]

    def __call__(self, item: Named) -> tuple[str, str, str]:
        try:
            self.work(item)
        except Rejected as reason:
            return item.name, "rejected", " ".join(str(reason).split())
        except Exception as error:  # one bad file must not end a run over thousands
            return item.name, "failed", " ".join(f"{type(error).__name__}: {error}".split())
        return item.name, "done", ""


class _Workers:
    """A pool of spawned processes, or this process for one."""

    def __init__(self, processes: int) -> None:
        self._pool = multiprocessing.get_context("spawn").Pool(processes) if processes > 1 else None

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self._pool is not None:
            self._pool.terminate()
            self._pool.join()

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Any:
        """Results as they come."""
        return map(function, items) if self._pool is None else self._pool.imap_unordered(function, items)

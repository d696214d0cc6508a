"""What all preprocessing steps share: work in parallel, skip what is done, report what was rejected and why.

A step is a function from one item to nothing. Work that must not enter the data set raises :class:`Rejected`;
the reason goes to ``rejects/<step>.csv`` in the work folder and the item is not tried again until that line is
deleted or its source changes. So does an item whose worker process dies twice, as when memory runs out. Any other
error is reported and tried again by the next run. Steps write atomically, so a killed run continues where it
stopped.
"""

from __future__ import annotations

import csv
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.workers import Finished
from videoretalking.scripts.preprocess.crew import Crew, add_crew

logger = logging.getLogger(__name__)

_COLUMNS = ("name", "reason")
_DIED = "the worker process died each time it was tried (out of memory?)"


class Named(Protocol):
    """Anything with a unique name."""

    @property
    def name(self) -> str:
        """Unique name with forward slashes."""


Item = TypeVar("Item", bound=Named)
Work = Callable[[Item], None]


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


def plain(work: Work[Item], device: str) -> Work[Item]:
    """For ``partial(plain, work)``: the ``build`` of a step without networks, which needs no device."""
    return work


def run_step(
    name: str,
    items: Sequence[Item],
    build: Callable[[str], Work[Item]],
    is_done: Callable[[Item], bool],
    folder: Path,
    crew: Crew,
    networks: bool = False,
) -> Outcome:
    """Run one step over all items.

    Args:
        name: of the step, for the report.
        items: what to work on.
        build: makes, once for each worker process and for its device, the function that does one item; must be
            picklable (a module-level function, or ``functools.partial`` of one).
        is_done: whether the result of an item is there.
        folder: the work folder; the report is ``rejects/<name>.csv`` in it.
        crew: who does the work.
        networks: whether the work belongs on GPUs.

    Raises:
        UserError: from ``build`` (missing weights), or every item that was tried failed, so the cause is not in
            the data.
    """
    rejects = read_rejects(folder, name)
    todo = [item for item in items if item.name not in rejects and not is_done(item)]
    failures: dict[str, str] = {}
    new_rejects = 0
    bar = tqdm(total=len(items), initial=len(items) - len(todo), desc=name, unit="item")
    results = crew.run(partial(_guarded, build), todo, networks, lambda running: _show(bar, running))
    with bar, closing(results), _reject_file(folder, name, rejects) as add_reject:
        for result in results:
            verdict, reason = _verdict(result)
            bar.update()
            if verdict == "rejected":
                rejects[result.item.name] = reason
                new_rejects += 1
                add_reject(result.item.name, reason)
            elif verdict == "failed":
                failures[result.item.name] = reason
                logger.error("%s: %s failed: %s", name, result.item.name, reason)
            if result.died:
                logger.error("%s: %s rejected: %s", name, result.item.name, reason)
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


def _show(bar: tqdm[Any], running: Sequence[Named]) -> None:
    """Name the item that has been worked on longest."""
    if running:
        others = f" +{len(running) - 1}" if len(running) > 1 else ""
        bar.set_postfix_str(f"{running[0].name}{others}")


def _guarded(build: Callable[[str], Work[Any]], device: str) -> Callable[[Any], tuple[str, str]]:
    """``build`` whose work ends in a verdict and a reason, which travel between processes."""
    return partial(_judged, build(device))


def _judged(work: Work[Any], item: Named) -> tuple[str, str]:
    try:
        work(item)
    except Rejected as reason:
        return "rejected", " ".join(str(reason).split())
    except Exception as error:  # one bad file must not end a run over thousands
        return "failed", " ".join(f"{type(error).__name__}: {error}".split())
    return "done", ""


def _verdict(result: Finished[Any, tuple[str, str]]) -> tuple[str, str]:
    return ("rejected", _DIED) if result.value is None else result.value


def read_rejects(folder: Path, step: str) -> dict[str, str]:
    """Names and reasons of what a step has rejected so far."""
    path = _rejects_path(folder, step)
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as handle:
        # a line that a killed run did not finish has no reason
        return {row["name"]: row["reason"] for row in csv.DictReader(handle) if row.get("reason")}


def forget_rejects(folder: Path, step: str, forgotten: Callable[[str], bool]) -> None:
    """Have rejected items tried again.

    Args:
        folder: the work folder.
        step: whose rejects.
        forgotten: whether the item of this name is.
    """
    rejects = read_rejects(folder, step)
    kept = {name: reason for name, reason in rejects.items() if not forgotten(name)}
    if len(kept) < len(rejects):
        _write_rejects(folder, step, kept)


def check_range(option: str, value: float, least: float, most: float = math.inf) -> None:
    """Refuse a value of an option outside ``least .. most``.

    Raises:
        UserError: names the option and its bounds.
    """
    if not least <= value <= most:
        bounds = f"at least {least:g}" + (f" and at most {most:g}" if most < math.inf else "")
        raise UserError(f"{option} is {value:g}: it must be {bounds}")


def step_parser(description: str, networks: bool = False) -> CommandParser:
    """Options that the steps on prepared clips have: those of :func:`work_parser` and ``--root``."""
    parser = work_parser(description, networks)
    parser.add_argument("--root", type=Path, required=True, help="folder of the prepared clips")
    return parser


def work_parser(description: str, networks: bool = False) -> CommandParser:
    """Options that every step has: ``--work`` and who does the work.

    Args:
        description: of the command.
        networks: whether its work belongs on GPUs.
    """
    parser = CommandParser(description=description)
    parser.add_argument("--work", type=Path, required=True, help="folder for what the steps hand on")
    add_crew(parser, networks)
    return parser


def _rejects_path(folder: Path, step: str) -> Path:
    return folder / "rejects" / f"{step}.csv"


@contextmanager
def _reject_file(folder: Path, step: str, before: dict[str, str]) -> Iterator[Callable[[str, str], None]]:
    """Give a function that adds a line; the file is there after the first one."""
    path = _rejects_path(folder, step)
    if path.is_file():
        _write_rejects(folder, step, before)  # what a killed run began to write would spoil the next line

    def add(name: str, reason: str) -> None:
        if not path.is_file():
            _write_rejects(folder, step, {})
        with path.open("a", newline="", encoding="utf-8") as handle:
            csv.writer(handle).writerow([name, reason])

    yield add


def _write_rejects(folder: Path, step: str, rejects: dict[str, str]) -> None:
    path = _rejects_path(folder, step)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        writer.writerows(sorted(rejects.items()))

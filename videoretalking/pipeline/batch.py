"""Many jobs from one list; one bad input does not stop the others."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videoretalking.core.errors import UserError
from videoretalking.core.files import canonical

if TYPE_CHECKING:
    from videoretalking.pipeline.retalker import Retalker

logger = logging.getLogger(__name__)

COLUMNS = ("face", "audio", "outfile")


@dataclass(frozen=True)
class BatchJob:
    """One line of the list.

    Attributes:
        face: video or image.
        audio: file with the speech.
        outfile: result.
    """

    face: str
    audio: str
    outfile: str


def read_jobs(path: str | Path) -> list[BatchJob]:
    """Read a CSV file with the columns face, audio and outfile, named in its first line.

    Raises:
        UserError: unreadable file, missing columns, empty cells, two jobs with one result, or a result that is an
            input of some job.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--batch {path} cannot be read: {error}") from None
    if not rows:
        raise UserError(f"--batch {path} holds no jobs below a first line with {', '.join(COLUMNS)}")
    absent = [name for name in COLUMNS if name not in rows[0]]
    if absent:
        raise UserError(f"--batch {path} lacks the columns {', '.join(absent)} in its first line")
    jobs = []
    for line, row in enumerate(rows, start=2):
        cells = [(row[name] or "").strip() for name in COLUMNS]
        if not all(cells):
            raise UserError(f"--batch {path}, line {line}: face, audio and outfile are all needed")
        jobs.append(BatchJob(*cells))
    _check_results(path, jobs)
    return jobs


def _check_results(path: str | Path, jobs: Sequence[BatchJob]) -> None:
    """Refuse lists in which a result replaces another one or an input, whatever the spelling of the paths."""
    inputs = {canonical(name) for job in jobs for name in (job.face, job.audio)}
    results: set[str] = set()
    for job in jobs:
        result = canonical(job.outfile)
        if result in inputs:
            raise UserError(f"--batch {path}: {job.outfile} is an input and a result, rename one")
        if result in results:
            raise UserError(f"--batch {path}: several jobs write {job.outfile}")
        results.add(result)


def run_jobs(retalker: Retalker, jobs: Sequence[BatchJob], report_dir: Path | None = None) -> list[str]:
    """Run all jobs.

    Args:
        retalker: with loaded networks.
        jobs: what to do.
        report_dir: folder for one report a job (:func:`report_names`); None writes none.

    Returns:
        One line for each job that failed.
    """
    failures = []
    names = report_names(jobs)
    for number, job in enumerate(jobs, start=1):
        logger.info("job %d of %d: %s", number, len(jobs), job.outfile)
        try:
            report = retalker.dub(job.face, job.audio, job.outfile)
            if report_dir is not None:
                report.save(report_dir / names[number - 1])
        except UserError as error:
            failures.append(f"{job.outfile}: {error}")
        except Exception as error:  # whatever it is, the other jobs have nothing to do with it
            logger.debug("%s failed", job.outfile, exc_info=True)
            reason = " ".join(str(error).split()) or "no reason given"
            failures.append(f"{job.outfile}: unexpected {type(error).__name__}: {reason}")
        else:
            continue
        logger.error("%s", failures[-1])
    return failures


def report_names(jobs: Sequence[BatchJob]) -> list[str]:
    """One file name a job: that of its result with ``.json``; where several results share it, ``-2``, ``-3`` ...

    The first job of the list keeps the plain name. Upper and lower case count as one, as on some file systems.
    """
    names: list[str] = []
    for job in jobs:
        stem = name = Path(job.outfile).stem
        taken = {other.casefold() for other in names}
        number = 1
        while f"{name}.json".casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        names.append(f"{name}.json")
    return names

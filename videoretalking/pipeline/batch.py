"""Many jobs from one list; one bad input does not stop the others."""

from __future__ import annotations

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from videoretalking.core.errors import UserError
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
        UserError: unreadable file, missing columns, empty cells, or two jobs with one result.
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
    results = [job.outfile for job in jobs]
    twice = sorted({name for name in results if results.count(name) > 1})
    if twice:
        raise UserError(f"--batch {path}: several jobs write {', '.join(twice)}")
    return jobs


def run_jobs(retalker: Retalker, jobs: Sequence[BatchJob], report_dir: Path | None = None) -> list[str]:
    """Run all jobs.

    Args:
        retalker: with loaded networks.
        jobs: what to do.
        report_dir: folder for one report a job; None writes none.

    Returns:
        One line for each job that failed.
    """
    failures = []
    for number, job in enumerate(jobs, start=1):
        logger.info("job %d of %d: %s", number, len(jobs), job.outfile)
        try:
            report = retalker.dub(job.face, job.audio, job.outfile)
            if report_dir is not None:
                report.save(report_dir / f"{Path(job.outfile).stem}.json")
        except UserError as error:
            logger.error("%s: %s", job.outfile, error)
            failures.append(f"{job.outfile}: {error}")
    return failures

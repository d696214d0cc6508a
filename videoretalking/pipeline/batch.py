"""Many jobs from one list; one bad input does not stop the others."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from videoretalking.core.cluster import run_on_ray, whole_gpus
from videoretalking.core.errors import UserError
from videoretalking.core.files import canonical

if TYPE_CHECKING:
    from videoretalking.pipeline.config import InferenceConfig
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

    @property
    def name(self) -> str:
        """How messages call the job."""
        return self.outfile


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
    reports = _report_paths(jobs, report_dir)
    for number, job in enumerate(jobs, start=1):
        logger.info("job %d of %d: %s", number, len(jobs), job.outfile)
        failure = _run_job(retalker, reports, job)
        if failure:
            failures.append(failure)
            logger.error("%s", failure)
    return failures


def run_jobs_on_ray(config: InferenceConfig, jobs: Sequence[BatchJob], report_dir: Path | None) -> list[str]:
    """Run all jobs on a Ray cluster, on its GPUs if it has any; see :func:`core.cluster.run_on_ray`.

    Args:
        config: of the main job.
        jobs: what to do; all machines see the files under the same paths.
        report_dir: see :func:`run_jobs`.

    Returns:
        One line for each job that failed.
    """
    build = partial(_build_worker, config, _report_paths(jobs, report_dir))
    failures = []
    for number, result in enumerate(run_on_ray(build, jobs, gpus_per_worker=whole_gpus()), start=1):
        failure = result.value if not result.died else f"{result.item.outfile}: its process died at every try"
        logger.info("%d of %d: %s", number, len(jobs), failure or result.item.outfile)
        if failure:
            failures.append(failure)
    return failures


def _build_worker(
    config: InferenceConfig, reports: Mapping[str, Path], device: str
) -> Callable[[BatchJob], str]:
    from videoretalking.pipeline.retalker import Retalker  # imports PyTorch

    return partial(_run_job, Retalker.from_pretrained(config), reports)


def _run_job(retalker: Retalker, reports: Mapping[str, Path], job: BatchJob) -> str:
    """Run one job; returns nothing or why it failed."""
    try:
        report = retalker.dub(job.face, job.audio, job.outfile)
        if job.outfile in reports:
            report.save(reports[job.outfile])
    except UserError as error:
        return f"{job.outfile}: {error}"
    except Exception as error:  # whatever it is, the other jobs have nothing to do with it
        logger.debug("%s failed", job.outfile, exc_info=True)
        reason = " ".join(str(error).split()) or "no reason given"
        return f"{job.outfile}: unexpected {type(error).__name__}: {reason}"
    return ""


def _report_paths(jobs: Sequence[BatchJob], report_dir: Path | None) -> dict[str, Path]:
    """Result -> its report; empty without a folder."""
    if report_dir is None:
        return {}
    pairs = zip(jobs, report_names(jobs), strict=True)
    return {job.outfile: report_dir / name for job, name in pairs}


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

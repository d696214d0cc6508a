"""Make the face of a video speak the words of an audio file.

    python inference.py --face VIDEO --audio SPEECH --outfile RESULT

``--help`` lists all flags; the flags of the published program and of Wav2Lip work too. From Python use
:class:`pipeline.Retalker`.
"""

from __future__ import annotations

from pathlib import Path

from videoretalking.core.errors import UserError, run_command
from videoretalking.pipeline import Retalker
from videoretalking.pipeline.batch import read_jobs, run_jobs
from videoretalking.pipeline.flags import parse


def main() -> None:
    """Command line."""
    job = parse()
    if job.batch is not None:
        jobs = read_jobs(job.batch)
        report_dir = None if job.report is None else Path(job.report)
        failures = run_jobs(Retalker.from_pretrained(job.config), jobs, report_dir)
        if failures:
            raise UserError(f"{len(failures)} of {len(jobs)} jobs failed: " + "; ".join(failures))
        return
    assert job.face is not None and job.audio is not None  # parse() refuses anything else
    report = Retalker.from_pretrained(job.config).dub(job.face, job.audio, job.outfile)
    if job.report is not None:
        report.save(job.report)


if __name__ == "__main__":
    run_command(main)

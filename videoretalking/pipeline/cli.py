"""The main job from the command line: ``python inference.py``, or ``videoretalking dub`` from anywhere.

Mistakes are found before PyTorch is loaded, which takes seconds: this module imports it last.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from videoretalking.core.config import to_dict
from videoretalking.core.errors import UserError
from videoretalking.core.expressions import EXPRESSION_TEMPLATES
from videoretalking.core.files import check_output
from videoretalking.core.locations import find_file, find_weights
from videoretalking.media.formats import check_format
from videoretalking.pipeline.batch import read_jobs, run_jobs, run_jobs_on_ray
from videoretalking.pipeline.flags import FLAGS, CommandLine, make_job, read_flags
from videoretalking.pipeline.making import check_provenance

_INPUTS = ("face", "audio", "batch", "config")
_FILE_FLAGS = tuple(flag for flag in FLAGS if flag.metavar == "FILE")
_FAMILIES = ("auto", "official", "demo")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line.

    Args:
        arguments: without the program's name; None reads ``sys.argv``.
    """
    values = read_flags(arguments)
    given = _given_files(values)
    require_inputs(given, values.get("weights", "auto"))
    job = make_job(values)
    if job.quiet:
        logging.getLogger().setLevel(logging.WARNING)
        os.environ["TQDM_DISABLE"] = "1"
    inputs = {**given, **_config_files(job)}
    require_inputs(inputs, job.config.weights.family)
    if job.batch is None:
        check_outputs(job, inputs)
        _dub(job)
    else:
        _dub_many(job, job.batch)


def require_inputs(files: Mapping[str, str], family: str) -> None:
    """Make sure that all inputs are there.

    Args:
        files: flag or config key -> path.
        family: of the weights: a known one or a folder.

    Raises:
        UserError: some are not; the message names all of them.
    """
    missing = [
        f"{name} {path} {_problem(name, path)}" for name, path in files.items() if _problem(name, path)
    ]
    if family not in _FAMILIES and not Path(family).is_dir():
        missing.append(f"--weights {family} is neither {', '.join(_FAMILIES)} nor a folder")
    if missing:
        raise UserError("; ".join(missing))


def check_outputs(job: CommandLine, inputs: Mapping[str, str]) -> None:
    """Make sure that result and report can be written and replace nothing that is needed.

    Raises:
        UserError: see :func:`media.formats.check_format`, :func:`pipeline.making.check_provenance` and
            :func:`core.files.check_output`.
    """
    assert job.face is not None and job.audio is not None  # make_job() refuses anything else
    output = job.config.output
    check_format(job.outfile, output.codec, output.quality)
    check_provenance(output, job.outfile)
    check_output(job.outfile, "--outfile", inputs)
    if job.report is not None:
        check_output(job.report, "--report", {**inputs, "--outfile": job.outfile})


def _dub(job: CommandLine) -> None:
    from videoretalking.pipeline.retalker import Retalker

    assert job.face is not None and job.audio is not None
    report = Retalker.from_pretrained(job.config).dub(job.face, job.audio, job.outfile)
    if job.report is not None:
        report.save(job.report)


def _dub_many(job: CommandLine, batch: str) -> None:
    jobs = read_jobs(batch)
    report_dir = None if job.report is None else Path(job.report)
    if report_dir is not None and report_dir.exists() and not report_dir.is_dir():
        raise UserError(f"--report {report_dir} is no folder: --batch writes one report a job into a folder")
    if job.cluster:
        failures = run_jobs_on_ray(job.config, jobs, report_dir)
    else:
        from videoretalking.pipeline.retalker import Retalker

        failures = run_jobs(Retalker.from_pretrained(job.config), jobs, report_dir)
    if failures:
        raise UserError(f"{len(failures)} of {len(jobs)} jobs failed: " + "; ".join(failures))


def _given_files(values: Mapping[str, Any]) -> dict[str, str]:
    """Flag -> file that must exist, of those on the command line."""
    files = {f"--{name}": values[name] for name in _INPUTS if name in values}
    for flag in _FILE_FLAGS:
        value = values.get(flag.names[0].replace("-", "_"))
        if value is not None:
            files[f"--{flag.names[0]}"] = value
    return files


def _config_files(job: CommandLine) -> dict[str, str]:
    """Config key -> file that must exist, wherever the value comes from."""
    values = to_dict(job.config)
    keys = {flag.key: flag.key.split(".") for flag in _FILE_FLAGS}
    return {
        key: values[group][name] for key, (group, name) in keys.items() if values[group][name] is not None
    }


def _problem(name: str, value: str) -> str:
    """What keeps an input from being read; empty if nothing does, or if it names a template or known weights."""
    if name in ("--exp-img", "render.expression") and value in EXPRESSION_TEMPLATES:
        return ""
    try:
        path = find_file(value)
        if path.is_file() or find_weights(f"{value}.safetensors") is not None:
            return ""
        return "is a folder" if path.is_dir() else "does not exist"
    except (OSError, ValueError) as error:
        return f"is no possible name ({getattr(error, 'strerror', None) or error})"

"""The main job end to end, as ``inference.py`` runs it: what it costs, whole and by stage, and what it computes in.

Each job runs in a process of its own, so that memory and the state of the C library are those of the command.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videoretalking.core.devices import cpu_threads, keep_freed_memory
from videoretalking.core.locations import user_folder
from videoretalking.pipeline.engine import FORMATS, Engine
from videoretalking.pipeline.flags import parse
from videoretalking.pipeline.report import Report
from videoretalking.pipeline.retalker import Retalker
from videoretalking.pipeline.stream import Stopwatch
from videoretalking.pipeline.verdicts import forget_verdicts
from videoretalking.scripts.benchmark.accounting import (
    REST,
    Account,
    Arrivals,
    Usage,
    peak_memory,
    reset_peak,
    usage_of_all,
)
from videoretalking.scripts.benchmark.material import Clip, make_clip
from videoretalking.scripts.benchmark.operators import Probe, Work, threads_of

logger = logging.getLogger(__name__)

_WARM_SIZE = (256, 256)
_ACCOUNTED = 160  # frames at most, since under an account one stage waits for the other
_PROBED = 8  # frames at least, a multiple of those between two encodings of the identity


@dataclass(frozen=True)
class Case:
    """One video.

    Attributes:
        name: of the row in the results.
        size: width and height.
        frames: of the video.
        restore: run the mouth restorer if its weights are there.
    """

    name: str
    size: tuple[int, int]
    frames: int
    restore: bool = True


@dataclass(frozen=True)
class Job:
    """One way of running the main job, for several videos with the networks loaded once.

    Attributes:
        name: in messages.
        weights: what ``--weights`` takes.
        cases: the videos; memory that is kept from one counts for the next.
        flags: further flags of ``inference.py``.
        plain: keep to the C library's own ways with memory, as any other program would.
        stages: run once more for the account of the stages, and look at the operators unless they are compiled.
    """

    name: str
    weights: str
    cases: Sequence[Case]
    flags: Sequence[str] = ()
    plain: bool = False
    stages: bool = True


@dataclass
class Outcome:
    """What came of a job.

    Attributes:
        engine: in words.
        batch_size: of the engine.
        dtype: of the engine.
        load_seconds: from nothing to a loaded program, Python's own start left out.
        cold_first_frame_seconds: of the first job, with all that happens once: the choice of formats, kernels.
        loaded_memory: peak of memory up to there.
        cold_memory: peak of memory up to the end of the first job.
        runs: one for each video.
    """

    engine: str
    batch_size: int
    dtype: str
    load_seconds: float
    loaded_memory: dict[str, float]
    cold_first_frame_seconds: float = 0.0
    cold_memory: dict[str, float] = field(default_factory=dict)
    runs: list[dict[str, Any]] = field(default_factory=list)


def measure(job: Job, peaks: dict[str, float], deadline: float = float("inf")) -> Outcome:
    """Run all videos of a job.

    Args:
        job: what to run.
        peaks: FLOP a second by format, for the floor; empty leaves it out.
        deadline: reading of ``time.monotonic``; no video begins that would not be done by then if it took as long
            as the one before.
    """
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        retalker = _load(job, folder)
        if job.plain:
            keep_freed_memory(False)
            stack.callback(keep_freed_memory)
        engine = retalker.networks.engine
        dtype = str(engine.dtype).removeprefix("torch.")
        loaded = time.perf_counter() - start
        outcome = Outcome(str(engine), engine.batch_size, dtype, loaded, peak_memory(engine.device))
        warm = make_clip(folder, *_WARM_SIZE, engine.batch_size)  # decides about int8
        arrivals = Arrivals()
        begin = time.perf_counter()
        _dub(retalker, warm, folder, arrivals)
        outcome.cold_first_frame_seconds = arrivals.times[0] - begin
        outcome.cold_memory = peak_memory(engine.device)
        last = 0.0
        render = retalker.config.render
        for case in job.cases:
            facts: dict[str, Any] = {"name": case.name, "size": list(case.size)}
            outcome.runs.append(facts)
            if time.monotonic() + last > deadline:
                facts["skipped"] = True
                continue
            begin = time.monotonic()
            restore = render.restore if case.restore else 0.0
            retalker.config = replace(retalker.config, render=replace(render, restore=restore))
            clip = make_clip(folder, *case.size, case.frames)
            facts |= run_once(retalker, clip, folder)
            if job.stages:
                few = make_clip(folder, *case.size, min(case.frames, _ACCOUNTED))
                facts |= account_for(retalker, few, folder)
            last = time.monotonic() - begin
        if job.stages and not engine.compiled:  # last, since looking on changes what memory is needed
            retalker.config = replace(retalker.config, render=render)
            probed = make_clip(folder, *_WARM_SIZE, max(_PROBED, engine.batch_size))
            add_work(outcome.runs, _probe(retalker, probed, folder), probed.frames, engine, peaks)
    return outcome


def calibrate(job: Job) -> int:
    """Forget which number formats were chosen on this machine, and choose anew; how many verdicts there are then.

    Args:
        job: weights and flags; its cases are not run.
    """
    folder = user_folder() / FORMATS
    forget_verdicts(folder)
    with tempfile.TemporaryDirectory() as name:
        retalker = _load(job, Path(name))
        clip = make_clip(Path(name), *_WARM_SIZE, retalker.networks.engine.batch_size)
        _dub(retalker, clip, Path(name), Stopwatch())
    count = len(list(folder.iterdir())) if folder.is_dir() else 0
    print(f"{count} networks: their number formats are in {folder}", flush=True)
    return count


def run_once(retalker: Retalker, clip: Clip, folder: Path) -> dict[str, Any]:
    """What a dub costs as a whole, as it runs for a user."""
    device = retalker.networks.engine.device
    reset_peak(device)
    arrivals = Arrivals()
    before = usage_of_all()
    report = _dub(retalker, clip, folder, arrivals)
    used = usage_of_all() - before
    chunk = retalker.networks.engine.batch_size
    frames, times = len(report.frames), arrivals.times
    # from the end of the first chunk to that of the last, as frames come in chunks
    steady = (frames - chunk) / (times[frames - 1] - times[chunk - 1]) if frames > chunk else None
    return {
        "frames": frames,
        "frames_per_second": frames / used.wall,
        "pass_2_frames_per_second": frames / report.seconds["render"],
        "steady_frames_per_second": steady,
        "first_frame_seconds": times[0] - before.wall,
        "wall_seconds_a_frame": used.wall / frames,
        "cpu_seconds_a_frame": used.cpu / frames,
        "system_share": used.system / used.cpu,
        "page_faults_a_frame": used.faults / frames,
        "peak_memory": peak_memory(device),
    }


def account_for(retalker: Retalker, clip: Clip, folder: Path) -> dict[str, Any]:
    """The stages of a dub, which add up to the whole."""
    account = Account(retalker.networks.engine.device)
    retalker.in_turn = True  # or what pass 1 does ahead would be booked for the stages of pass 2
    with account.running():
        report = _dub(retalker, clip, folder, account)
    retalker.in_turn = False
    frames, total = len(report.frames), account.total
    stages = sorted(account.spent.items(), key=lambda item: (item[0] == REST, -item[1].cpu))
    return {
        "stages": [_row(stage, spent, total, frames) for stage, spent in stages],
        "accounted": {
            "cpu": total.cpu / frames,
            "wall": total.wall / frames,
            "faults": total.faults / frames,
        },
    }


def add_work(
    runs: Sequence[dict[str, Any]],
    work: Mapping[str, Work],
    frames: int,
    engine: Engine,
    peaks: Mapping[str, float],
) -> None:
    """Add to the stages what they compute and how near they come to the machine's best.

    Args:
        runs: with their stages, changed in place.
        work: of each stage that computes.
        frames: over which.
        engine: of the networks.
        peaks: as for :func:`measure`.
    """
    for row in (row for run in runs for row in run.get("stages", ()) if row["stage"] in work):
        done = work[row["stage"]]
        # CPU-seconds of a stage are its own also where other programs compete for the machine
        taken = row["cpu"] / threads_of(engine.device) if engine.device.type == "cpu" else row["wall"]
        floor = done.floor(peaks) / frames
        row |= {"gflop": done.total / frames / 1e9, "floor": floor, "floor_share": floor / taken}
        row["runs_in"] = done.describe()


def _row(stage: str, spent: Usage, total: Usage, frames: int) -> dict[str, Any]:
    return {
        "stage": stage,
        "cpu": spent.cpu / frames,
        "wall": spent.wall / frames,
        "cpu_share": spent.cpu / total.cpu,
        "wall_share": spent.wall / total.wall,
        "system_share": spent.system / spent.cpu if spent.cpu else 0.0,
        "page_faults": spent.faults / frames,
    }


def _load(job: Job, folder: Path) -> Retalker:
    """The program as its command line loads it; nothing is taken from the cache of face tracks."""
    files = ["--face", "-", "--audio", "-", "--cache-dir", str(folder / "tracks"), "--refresh"]
    command = parse([*files, "--weights", job.weights, *job.flags])
    return Retalker.from_pretrained(command.config)


def _probe(retalker: Retalker, clip: Clip, folder: Path) -> dict[str, Work]:
    probe = Probe()
    with cpu_threads(1):  # it does not see what a stage computes in other threads
        _dub(retalker, clip, folder, probe)
    return probe.work


def _dub(retalker: Retalker, clip: Clip, folder: Path, stopwatch: Stopwatch) -> Report:
    retalker.stopwatch = stopwatch
    report = retalker.dub(clip.video, clip.audio, folder / "result.mp4")
    retalker.stopwatch = None
    if len(report.frames) != clip.frames or not all(frame.faces for frame in report.frames):
        logger.warning("%s: not every frame was painted, so the figures are too good", clip.video.name)
    return report

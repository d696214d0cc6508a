"""Speed and memory of the main job: ``python -m scripts.benchmark --json speed.json --plot speed.png``.

End to end first: the real dub of the bundled example at several sizes, by networks as large as the released ones
with random weights, and by the bundled weights; its stages, which add up to the whole; then network by network
against a plain program. Nothing licensed is needed. ``docs/speed.md`` explains the figures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from videoretalking import __version__
from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.devices import DTYPES
from videoretalking.core.errors import run_command
from videoretalking.core.files import atomic_path, check_output
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.scripts.benchmark.dub import Case, Job, calibrate, measure
from videoretalking.scripts.benchmark.exactness import compare_dubs, summary
from videoretalking.scripts.benchmark.material import FPS, released_size_weights
from videoretalking.scripts.benchmark.networks import CHAIN, NETWORKS, measure_networks
from videoretalking.scripts.benchmark.operators import measure_peaks
from videoretalking.scripts.benchmark.processes import ProcessDied, in_own_process
from videoretalking.scripts.benchmark.tables import draw, print_network, print_run

PARTS = ("released", "bundled", "networks")
SIZES = ((256, 256), (1280, 720), (1920, 1080))  # on a GPU the largest comes first, since time may end there
BUNDLED_SIZE = (640, 360)
GROWTH_SECONDS = (30, 120, 600)
_EXACT_FRAMES = 25
# Frames of a run: on a GPU what lasts some seconds, on a CPU what a patient user waits for.
_FRAMES = {"cuda": {"released": 750, "bundled": 750, "baseline": 16}}
_FRAMES_ON_CPU = {"released": 12, "bundled": 150, "baseline": 4}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line.

    Returns:
        1 if a part failed, which has said why; what the others gave is written all the same.
    """
    options = _options(arguments)
    if options.json:
        check_output(options.json, "--json", {})
    if options.plot:
        check_output(options.plot, "--plot", {"--json": options.json} if options.json else {})
    deadline = time.monotonic() + 60.0 * options.minutes if options.minutes else math.inf
    runtime = RuntimeConfig(options.device, options.dtype, options.batch_size, options.compile)
    engine = Engine.from_config(runtime)
    if options.calibrate:
        flags = (
            "--device",
            options.device,
            "--dtype",
            options.dtype,
            "--batch-size",
            str(options.batch_size),
        )
        in_own_process(calibrate, Job("calibrate", options.weights or "auto", (), flags))
        return 0
    results: dict[str, Any] = {
        "version": __version__,
        "machine": _machine(engine.device),
        "engine": str(engine),
        "peaks": in_own_process(measure_peaks, runtime),
        "runs": [],
        "skipped": [],
        "failed": [],
    }
    print(f"{results['machine']['device']}, {torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    print(f"as shipped: {engine}")
    best = ", ".join(f"{name} {peak / 1e9:.0f} GFLOP/s" for name, peak in results["peaks"].items())
    print(f"at best: {best}", flush=True)
    parts = {job.name: partial(_run, job, results) for job in _jobs(options, engine.device)}
    if "networks" in options.parts:
        parts["networks"] = partial(_run_networks, options, runtime, results)
    if options.exact:
        parts["exactness"] = partial(_run_exactness, options, results)
    if options.growth is not None:
        for seconds in sorted(options.growth or GROWTH_SECONDS):
            parts[f"growth {seconds} s"] = partial(_run_growth, seconds, options, results)
    for name, run in parts.items():
        if time.monotonic() > deadline:
            results["skipped"].append(name)
            continue
        try:
            run(deadline)
        except ProcessDied as error:
            print(f"{name}: {error}", flush=True)
            results["failed"].append(name)
        _save(options, results)
    _save(options, results)
    if results["skipped"]:
        print("no time left for: " + "; ".join(results["skipped"]))
    return 1 if results["failed"] else 0


def _save(options: argparse.Namespace, results: dict[str, Any]) -> None:
    """What there is so far, so that nothing is lost if the program is ended."""
    if options.json:
        with atomic_path(options.json) as temporary:
            temporary.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if options.plot and any(run.get("stages") for run in results["runs"]):
        draw(options.plot, results)


def _options(arguments: Sequence[str] | None) -> Any:
    parser = CommandParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the stages as PNG")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPES])
    parser.add_argument("--batch-size", type=int, default=0, help="0 takes the engine's")
    parser.add_argument("--compile", action="store_true", help="torch.compile the networks")
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument(
        "--sizes", nargs="+", type=_size, metavar="WIDTHxHEIGHT",
        help=f"of the part released (default: {' '.join(f'{width}x{height}' for width, height in SIZES)})",
    )  # fmt: skip
    parser.add_argument("--frames", type=positive, help="of each end-to-end run (default: by device)")
    parser.add_argument(
        "--weights", metavar="FOLDER", help="for the part released, instead of random ones of those sizes; for "
        "--exact and --calibrate, instead of those that inference.py takes",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", action="store_true",
        help="choose the number formats on this machine anew, for later runs to find, and do nothing else",
    )  # fmt: skip
    parser.add_argument(
        "--exact", nargs="+", type=Path, metavar="CLIP",
        help="dub these clips also in float32 with one face at a time, and say how near both are",
    )  # fmt: skip
    parser.add_argument(
        "--no-restore", action="store_true", help="the largest size also without the mouth restorer"
    )
    parser.add_argument(
        "--baseline", action="store_true", help="end to end also in float32, batch 1, the memory left alone"
    )
    parser.add_argument(
        "--growth", nargs="*", type=positive, metavar="SECONDS",
        help="memory over the length of the video, at the last of --sizes or else 640x360 (default: "
        f"{' '.join(map(str, GROWTH_SECONDS))})",
    )  # fmt: skip
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--repeats", type=positive, default=2, help="calls of a network, the best counts")
    parser.add_argument("--minutes", type=float, help="begin nothing that would not be done by then")
    return parser.parse_args(arguments)


def _jobs(options: argparse.Namespace, device: torch.device) -> list[Job]:
    """End to end, the most important first."""
    flags = ["--device", str(device), "--batch-size", str(options.batch_size)]
    flags += ["--compile"] if options.compile else []
    counts = _FRAMES.get(device.type, _FRAMES_ON_CPU)
    frames = {kind: options.frames or count for kind, count in counts.items()}
    own = ["--dtype", options.dtype]
    jobs = []
    if "released" in options.parts:
        sizes = options.sizes or (SIZES[::-1] if device.type == "cuda" else SIZES)
        weights = options.weights or str(released_size_weights())
        cases = [Case("released", size, frames["released"]) for size in sizes]
        if options.no_restore:
            largest = max(range(len(sizes)), key=lambda place: math.prod(sizes[place]))
            without = Case("released, no restorer", sizes[largest], frames["released"], restore=False)
            cases.insert(largest + 1, without)
        jobs.append(Job("released", weights, cases, (*flags, *own)))
        if options.baseline:
            plain = ("--device", str(device), "--dtype", "float32", "--batch-size", "1")
            count = min(frames["baseline"], frames["released"])
            cases = [Case("released, plain", size, count) for size in sizes]
            jobs.append(Job("released, plain", weights, cases, plain, plain=True, stages=False))
    if "bundled" in options.parts:
        fast = ("--preset", "fast", *flags)
        for name, dtype in (("bundled, fast", own), ("bundled, fast, float32", ["--dtype", "float32"])):
            case = Case(name, BUNDLED_SIZE, frames["bundled"])
            jobs.append(Job(name, "demo", [case], (*fast, *dtype)))
    return jobs


def _run(job: Job, results: dict[str, Any], deadline: float) -> None:
    outcome = in_own_process(measure, job, results["peaks"], deadline)
    facts = {key: value for key, value in asdict(outcome).items() if key != "runs"}
    for run in outcome.runs:
        if run.get("skipped"):
            results["skipped"].append(f"{run['name']} {'x'.join(map(str, run['size']))}")
            continue
        run = {"weights": job.weights, "flags": list(job.flags), **facts, **run}
        results["runs"].append(run)
        print_run(run)


def _run_networks(
    options: argparse.Namespace, runtime: RuntimeConfig, results: dict[str, Any], deadline: float
) -> None:
    arguments = (runtime, tuple(options.networks), options.repeats, results["peaks"], deadline)
    rows = in_own_process(measure_networks, *arguments)
    results["skipped"] += [row["name"] for row in rows if row.get("skipped")]
    measured = [row for row in rows if not row.get("skipped")]
    results["chain"] = next((row for row in measured if row["name"] == CHAIN), None)
    results["networks"] = [row for row in measured if row["name"] != CHAIN]
    print_network(None)
    for row in measured:
        print_network(row)


def _run_exactness(options: argparse.Namespace, results: dict[str, Any], deadline: float) -> None:
    """Of the defaults, with the weights that inference.py takes unless others are named."""
    flags = ("--device", options.device, "--dtype", options.dtype, "--batch-size", str(options.batch_size))
    arguments = (options.exact, options.frames or _EXACT_FRAMES, options.weights or "auto", flags)
    rows = in_own_process(compare_dubs, *arguments)
    results["exactness"] = rows
    print(f"\n{'clip':<28}{'frames':>7}{'whole dB':>10}{'face dB':>9}{'worst frame':>13}{'most levels':>13}")
    for row in rows:
        print(
            f"{row['clip']:<28}{row['frames']:>7}{row['whole']:>10.1f}{row['face']:>9.1f}"
            f"{row['worst_frame']:>13.1f}{row['largest']:>13}"
        )
    if rows:
        least = summary(rows)
        print(
            f"least: {least['whole']:.1f} dB of a picture, {least['face']:.1f} dB of a face, "
            f"{least['worst_frame']:.1f} dB of a frame; faces on the mean {least['mean_face']:.1f} dB",
            flush=True,
        )


def _run_growth(seconds: int, options: argparse.Namespace, results: dict[str, Any], deadline: float) -> None:
    """Memory of the bundled weights; each length in a process of its own."""
    flags = ("--preset", "fast", "--device", options.device, "--dtype", options.dtype)
    case = Case(f"growth {seconds} s", (options.sizes or [BUNDLED_SIZE])[-1], seconds * FPS)
    job = Job(case.name, "demo", [case], flags, stages=False)
    run = in_own_process(measure, job, {}, deadline).runs[0]
    results.setdefault("growth", []).append({"seconds": seconds, **run})
    memory = ", ".join(f"{key} {value:.2f}" for key, value in run["peak_memory"].items())
    print(f"{seconds:>5} s of video: {memory}, {run['frames_per_second']:.1f} frames/s", flush=True)


def _machine(device: torch.device) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": list(os.getloadavg()) if hasattr(os, "getloadavg") else [],
    }
    if device.type == "cuda":
        facts["device"] = torch.cuda.get_device_name(device)
        facts["tf32"] = {
            "convolutions": torch.backends.cudnn.allow_tf32,
            "matrix products": torch.backends.cuda.matmul.allow_tf32,
        }
    else:
        facts["device"] = _cpu_name() or facts["device"]
    return facts


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    flags = [flag for flag in ("avx512_vnni", "amx_bf16", "amx_int8") if flag in text]
    name = next((line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line), "")
    return f"{name} ({', '.join(flags)})" if flags else name


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 1280x720")
    return int(width), int(height)


if __name__ == "__main__":
    run_command(main)

"""Everything that a GPU has to show, in one call of four minutes: ``python -m scripts.gpu_check --output DIR``.

The tests that compare it with the CPU, the benchmark, and a profile of the main job at 1080p run one after the
other, each in a process of its own with a time limit, so that a crash of one costs only its own figures. ``DIR``
receives ``gpu_check.json`` and ``gpu_check.md``, and in ``DIR/logs`` what the parts printed. With ``--quick`` and
``--device cpu`` the same code runs in small, which shows on any machine that the call itself is sound.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from videoretalking import __version__
from videoretalking.core.commands import CommandParser
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path, check_folder
from videoretalking.core.locations import ROOT

PARTS = ("tests", "benchmark", "profile")
# Modules that the parts import, some of them deep inside, and that a bare GPU machine lacks.
_IMPORTED = (
    "av", "cffi", "cv2", "jsonargparse", "librosa", "lpips", "numba", "pooch", "pytest", "requests", "safetensors",
    "scipy", "skimage", "soundfile", "tensorboard", "torchvision", "tqdm", "yaml",
)  # fmt: skip
_PROGRAM = "videoretalking.scripts.gpu_check"
_DEVICE_VARIABLE = "VIDEORETALKING_GPU_TEST_DEVICE"
# Parts of the whole time: the tests are cut at theirs, the profile's is kept free while the benchmark runs.
_TESTS, _PROFILE = 0.45, 0.23
# Those of what is the same on both devices stand beside the tests of the CPU.
_ALL_TESTS = (
    "tests/gpu",
    "tests/faces/test_recon_torch.py",
    "tests/pipeline/test_raster.py",
    "tests/provenance/test_tensor_mark.py",
)
_QUICK_TESTS = ("tests/gpu/test_gpu_data.py",)
_KEPT_LINES = 40  # of a part's output, in the JSON file
_LEAST_CORES = 8  # for several processes of tests on one GPU
_WORD = "PASSED|FAILED|SKIPPED|ERROR"
# "tests/a.py::test_b[c] PASSED" of one process, "[gw1] PASSED tests/a.py::test_b[c]" of several
_RESULT = re.compile(rf"(tests/\S+::.*?)(?= (?:{_WORD})) ({_WORD})|\] ({_WORD}) (tests/\S+::.*)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 where every wanted part went well."""
    options = _options(arguments)
    if options.profile_into:
        from videoretalking.scripts.gpu_profile import profile_job

        figures = profile_job(choose_device(options.device), options.quick)
        _write_json(options.profile_into, figures)
        return 0
    check_folder(options.output, "--output")
    if problems := cannot_import(_IMPORTED):
        raise UserError(
            f"{'; '.join(problems)}: install requirements.txt and pytest first, for the parts need them"
        )
    (options.output / "logs").mkdir(parents=True, exist_ok=True)
    device = choose_device(options.device)
    started = time.monotonic()
    seconds = 60.0 * options.minutes
    results: dict[str, Any] = {"machine": describe_machine(device), "minutes": options.minutes, "parts": {}}
    with tempfile.TemporaryDirectory() as folder:
        for part in (part for part in PARTS if part in options.parts):
            left = seconds - (time.monotonic() - started)
            limit = _limit(part, left, seconds, options.parts)
            if limit < 5.0:
                results["parts"][part] = {"status": "no time left", "seconds": 0.0}
            else:
                print(f"{part}: {limit:.0f} s at most", flush=True)
                results["parts"][part] = _run_part(part, options, limit, Path(folder))
            results["seconds"] = round(time.monotonic() - started, 1)
            # after every part, so that a machine that is taken away leaves what there is
            _write_json(options.output / "gpu_check.json", results)
            with atomic_path(options.output / "gpu_check.md") as temporary:
                temporary.write_text(as_markdown(results), encoding="utf-8")
            print(f"{part}: {results['parts'][part]['status']}", flush=True)
    print(f"figures in {options.output / 'gpu_check.json'} and gpu_check.md")
    return 0 if all(part["status"] == "passed" for part in results["parts"].values()) else 1


def _options(arguments: Sequence[str] | None) -> Any:
    parser = CommandParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("results/gpu_check"), metavar="DIR")
    parser.add_argument("--device", default="cuda", help="cpu tries the call itself, with --quick")
    parser.add_argument("--minutes", type=float, default=4.0, help="for everything (default: 4)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small sizes and few tests")
    parser.add_argument("--profile-into", type=Path, help=argparse.SUPPRESS)  # what the part profile calls
    return parser.parse_args(arguments)


def cannot_import(modules: Sequence[str]) -> list[str]:
    """Which of these modules cannot be imported, and why."""
    problems = []
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # a broken library raises whatever it likes
            problems.append(f"{name} cannot be imported ({error})")
    return problems


def _limit(part: str, left: float, seconds: float, parts: Sequence[str]) -> float:
    """Seconds that a part may take."""
    if part == "tests":
        return min(left, _TESTS * seconds if len(parts) > 1 else left)
    if part == "benchmark" and "profile" in parts:
        return left - _PROFILE * seconds
    return left


def _run_part(part: str, options: Any, limit: float, folder: Path) -> dict[str, Any]:
    """Status, time, figures and the end of the output of one part."""
    into = folder / f"{part}.{'xml' if part == 'tests' else 'json'}"
    command = {"tests": _tests_command, "benchmark": _benchmark_command, "profile": _profile_command}[part]
    log = options.output / "logs" / f"{part}.log"
    started = time.monotonic()
    status = run_limited(command(options, limit, into), log, limit, options.device)
    output = log.read_text(encoding="utf-8", errors="replace").splitlines()
    result: dict[str, Any] = {
        "status": status,
        "seconds": round(time.monotonic() - started, 1),
        "limit": round(limit, 1),
    }
    try:
        result |= read_tests(into, output) if part == "tests" else {"figures": json.loads(into.read_text())}
    except (OSError, ValueError) as error:
        result["status"] = status if status != "passed" else "failed"
        result["problem"] = f"no figures: {error}"
    if part == "tests" and status == "passed" and not result.get("counts", {}).get("passed"):
        result["status"] = "failed (no test ran)"
    return result | {"output": output[-_KEPT_LINES:]}


def _tests_command(options: Any, limit: float, into: Path) -> list[str]:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-m",
        "gpu",
        f"--junitxml={into}",
        "-p",
        "no:cacheprovider",
    ]
    command += ["--durations=15", *(_QUICK_TESTS if options.quick else _ALL_TESTS)]
    cores = os.cpu_count() or 1
    if cores >= _LEAST_CORES and importlib.util.find_spec("xdist") is not None and not options.quick:
        command += ["-n", str(min(8, cores // 2)), "--dist", "worksteal"]
    return command


def _benchmark_command(options: Any, limit: float, into: Path) -> list[str]:
    # it begins nothing that would not be done in time, but its estimates are not exact
    command = [sys.executable, "-m", "videoretalking.scripts.benchmark", "--json", str(into)]
    command += ["--device", options.device, "--minutes", f"{0.8 * limit / 60:.2f}"]
    return command + (["--parts", "bundled", "--frames", "4"] if options.quick else ["--no-restore"])


def _profile_command(options: Any, limit: float, into: Path) -> list[str]:
    command = [sys.executable, "-m", _PROGRAM, "--device", options.device, "--profile-into", str(into)]
    return command + ["--quick"] * options.quick


def run_limited(command: Sequence[str], log: Path, limit: float, device: str) -> str:
    """Run a command with its output in a file; ``passed``, ``failed (status)`` or ``timed out``.

    The command and everything that it started ends with its time.
    """
    environment = os.environ | {_DEVICE_VARIABLE: device, "PYTHONUNBUFFERED": "1"}
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            return "timed out"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return "passed" if status == 0 else f"failed ({status})"


def read_tests(path: Path, output: Sequence[str]) -> dict[str, Any]:
    """Counts, names of what failed, and every figure that the tests recorded.

    Args:
        path: JUnit XML, which pytest writes at its end.
        output: lines of ``pytest -v``, which tell the results of a run that was cut off.
    """
    found = {}
    for line in output:
        if match := _RESULT.search(line):
            alone, word, word_of_worker, of_worker = match.groups()
            found[(alone or of_worker).strip()] = word or word_of_worker
    words = list(found.values())
    result: dict[str, Any] = {
        "counts": {word.lower(): words.count(word) for word in sorted(set(words))},
        "wrong": sorted(name for name, word in found.items() if word in ("FAILED", "ERROR")),
    }
    if path.is_file():
        figures = {}
        for case in ElementTree.parse(path).iter("testcase"):
            recorded = {item.get("name"): item.get("value") for item in case.iter("property")}
            figures[str(case.get("name"))] = recorded | {"seconds": round(float(case.get("time", 0.0)), 2)}
        result["figures"] = figures
    return result


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    machine: dict[str, Any] = {
        "version": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "device": str(device),
    }
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        machine["device"] = facts.name
        machine["memory_gib"] = round(facts.total_memory / 2**30, 1)
        machine["capability"] = f"{facts.major}.{facts.minor}"
        machine["cuda"] = torch.version.cuda
        machine["cudnn"] = torch.backends.cudnn.version()
    return machine


def as_markdown(results: Mapping[str, Any]) -> str:
    """The figures for a reader."""
    machine, parts = results["machine"], results["parts"]
    lines = ["# GPU check", "", ", ".join(f"{key} {value}" for key, value in machine.items()), ""]
    lines += ["| part | status | seconds |", "| --- | --- | --- |"]
    lines += [f"| {name} | {part['status']} | {part['seconds']} |" for name, part in parts.items()]
    for name, write in (("tests", _test_lines), ("benchmark", _benchmark_lines), ("profile", _profile_lines)):
        if name in parts:
            lines += ["", f"## {name.capitalize()}", ""]
            lines += write(parts[name])
            if parts[name]["status"] != "passed":
                lines += ["", "```", *parts[name].get("output", ())[-15:], "```"]
    return "\n".join(lines) + "\n"


def _test_lines(part: Mapping[str, Any]) -> list[str]:
    lines = [", ".join(f"{count} {word}" for word, count in part.get("counts", {}).items())]
    lines += [f"- **{name}**" for name in part.get("wrong", ())]
    lines += ["", "| test | figure | value |", "| --- | --- | --- |"]
    for test, figures in part.get("figures", {}).items():
        lines += [f"| {test} | {name} | {value} |" for name, value in figures.items() if name != "seconds"]
    return lines


def _benchmark_lines(part: Mapping[str, Any]) -> list[str]:
    figures = part.get("figures", {})
    rates = (
        "frames_per_second",
        "pass_2_frames_per_second",
        "steady_frames_per_second",
        "first_frame_seconds",
    )
    runs = ("name", "dtype", "batch_size", "size", "frames", *rates)
    lines = _table(figures.get("runs", ()), runs)
    networks = [row for row in (figures.get("chain"), *figures.get("networks", ())) if row]
    lines += _table(networks, ("name", "parameters", "eager", "shipped", "speedup", "psnr", "floor_share"))
    for word in ("skipped", "failed"):
        if figures.get(word):
            lines += [f"{word}: {', '.join(map(str, figures[word]))}", ""]
    return lines


def _profile_lines(part: Mapping[str, Any]) -> list[str]:
    figures = part.get("figures", {})
    plain = {name: value for name, value in figures.items() if not isinstance(value, (list, dict))}
    lines = [f"- {name}: {_cell(value)}" for name, value in plain.items()]
    for title in ("copies", "waits", "kernels", "operators", "stages"):
        if figures.get(title):
            lines += ["", f"### {title.capitalize()}", "", *_table(figures[title], list(figures[title][0]))]
    return lines


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Lines of a Markdown table and an empty one; none without rows."""
    if not rows:
        return []
    lines = [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return [*lines, *(f"| {' | '.join(_cell(row.get(key)) for key in columns)} |" for row in rows), ""]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value).replace("|", "/")


def _write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

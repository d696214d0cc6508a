"""The command line: its exit codes and that a user never sees a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from media_clips import noise_bursts, write_wav
from tiny_weights import make_tiny_weights

ROOT = Path(__file__).resolve().parent.parent


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "inference.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_help_names_the_main_flags() -> None:
    result = _run("--help")
    assert result.returncode == 0
    for flag in (
        "--face",
        "--audio",
        "--outfile",
        "--preset",
        "--batch",
        "--report",
        "--exp-img",
        "--device",
    ):
        assert flag in result.stdout


def test_a_mistake_is_one_line_and_status_2() -> None:
    result = _run("--face", "examples/portrait.jpg")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1


# The libraries that take seconds to load, and a bound far above the quarter second that help and mistakes need.
LIBRARIES = ("torch", "torchvision", "cv2", "av", "librosa", "scipy")
CPU_SECONDS = 1.5
WATCH = f"""
import resource, sys
from videoretalking.core.errors import run_command
from videoretalking.pipeline.cli import main
try:
    run_command(main)
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(*sorted(set({LIBRARIES}) & sys.modules.keys()), used.ru_utime + used.ru_stime)
"""
EXAMPLE = ("--face", "examples/portrait.jpg", "--audio", "examples/speech.wav")


@pytest.mark.skipif(sys.platform == "win32", reason="no CPU times of processes")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--help",), ""),
        ((), "--face and --audio are needed"),
        ((*EXAMPLE, "--no-such-flag"), "--no-such-flag"),
        ((*EXAMPLE, "--restore", "nan"), "--restore"),
        (("--face", "none.mp4", "--audio", "none.wav"), "--face none.mp4 does not exist; --audio none.wav"),
        ((*EXAMPLE, "--outfile", "results/x.avi"), ".avi"),
        ((*EXAMPLE, "--outfile", "results/x.webm"), "h264"),
        ((*EXAMPLE, "--outfile", "results/x.mp4", "--codec", "ffv1"), "ffv1"),
        ((*EXAMPLE, "--quality", "60"), "quality 60"),
        ((*EXAMPLE, "--report", "results/output.mp4"), "--report"),
        (("--batch", "examples/portrait.jpg"), "--batch"),
    ],
)
def test_mistakes_are_found_before_any_large_library_is_loaded(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = subprocess.run(
        [sys.executable, "-c", WATCH, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    *loaded, seconds = result.stdout.splitlines()[-1].split()
    assert not loaded and float(seconds) < CPU_SECONDS
    assert result.returncode == (2 if words else 0)
    assert words in result.stderr and result.stderr.count("\n") == bool(words)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_terminated_while_it_writes_it_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    arguments = _job(
        tmp_path, "--audio", str(write_wav(tmp_path / "long.wav", noise_bursts(16_000, 20.0), 16_000))
    )
    with _start(arguments, tmp_path / "results") as process:
        process.terminate()
        start = time.monotonic()
        _, words = process.communicate(timeout=60)
    assert process.returncode == 143 and words.endswith("error: terminated\n")
    assert time.monotonic() - start < 30.0  # five on a machine that has nothing else to do
    assert not list((tmp_path / "results").iterdir()) and not (tmp_path / "report.json").exists()


def _job(folder: Path, *arguments: str) -> list[str]:
    """A command line with tiny networks whose result and report lie in ``folder``."""
    settings = ["--face", "examples/portrait.jpg", "--outfile", str(folder / "results" / "out.mp4")]
    settings += ["--weights", str(make_tiny_weights(folder / "weights")), "--face-backend", "bundled"]
    settings += [
        "--cache-dir",
        str(folder / "cache"),
        "--report",
        str(folder / "report.json"),
        "--device",
        "cpu",
    ]
    return [*settings, *arguments]


@contextmanager
def _start(arguments: list[str], results: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that has begun to write its result."""
    command = [sys.executable, "inference.py", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not _bytes_in(results) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        yield process


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_pass_2_it_starts_there_again_and_sweeps(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    long = write_wav(tmp_path / "long.wav", noise_bursts(16_000, 20.0), 16_000)
    with _start(_job(tmp_path, "--audio", str(long)), results) as process:
        process.kill()
    assert process.returncode == -9
    assert not (results / "out.mp4").exists() and not (tmp_path / "report.json").exists()
    assert _bytes_in(results)  # what the killed run left
    short = write_wav(tmp_path / "short.wav", noise_bursts(16_000, 0.4), 16_000)
    again = _run(*_job(tmp_path, "--audio", str(short)), "--quiet")
    assert (again.returncode, again.stderr) == (0, "")
    assert "face tracks came from the cache" in json.loads((tmp_path / "report.json").read_text())["notes"]
    assert [path.name for path in results.iterdir()] == ["out.mp4"]


def test_the_command_line_is_thin() -> None:
    assert len((ROOT / "inference.py").read_text(encoding="utf-8").splitlines()) < 30

"""The command line: its exit codes and that a user never sees a traceback."""

from __future__ import annotations

import json
import subprocess
import sys
import time
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
    result = _run("--face", "video.mp4")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.strip().splitlines()) == 1


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_killed_in_pass_2_it_starts_there_again(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    arguments = ["--face", "examples/portrait.jpg", "--outfile", str(results / "out.mp4"), "--device", "cpu"]
    arguments += ["--weights", str(make_tiny_weights(tmp_path / "weights")), "--face-backend", "bundled"]
    arguments += ["--cache-dir", str(tmp_path / "cache"), "--report", str(tmp_path / "report.json")]
    long = write_wav(tmp_path / "long.wav", noise_bursts(16_000, 20.0), 16_000)
    command = [sys.executable, "inference.py", *arguments, "--audio", str(long)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 100
        while not _bytes_in(results) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)  # until pass 2 writes into its temporary file
        time.sleep(0.5)
        process.kill()
    assert process.returncode == -9
    assert not (results / "out.mp4").exists() and not (tmp_path / "report.json").exists()
    short = write_wav(tmp_path / "short.wav", noise_bursts(16_000, 0.4), 16_000)
    again = _run(*arguments, "--audio", str(short))
    assert again.returncode == 0, again.stderr[-2000:]
    assert "face tracks came from the cache" in json.loads((tmp_path / "report.json").read_text())["notes"]
    assert (results / "out.mp4").is_file()


def test_the_command_line_is_thin() -> None:
    assert len((ROOT / "inference.py").read_text(encoding="utf-8").splitlines()) < 150

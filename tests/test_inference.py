"""The command line: its exit codes and that a user never sees a traceback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

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


def test_the_command_line_is_thin() -> None:
    assert len((ROOT / "inference.py").read_text(encoding="utf-8").splitlines()) < 150

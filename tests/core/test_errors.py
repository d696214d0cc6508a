from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videoretalking.core.errors import INTERRUPTED, TERMINATED, UserError, run_command

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Unix signals")

HEAD = """
import multiprocessing, os, signal, sys, threading, time
from videoretalking.core.errors import run_command
from videoretalking.core.files import atomic_path

# a shell that runs the tests in the background has them ignore it
signal.signal(signal.SIGINT, signal.default_int_handler)

def say_ready():
    print("ready", flush=True)

def wait():
    # in short sleeps: Python sees a signal that comes just before a sleep only after it
    for _ in range(1200):
        time.sleep(0.05)
"""
WRITING = """
def main():
    with atomic_path(sys.argv[1]) as path:
        path.write_text("half")
        say_ready()
        wait()
run_command(main)
"""
STUCK = """
def main():
    worker = threading.Thread(target=time.sleep, args=(60,), daemon=True)
    worker.start()
    with atomic_path(sys.argv[1]) as path:
        try:
            say_ready()
            wait()
        finally:
            worker.join()
run_command(main)
"""
FORKED = """
def main():
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join()
    print(child.exitcode, flush=True)
run_command(main)
"""


def _signal(code: str, number: int, target: Path) -> tuple[int, str, float]:
    """Exit status, last words and seconds of a program that is told to end while it writes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + code, str(target)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        start = time.monotonic()
        process.send_signal(number)
        _, words = process.communicate(timeout=30)
        return process.returncode, words, time.monotonic() - start


def test_sigterm_leaves_no_partial_file_and_has_a_status_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    status, words, _ = _signal(WRITING, signal.SIGTERM, tmp_path / "old")
    assert (status, words) == (TERMINATED, "error: terminated\n") and TERMINATED == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and (tmp_path / "old").read_text() == "old"


def test_sigint_keeps_its_status(tmp_path: Path) -> None:
    status, words, _ = _signal(WRITING, signal.SIGINT, tmp_path / "x")
    assert (status, words) == (INTERRUPTED, "error: interrupted\n") and INTERRUPTED == 128 + signal.SIGINT
    assert not list(tmp_path.iterdir())


def test_a_worker_that_does_not_end_holds_nothing_up(tmp_path: Path) -> None:
    status, words, seconds = _signal(STUCK, signal.SIGTERM, tmp_path / "x")
    assert (status, words) == (TERMINATED, "error: terminated\n")
    assert seconds < 15.0 and not list(tmp_path.iterdir())


def test_forked_workers_end_as_usual() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HEAD + FORKED],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{-signal.SIGTERM}\n", "")


def test_a_user_error_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise UserError("first\nsecond")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run_command(main)
    assert end.value.code == 2 and capsys.readouterr().err == "error: first second\n"
    assert signal.getsignal(signal.SIGTERM) is before

"""A process that works beside this one: what it gives, says and survives."""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from itertools import count, islice
from pathlib import Path

import pytest

from videoretalking.core.companion import Companion, CompanionLost
from videoretalking.core.errors import UserError
from videoretalking.core.locations import ROOT

logger = logging.getLogger("videoretalking.test")


def _counter() -> Callable[[object], Iterator[object]]:
    def work(job: object) -> Iterator[object]:
        if job == "endless":
            yield from ((number, bytes(100_000)) for number in count())
        if job == "slow":
            time.sleep(0.5)
        if str(job).startswith("hold"):
            path = Path(str(job).partition(" ")[2])
            try:
                for number in count():
                    path.write_text("held")
                    yield number, bytes(100_000)
            finally:
                path.write_text("let go")
        if job == "fail":
            yield 1
            raise UserError("this job cannot be done")
        if job == "missing":
            Path("there is no such file").read_text()
        if job == "unpicklable":
            raise OddError(1, 2)
        if job == "die":
            yield 1
            os.kill(os.getpid(), signal.SIGKILL)
        if job == "say":
            logger.warning("said %d", 3)
            logger.debug("not said")
            print("noise on the standard output", flush=True)
        if job == "where":
            yield str(Path.cwd())
        yield os.getpid()

    return work


def _slow_counter() -> Callable[[object], Iterator[object]]:
    time.sleep(600.0)
    return _counter()


class OddError(Exception):
    def __init__(self, first: int, second: int) -> None:
        super().__init__("odd")


def _broken(path: str) -> Callable[[object], Iterator[object]]:
    raise UserError(f"{path} is damaged")


@pytest.fixture(autouse=True, scope="module")
def _importable() -> Iterator[None]:
    """This module, over there."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
        yield


@pytest.fixture(scope="module")
def companion(_importable: None) -> Iterator[Companion[object, object]]:
    companion: Companion[object, object] = Companion(_counter)
    yield companion
    companion.close()


def test_one_process_does_all_jobs(companion: Companion[object, object]) -> None:
    first, second = list(companion("plain")), list(companion("plain"))
    assert first == second
    assert first != [os.getpid()]


def test_a_job_that_is_stopped_leaves_nothing_to_the_next(companion: Companion[object, object]) -> None:
    with closing(companion("endless")) as found:
        assert [item[0] for item in islice(found, 3)] == [0, 1, 2]  # type: ignore[index]
    assert len(list(companion("plain"))) == 1


def test_stopping_ends_the_work_also_where_nobody_asks_again(
    companion: Companion[object, object], tmp_path: Path
) -> None:
    with closing(companion(f"hold {tmp_path / 'held'}")) as found:
        next(found)
    assert companion._leftover is not None
    companion._leftover.join(60.0)
    assert (tmp_path / "held").read_text() == "let go"


def test_a_stop_counts_for_its_own_job_whenever_it_comes(
    companion: Companion[object, object], tmp_path: Path
) -> None:
    list(companion("plain"))
    number = companion._jobs + 1
    for place, job in enumerate(("slow", f"hold {tmp_path / 'held'}")):  # the second one waits for the first
        companion._send((number + place, job, str(tmp_path), logging.INFO))
    companion._send((number + 1, "stop"))
    companion._jobs += 2
    assert companion._receive(number + 1) == ("end", None)
    assert not (tmp_path / "held").exists()
    assert len(list(companion("plain"))) == 1


def test_it_is_ahead_by_no_more_than_a_pipe_holds(companion: Companion[object, object]) -> None:
    # a hundred thousand bytes an item: without a bound what waits would fill the memory
    with closing(companion("endless")) as found:
        next(found)
        child = Path(f"/proc/{companion._process.pid}/status")
        if not child.is_file():
            pytest.skip("the system does not tell of processes")
        time.sleep(0.2)
        before = child.read_text().partition("VmRSS:")[2].split()[0]
        time.sleep(0.3)
        after = child.read_text().partition("VmRSS:")[2].split()[0]
    assert int(after) - int(before) < 2_000  # kB


@pytest.mark.parametrize(
    ("job", "kind", "message"),
    [
        ("fail", UserError, "this job cannot be done"),
        ("missing", FileNotFoundError, "no such file"),
        ("unpicklable", RuntimeError, "OddError: odd"),
    ],
)
def test_errors_of_the_work_come_as_they_are(
    companion: Companion[object, object], job: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        list(companion(job))
    assert len(list(companion("plain"))) == 1


def test_what_it_logs_is_logged_here(
    companion: Companion[object, object], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "videoretalking"):
        list(companion("say"))
    assert [record.getMessage() for record in caplog.records] == ["said 3"]


def test_it_works_where_this_process_works(
    companion: Companion[object, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert next(companion("where")) == str(tmp_path)


def test_a_second_job_at_the_same_time_is_refused(companion: Companion[object, object]) -> None:
    with closing(companion("endless")) as found:
        next(found)
        with pytest.raises(CompanionLost, match="another job"):
            next(companion("plain"))


def test_a_death_is_told_apart_from_failures() -> None:
    companion: Companion[object, object] = Companion(_counter)
    found = companion("die")
    assert next(found) == 1
    with pytest.raises(CompanionLost, match="-9"):
        next(found)
    with pytest.raises(CompanionLost):
        next(companion("plain"))


def test_what_cannot_be_built_is_lost() -> None:
    companion: Companion[object, object] = Companion(partial(_broken, "weights"))
    with pytest.raises(CompanionLost, match="weights is damaged"):
        next(companion("plain"))


def test_it_ends_while_it_is_being_built_too() -> None:
    companion: Companion[object, object] = Companion(_slow_counter)
    time.sleep(1.0)  # until it has begun
    process = companion._process
    assert process.stdin is not None
    process.stdin.close()  # as the system does for a process that dies
    assert process.wait(60.0) is not None


def test_it_ends_with_its_object() -> None:
    companion: Companion[object, object] = Companion(_counter)
    list(companion("plain"))
    process = companion._process
    del companion
    gc.collect()
    assert process.poll() is not None


def test_it_ends_with_the_process_that_started_it() -> None:
    program = (
        "import os, signal, sys; from functools import partial\n"
        "from videoretalking.core.companion import Companion\n"
        "from test_companion import _counter\n"
        "print(*Companion(_counter)('plain'), flush=True)\n"
        "found = Companion(_counter); print(next(found('endless'))[0], found._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = os.pathsep.join([str(ROOT), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr
    number = int(result.stdout.split()[-1])
    deadline = time.monotonic() + 20.0
    while _lives(number):
        assert time.monotonic() < deadline, "the process goes on without the one that started it"
        time.sleep(0.05)


def _lives(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"

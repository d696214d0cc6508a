"""A process that works beside this one, for work that would hold Python's lock for too long in a thread.

It is built once and then makes the items of one job after another, as far ahead of who asks as a pipe holds. It is
a fresh interpreter and no fork, which a GPU would not survive, and it does not import the program that started it,
so that a script needs no ``if __name__ == "__main__"`` for it. :mod:`core.workers` is for many jobs on many
processes.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from logging.handlers import QueueHandler
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

import videoretalking

Job = TypeVar("Job")
Item = TypeVar("Item")

_START = "from videoretalking.core.companion import serve; serve()"
_READY, _LOG, _ITEM, _END, _ERROR = "ready", "log", "item", "end", "error"
_PATIENCE = 5.0  # seconds that a killed process has to be gone

logger = logging.getLogger(__name__)


class CompanionLost(Exception):  # noqa: N818 - what happened
    """The process is not there, or no longer, or at another job: the work is to be done elsewhere."""


class Companion(Generic[Job, Item]):
    """Starts the process, which ends with this object or with this process.

    What it logs is logged here, and it works in the directory that this process is in when a job begins.

    Args:
        build: makes, over there, the function from a job to its items; like these it must be picklable.
    """

    def __init__(self, build: Callable[[], Callable[[Job], Iterable[Item]]]) -> None:
        self._busy = threading.Lock()
        self._jobs = 0
        self._is_ready = False
        paths = [str(Path(videoretalking.__path__[0]).parent), os.environ.get("PYTHONPATH", "")]
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "PYTHONSAFEPATH": "1",  # nothing from the directories that it works in
            "TQDM_DISABLE": "1",  # who asks for the work shows how far it is
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._dismiss = weakref.finalize(self, _dismiss, self._process)
        with suppress(CompanionLost):  # who asks for work will find that out
            self._send(pickle.dumps(build))

    def __call__(self, job: Job) -> Generator[Item, None, None]:
        """The items of a job; closing the generator stops the work.

        Raises:
            CompanionLost: see there; what was yielded before is right.
            Exception: what the function raised.
        """
        if not self._busy.acquire(blocking=False):
            raise CompanionLost("it is at another job")
        try:
            if not self._is_ready:
                kind, problem = self._receive(0)
                if kind == _ERROR:
                    self.close()
                    raise CompanionLost(f"it could not begin: {problem}")
                self._is_ready = True
            self._jobs += 1
            level = logging.getLogger("videoretalking").getEffectiveLevel()
            self._send((self._jobs, job, str(Path.cwd()), level))
            done = False
            try:
                while not done:
                    kind, value = self._receive(self._jobs)
                    done = kind != _ITEM
                    if kind == _ITEM:
                        yield value
                    elif kind == _ERROR:
                        raise value
            finally:
                if not done:
                    with suppress(CompanionLost):
                        self._send(None)
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._dismiss()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: closed
            raise self._lost() from error

    def _receive(self, job: int) -> tuple[str, Any]:
        """The next message of a job; those of earlier ones, which were stopped, are left out."""
        assert self._process.stdout is not None
        while True:
            try:
                number, kind, value = pickle.load(self._process.stdout)
            except (OSError, ValueError, EOFError, pickle.UnpicklingError) as error:
                raise self._lost() from error
            if kind == _LOG:
                source = logging.getLogger(value.name)
                if source.isEnabledFor(value.levelno):
                    source.handle(value)
            elif number == job:
                return kind, value

    def _lost(self) -> CompanionLost:
        self.close()
        return CompanionLost(f"it ended with status {self._process.returncode}")


def _dismiss(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):  # what was not sent any more
                pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE)


# ------------------------------------------------------------------------------------------- over there


def serve() -> None:
    """What the process does: read jobs from its standard input and write items to its standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it ends it
    wanted, results = _own_pipe(0, "rb"), _own_pipe(1, "wb")
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stopped = threading.Event()
    current = 0
    lock = threading.Lock()  # threads of the work log

    def send(kind: str, value: object) -> None:
        message = pickle.dumps((current, kind, value))  # before anything of it is written
        with lock:
            results.write(message)
            results.flush()

    def listen() -> None:
        with suppress(Exception):
            while True:
                message = pickle.load(wanted)
                if message is None:
                    stopped.set()
                else:
                    jobs.put(message)
        os._exit(0)  # who started this is gone, or wants it gone

    log = logging.getLogger()
    log.addHandler(_Sender(lambda record: send(_LOG, record)))
    try:
        work = pickle.loads(pickle.load(wanted))()
    except Exception as error:
        send(_ERROR, _sendable(error))
        return
    send(_READY, None)
    threading.Thread(target=listen, daemon=True).start()
    while True:
        current, job, folder, level = jobs.get()
        stopped.clear()
        try:
            os.chdir(folder)
            log.setLevel(level)
            items = iter(work(job))
            for item in items:
                if stopped.is_set():
                    break
                send(_ITEM, item)
            close = getattr(items, "close", None)
            if close is not None:
                close()
            send(_END, None)
        except Exception as error:
            send(_ERROR, _sendable(error))


def _own_pipe(number: int, mode: str) -> IO[bytes]:
    """A standard stream for nobody else: what libraries print goes where errors go."""
    pipe = os.fdopen(os.dup(number), mode)
    if number == 0:
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
    else:
        os.dup2(2, number)
    return pipe


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


class _Sender(QueueHandler):
    """Sends what is logged, as text."""

    def __init__(self, send: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(queue.Queue())
        self._send = send

    def enqueue(self, record: logging.LogRecord) -> None:
        self._send(record)

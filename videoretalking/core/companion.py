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

from videoretalking.core.locations import IS_CHECKOUT, ROOT

Job = TypeVar("Job")
Item = TypeVar("Item")

_START = "from videoretalking.core.companion import serve; serve()"
_READY, _LOG, _ITEM, _END, _ERROR, _STOP = "ready", "log", "item", "end", "error", "stop"
_PATIENCE = 5.0  # seconds that a killed process has to be gone


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
        self._leftover: threading.Thread | None = None  # reads what still comes of a job that was stopped
        environment = os.environ | {
            "PYTHONSAFEPATH": "1",  # nothing from the directories that it works in
            "TQDM_DISABLE": "1",  # who asks for the work shows how far it is
        }
        if IS_CHECKOUT:  # which need not be installed
            paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._dismiss = weakref.finalize(self, _dismiss, self._process)
        with suppress(CompanionLost):  # who asks for work will find that out
            self._send(build)

    def __call__(self, job: Job) -> Generator[Item, None, None]:
        """The items of a job; closing the generator stops the work.

        Raises:
            CompanionLost: see there; what was yielded before is right.
            Exception: what the function raised.
        """
        if self._leftover is not None:
            self._leftover.join()
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
                    self._stop(self._jobs)
        finally:
            self._busy.release()

    def close(self) -> None:
        """End the process, whatever it does."""
        self._dismiss()

    def _stop(self, job: int) -> None:
        """Have a job ended, and read what still comes of it: who writes into a full pipe would not end it."""

        def read() -> None:
            with suppress(CompanionLost):
                while self._receive(job)[0] == _ITEM:
                    pass

        with suppress(CompanionLost):
            self._send((job, _STOP))
            self._leftover = threading.Thread(target=read, daemon=True)
            self._leftover.start()

    def _send(self, message: object) -> None:
        assert self._process.stdin is not None
        data = pickle.dumps(message)  # before anything of it is written
        try:
            self._process.stdin.write(data)
            self._process.stdin.flush()
        except (OSError, ValueError) as error:  # ValueError: closed
            raise self._lost() from error

    def _receive(self, job: int) -> tuple[str, Any]:
        """The next message of a job."""
        assert self._process.stdout is not None
        while True:
            try:
                number, kind, value = pickle.load(self._process.stdout)
            except Exception as error:  # half a message may be anything
                raise self._lost() from error
            except BaseException:  # interrupted within a message; nobody would understand the next one
                self.close()
                raise
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
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    current = stopped = 0  # numbers of jobs
    lock = threading.Lock()  # threads of the work log

    def send(kind: str, value: object) -> None:
        message = pickle.dumps((current, kind, value))  # before anything of it is written
        try:
            with lock:
                results.write(message)
                results.flush()
        except OSError:  # who started this is gone
            os._exit(0)

    def listen() -> None:
        nonlocal stopped
        with suppress(Exception):
            while True:
                message = pickle.load(wanted)
                if isinstance(message, tuple) and message[1:] == (_STOP,):
                    stopped = message[0]
                else:
                    messages.put(message)
        os._exit(0)  # who started this is gone, or wants it gone

    log = logging.getLogger()
    log.addHandler(_Sender(lambda record: send(_LOG, record)))
    threading.Thread(target=listen, daemon=True).start()
    try:
        work = messages.get()()
    except Exception as error:
        send(_ERROR, _sendable(error))
        return
    send(_READY, None)
    while True:
        current, job, folder, level = messages.get()
        try:
            os.chdir(folder)
            log.setLevel(level)
            items = iter(work(job))
            while stopped < current and (item := next(items, _END)) is not _END:
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

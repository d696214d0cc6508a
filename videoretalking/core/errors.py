"""The one exception that users see, and the guard that turns it into one line and exit status 2."""

from __future__ import annotations

import _thread
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

USER_ERROR = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count
TERMINATED = 143  # 128 + SIGTERM
_GRACE = 4.0  # seconds that a terminated program has to unwind

_before_forced_exit: list[Callable[[], None]] = []


class UserError(Exception):
    """Something the user can mend: the message is one line saying what, where, and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


class Terminated(BaseException):
    """The system asked the program to end (SIGTERM). Unwinds like an interrupt, so that writers clean up."""


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command-line entry point and end the process with its exit status.

    A :class:`UserError` becomes one line on standard error and status 2, an interrupt status 130, SIGTERM status
    143; both leave no partial file. Any other exception is a defect of ours and keeps its traceback.

    Args:
        main: the entry point; returns an exit status, or None for 0.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        with _termination_raises():
            status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = USER_ERROR
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        status = INTERRUPTED
    except Terminated:
        _end_at_once()
    sys.exit(status)


def before_forced_exit(cleanup: Callable[[], None]) -> Callable[[], None]:
    """Have ``cleanup`` called if a terminated program does not unwind in time; also a decorator."""
    _before_forced_exit.append(cleanup)
    return cleanup


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Turn SIGTERM into :class:`Terminated`, in this process only and not where somebody handles the signal."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is _terminate:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one would interrupt the cleaning up
    # A worker thread inside a long call of a network can hold up the unwinding, which waits for it. The watchdog is
    # started without the threading module, whose locks the interrupted code may hold.
    _thread.start_new_thread(_force_exit, ())
    raise Terminated


def _hold_signal() -> None:
    """Before a fork: Python forgets signals that reach the child before it is set up, who would then never end."""
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _release_signal() -> None:
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _forget_signal() -> None:
    """In a forked worker, which has nothing to clean up."""
    if signal.getsignal(signal.SIGTERM) is _terminate:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


if hasattr(os, "register_at_fork"):  # all but Windows
    os.register_at_fork(before=_hold_signal, after_in_parent=_release_signal, after_in_child=_forget_signal)


def _force_exit() -> None:
    time.sleep(_GRACE)
    for cleanup in _before_forced_exit:
        cleanup()
    _end_at_once()


def _end_at_once() -> NoReturn:
    """Say so and end, without the seconds that the interpreter takes to put large libraries away."""
    with suppress(OSError, ValueError):  # closed streams
        print("error: terminated", file=sys.stderr, flush=True)
        sys.stdout.flush()
    logging.shutdown()
    os._exit(TERMINATED)

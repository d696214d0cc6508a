"""A call in a process of its own, whose memory and C library are as fresh as those of a command."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

_LAST_WORDS = 10.0  # seconds that a process has to end by itself, and to say why


class ProcessDied(Exception):  # noqa: N818 - what happened
    """A process ended without a result."""


def in_own_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call in a fresh process, which ends with this one.

    Args:
        function: of a module that can be imported, which the started program's own module cannot.
        arguments: picklable.

    Raises:
        ProcessDied: no result came; the process has said why.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, function, arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        result = ours.recv()
        process.join(_LAST_WORDS)
    except EOFError:
        process.join(_LAST_WORDS)
        raise ProcessDied(f"the process of {function.__name__} died") from None
    finally:
        process.terminate()
        process.join()
    return result


def _send(connection: Connection, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    connection.send(function(*arguments))

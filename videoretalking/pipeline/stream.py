"""Overlap of pipeline stages: each stage is a generator, and :func:`threaded` runs it in its own thread.

Decoding, the networks, compositing and encoding release Python's lock while they work, so threads suffice.
Queues are bounded: a slow stage holds back the ones before it, and memory stays flat for any length of video.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")

_END = object()
_POLL = 0.1  # seconds between looks at the stop flag while a queue is full


def threaded(source: Iterable[Item], depth: int = 1) -> Generator[Item, None, None]:
    """Iterate over ``source`` in a thread, at most ``depth`` items ahead of the consumer.

    An exception in the source appears at the consumer. When the consumer stops early (error, interrupt,
    ``close``), the thread ends and the source is closed before control returns.

    Args:
        source: the stage to run ahead.
        depth: items that may wait in the queue.

    Yields:
        the items of ``source`` in order.
    """
    items: queue.Queue[Any] = queue.Queue(maxsize=max(1, depth))
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(source, items, stop), daemon=True)
    worker.start()
    try:
        while True:
            item = items.get()
            if item is _END:
                return
            if isinstance(item, _Failure):
                raise item.error
            yield item
    finally:
        stop.set()
        worker.join()


def chunks(source: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Lists of ``size`` consecutive items; the last may be shorter."""
    chunk: list[Item] = []
    for item in source:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class Stopwatch:
    """Busy seconds of each stage; stages overlap, so their sum exceeds the time that passes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to ``stage``; each stage belongs to one thread."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - start

    def timed(self, stage: str, source: Iterable[Item]) -> Iterator[Item]:
        """Iterate, adding the time that the source takes to ``stage``."""
        iterator = iter(source)
        while True:
            with self(stage):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def _fill(source: Iterable[Any], items: queue.Queue[Any], stop: threading.Event) -> None:
    iterator = iter(source)
    try:
        for item in iterator:
            if not _put(items, item, stop):
                return
        _put(items, _END, stop)
    except BaseException as error:  # handed to the consumer, whatever it is
        _put(items, _Failure(error), stop)
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _put(items: queue.Queue[Any], item: object, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            items.put(item, timeout=_POLL)
            return True
        except queue.Full:
            continue
    return False

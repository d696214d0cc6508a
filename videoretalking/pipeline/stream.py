"""Overlap of pipeline stages: each stage is a generator, and :func:`threaded` runs it in its own thread.

Decoding, the networks, compositing and encoding release Python's lock while they work, so threads suffice.
Queues are bounded: a slow stage holds back the ones before it, and memory stays flat for any length of video.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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


def chunks(source: Iterable[Item], size: int, first: Sequence[int] = ()) -> Iterator[list[Item]]:
    """Lists of ``size`` consecutive items, but for the ``first`` ones; the last may be shorter."""
    iterator = iter(source)
    for count in itertools.chain(first, itertools.repeat(size)):
        chunk = list(itertools.islice(iterator, count))
        if not chunk:
            return
        yield chunk


def one_behind(source: Iterable[Item]) -> Iterator[Item]:
    """The items of ``source``, each only once the next one was made: what an item started goes on meanwhile."""
    iterator = iter(source)
    for waiting in iterator:
        for item in iterator:
            yield waiting
            waiting = item
        yield waiting


@contextmanager
def in_background(consume: Callable[[Item], None], depth: int = 1) -> Iterator[Callable[[Item], None]]:
    """Hand items over to a thread that consumes them in order, at most ``depth`` of them waiting.

    The block ends when all are consumed. An exception of the consumer appears at the next item handed over or at
    the end of the block; after one, and when the block itself fails, what waits is dropped.

    Args:
        consume: called with each item in the thread.
        depth: items that may wait in the queue.

    Yields:
        the function that takes an item.
    """
    items: queue.Queue[Any] = queue.Queue(maxsize=max(1, depth))
    stop = threading.Event()
    failures: list[BaseException] = []

    def work() -> None:
        while (item := items.get()) is not _END:
            if stop.is_set():
                continue
            try:
                consume(item)
            except BaseException as error:  # handed to the producer, whatever it is
                failures.append(error)
                stop.set()

    def hand_over(item: Item) -> None:
        items.put(item)  # the worker goes on taking until the end, so this waits for a moment at most
        if failures:
            raise failures[0]

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        yield hand_over
    except BaseException:
        stop.set()
        raise
    finally:
        items.put(_END)
        worker.join()
    if failures:
        raise failures[0]


class Stopwatch:
    """Busy seconds of each stage; stages overlap, so their sum exceeds the time that passes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to ``stage``; several threads may work on it."""
        start = time.perf_counter()
        try:
            yield
        finally:
            passed = time.perf_counter() - start
            with self._lock:
                self.seconds[stage] = self.seconds.get(stage, 0.0) + passed

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

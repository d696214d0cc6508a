"""Work spread over worker processes: each is built once, does one item at a time, and may die.

A process dies when the system runs out of memory and kills it, or when native code crashes. That costs the item it
was working on one try, and nothing else: every worker is a pool of its own (:class:`concurrent.futures`), so that
it is known which item it was. :mod:`core.cluster` gives workers on other machines to the same :func:`spread`.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

from videoretalking.core.errors import UserError

Item = TypeVar("Item")
Value = TypeVar("Value")
_ItemIn = TypeVar("_ItemIn", contravariant=True)
# Makes, in the worker's process and for its device, the function that does one item; must be picklable.
Build = Callable[[str], Callable[[Item], Value]]
Report = Callable[[Sequence[Item]], None]

LOCAL_TRIES = 2
_MAX_DEATHS = 8  # in a row, each of another item: then the fault is not in the items

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Finished(Generic[Item, Value]):
    """What became of one item.

    Attributes:
        item: the item.
        value: what the function gave; None if ``died``.
        died: whether the worker died at every try.
    """

    item: Item
    value: Value | None = None
    died: bool = False


class Worker(Protocol[_ItemIn, Value]):
    """A process somewhere that does one item at a time."""

    def start(self) -> Future[None]:
        """A new process for this worker, in place of one that may be there; done when it is built."""

    def do(self, item: _ItemIn) -> Future[Value]:
        """Have an item done."""

    def is_death(self, error: BaseException) -> bool:
        """Whether an error of a future says that the process died, rather than that the work went wrong."""

    def stop(self) -> None:
        """End the process at once, whatever it does."""


@dataclass(frozen=True)
class Place:
    """Where a local worker runs.

    Attributes:
        device: ``cpu``, ``mps``, or one GPU of this process, such as ``cuda:1``.
        threads: of PyTorch, BLAS and OpenCV, each.
    """

    device: str = "cpu"
    threads: int = 1

    @property
    def inner_device(self) -> str:
        """The device's name inside the worker, which sees no other GPU than its own."""
        return self.device.partition(":")[0]

    def environment(self, outside: Mapping[str, str]) -> dict[str, str]:
        """Variables of the worker's process that differ from those of this one.

        Args:
            outside: variables of this process; its ``CUDA_VISIBLE_DEVICES`` says what ``cuda:1`` means.
        """
        threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        visible = ""
        if self.inner_device == "cuda":
            index = self.device.partition(":")[2] or "0"
            given = [name.strip() for name in outside.get("CUDA_VISIBLE_DEVICES", "").split(",")]
            visible = given[int(index)] if given != [""] else index
        return {"CUDA_VISIBLE_DEVICES": visible, **dict.fromkeys(threads, str(self.threads))}


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def limit_threads(threads: int) -> None:
    """Have PyTorch and OpenCV work with so many threads in this process; with 1, OpenCV makes none of its own."""
    import cv2

    cv2.setNumThreads(threads if threads > 1 else 0)
    if "torch" in sys.modules:  # whose import takes seconds, and which else obeys the environment
        sys.modules["torch"].set_num_threads(threads)


def run_locally(
    build: Build[Item, Value],
    items: Sequence[Item],
    places: Sequence[Place],
    report: Report[Item] | None = None,
) -> Generator[Finished[Item, Value]]:
    """Have items done by one process a place.

    Args:
        build: see :data:`Build`.
        items: what to do.
        places: where; no more processes than items are started.
        report: told the items under way, the oldest first, whenever they change.

    Yields:
        Every item once, as they are finished.

    Raises:
        UserError: from ``build``, or workers die whatever they work on.
    """
    workers = [_LocalWorker(build, place) for place in places[: len(items)]]
    return spread(items, workers, LOCAL_TRIES, report)


def spread(
    items: Sequence[Item],
    workers: Sequence[Worker[Item, Value]],
    tries: int,
    report: Report[Item] | None = None,
) -> Generator[Finished[Item, Value]]:
    """Give every worker that is free the next item; see :func:`run_locally`.

    An item whose worker died goes to the end of the list, where less else may be under way that needs memory.

    Args:
        items: what to do.
        workers: not started yet; they are stopped in the end.
        tries: of an item whose workers die.
        report: told the items under way.
    """
    waiting = deque((item, 1) for item in items)
    cold, free = list(workers), list[Worker[Item, Value]]()
    starting: dict[Future[None], Worker[Item, Value]] = {}
    busy: dict[Future[Value], tuple[Worker[Item, Value], Item, int]] = {}
    left, deaths = len(items), 0
    try:
        while left:
            while free and waiting:
                item, number = waiting.popleft()
                worker = free.pop()
                busy[worker.do(item)] = (worker, item, number)
            while cold and len(starting) < len(waiting):
                worker = cold.pop()
                starting[worker.start()] = worker
            if report is not None:
                report([item for _, item, _ in busy.values()])
            under_way: list[Future[Any]] = [*starting, *busy]
            for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                error = future.exception()
                task = busy.pop(future, None)
                worker = starting.pop(future) if task is None else task[0]
                if error is not None and not worker.is_death(error):
                    raise error
                (free if error is None else cold).append(worker)
                if error is not None and (task is None or task[2] == 1):
                    deaths += 1
                    _check_deaths(deaths, len(workers), task)
                if task is None:
                    continue
                _, item, number = task
                if error is not None and number < tries:
                    logger.warning("the worker on %s died; it is tried again at the end", _name(item))
                    waiting.append((item, number + 1))
                    continue
                left -= 1
                deaths = 0 if error is None else deaths
                yield Finished(item, None if error else future.result(), died=error is not None)
    finally:
        for worker in workers:
            worker.stop()


def _check_deaths(deaths: int, num_workers: int, task: tuple[object, object, int] | None) -> None:
    if deaths >= max(_MAX_DEATHS, 2 * num_workers):
        last = " before they were given any work" if task is None else f", the last one on {_name(task[1])}"
        raise UserError(
            f"{deaths} worker processes in a row died{last}: if memory runs out, use fewer of them; "
            "else look at the messages above"
        )


def _name(item: object) -> object:
    return getattr(item, "name", item)


class _LocalWorker(Generic[Item, Value]):
    """One process of this machine."""

    def __init__(self, build: Build[Item, Value], place: Place) -> None:
        self._build = build
        self._place = place
        self._executor: ProcessPoolExecutor | None = None
        self._leash: Connection | None = None

    def start(self) -> Future[None]:
        self.stop()
        context = multiprocessing.get_context("spawn")
        end, self._leash = context.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(1, mp_context=context, initializer=_enter, initargs=(end,))
        with _environment(self._place.environment(os.environ)):  # read when libraries are imported
            return self._executor.submit(_start, self._build, self._place)

    def do(self, item: Item) -> Future[Value]:
        assert self._executor is not None  # start() comes first
        try:
            return self._executor.submit(_do, item)
        except BrokenProcessPool as error:  # it died while it was free
            future: Future[Value] = Future()
            future.set_exception(error)
            return future

    def is_death(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def stop(self) -> None:
        if self._leash is not None:
            self._leash.close()
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)


_work: Callable[[Any], Any] | None = None  # of this process, if it is a worker


def _enter(leash: Connection) -> None:
    """First thing in a worker's process; at an interrupt from the keyboard, the one who started it ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    """End this process when the other end is closed, by :meth:`_LocalWorker.stop` or by its process' death."""
    with suppress(OSError, EOFError):
        leash.recv()
    os._exit(1)


def _start(build: Build[Any, Any], place: Place) -> None:
    global _work
    limit_threads(place.threads)
    _work = build(place.inner_device)
    limit_threads(place.threads)  # of what was imported meanwhile


def _do(item: Any) -> Any:
    assert _work is not None  # _start() comes first
    return _work(item)


@contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    """Variables as a process that starts meanwhile shall find them."""
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

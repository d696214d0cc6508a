"""Replay of what a network does on a GPU, without the Python between its kernels.

A network of hundreds of layers takes the processor longer to call than the GPU to compute. CUDA graphs keep the
kernels of one call and start them all at once; they are the same kernels, so the numbers do not change.
"""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache
from typing import Any, Protocol

import torch

logger = logging.getLogger(__name__)

_CALLS_BEFORE = 2  # of a kind: libraries choose kernels and keep tables then, which no graph may hold
_TRIES = 3  # to record a function: what other threads do may be in the way once
_MOST_GRAPHS = 12  # of a function; each kind of call needs one, and a clip may bring new kinds without end
_FREE_SHARE = 0.25  # of the GPU's memory, without which nothing is recorded: a graph keeps what a call needs

_RECORDING = threading.Lock()  # one at a time in the process

Function = Callable[..., torch.Tensor]


class Recording(Protocol):
    """A call that can be repeated."""

    def __call__(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        """The result for other numbers of the same shapes."""
        ...


Recorder = Callable[[Callable[[list[torch.Tensor]], torch.Tensor], list[torch.Tensor]], Recording | None]


class GraphedFunction:
    """A function of tensors on a GPU, which is recorded once for each kind of call and replayed from then on.

    A kind is what the call does not depend on the numbers for: shapes, number formats, and all arguments that are
    no tensors. The first calls of a kind run as they are. What cannot be recorded, since it waits for the GPU or
    needs more memory than there is, goes on running as it is.

    Args:
        name: in messages.
        function: returns one tensor; must do the same kernels for all numbers, and keep no tensor that it made.
            Runs in inference mode.
        record: makes a recording; None records nothing.
    """

    def __init__(self, name: str, function: Function, record: Recorder | None) -> None:
        self._name = name
        self._function = function
        self._record = record
        self._tries_left = _TRIES
        self._calls: dict[Hashable, int] = {}
        self._recordings: dict[Hashable, Recording] = {}
        self._lock = threading.Lock()  # a recording has one place for its numbers

    def __call__(
        self,
        *inputs: torch.Tensor,
        context: Callable[[], AbstractContextManager[object]] = nullcontext,
        kind: Hashable = None,
        **shared: Any,
    ) -> torch.Tensor:
        """Call the function.

        Args:
            inputs: its arguments.
            context: that it runs in, such as autocast.
            kind: what else tells one kind of call from another, such as the number format.
            shared: further arguments by name, tensors or hashable.
        """
        if self._record is None:
            with torch.inference_mode(), context():
                return self._function(*inputs, **shared)
        names = [name for name, value in shared.items() if isinstance(value, torch.Tensor)]
        fixed = {name: value for name, value in shared.items() if name not in names}
        tensors = [*inputs, *(shared[name] for name in names)]

        function, count = self._function, len(inputs)  # and not self, which keeps the recordings

        def run(values: list[torch.Tensor]) -> torch.Tensor:
            named = dict(zip(names, values[count:], strict=True))
            with torch.inference_mode(), context():
                return function(*values[:count], **named, **fixed)

        key = (kind, tuple((tensor.shape, tensor.dtype) for tensor in tensors), tuple(names), *fixed.items())
        with self._lock:
            recording = self._recordings.get(key) or self._new(key, run, tensors)
            return run(tensors) if recording is None else recording(tensors)

    def _new(
        self, key: Hashable, run: Callable[[list[torch.Tensor]], torch.Tensor], tensors: list[torch.Tensor]
    ) -> Recording | None:
        """A recording where it is time for one."""
        self._calls[key] = self._calls.get(key, 0) + 1
        if self._record is None or self._calls[key] <= _CALLS_BEFORE or len(self._recordings) >= _MOST_GRAPHS:
            return None
        try:
            recording = self._record(run, tensors)
        except RuntimeError as error:
            self._tries_left -= 1
            if not self._tries_left:
                self._record = None
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                logger.info("%s runs without CUDA graphs: %s", self._name, reason)
            return None
        if recording is not None:
            self._recordings[key] = recording
        return recording

    def forget(self) -> None:
        """Let the recordings and their memory go."""
        with self._lock:
            self._recordings.clear()
            self._calls.clear()


class CudaRecorder:
    """Records CUDA graphs, which share their memory: one is replayed after the other, on the stream of the first.

    Args:
        device: the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pool = torch.cuda.graph_pool_handle()
        self.stream = _recording_stream(device)
        self.lock = threading.Lock()  # what one gave must be fetched before another one may write over it

    def __call__(
        self, run: Callable[[list[torch.Tensor]], torch.Tensor], tensors: list[torch.Tensor]
    ) -> Recording | None:
        """As :data:`Recorder`; None where not enough memory is free for now.

        Raises:
            RuntimeError: what ran cannot be recorded.
        """
        free, total = torch.cuda.mem_get_info(self.device)
        free += torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        if free < _FREE_SHARE * total:
            return None
        with _RECORDING, _no_collection():
            try:
                return _CudaRecording(self, run, tensors)
            except RuntimeError:
                # Versions of PyTorch go on allocating for a recording that failed.
                index = torch.cuda.current_device() if self.device.index is None else self.device.index
                with suppress(RuntimeError):
                    torch._C._cuda_endAllocateToPool(index, self.pool)
                self.pool = torch.cuda.graph_pool_handle()
                raise


class _CudaRecording:
    def __init__(
        self,
        recorder: CudaRecorder,
        run: Callable[[list[torch.Tensor]], torch.Tensor],
        tensors: list[torch.Tensor],
    ) -> None:
        self._run = run
        self._lock = recorder.lock
        self._home = home = torch.cuda.current_stream(recorder.device)
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            self._inputs = [tensor.clone() for tensor in tensors]
        recorder.stream.wait_stream(home)
        with torch.cuda.stream(recorder.stream):
            # other threads may meanwhile go on with what a graph could not hold
            self._graph.capture_begin(pool=recorder.pool, capture_error_mode="thread_local")
            try:
                self._output = run(self._inputs)
            finally:
                self._graph.capture_end()
        home.wait_stream(recorder.stream)

    def __call__(self, tensors: list[torch.Tensor]) -> torch.Tensor:
        if torch.cuda.current_stream(self._home.device).cuda_stream != self._home.cuda_stream:
            return self._run(tensors)  # nothing would keep two streams apart
        with self._lock, torch.inference_mode():
            for own, tensor in zip(self._inputs, tensors, strict=True):
                own.copy_(tensor, non_blocking=True)
            self._graph.replay()
            return self._output.clone()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python not look for what nobody needs any more: to free an older recording would spoil the new one."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """One for all: libraries keep memory for each, and PyTorch has few and hands out those in use again."""
    return torch.cuda.Stream(device)


def record_on(device: torch.device) -> Recorder | None:
    """CUDA graphs on a GPU; nothing can be recorded elsewhere, nor by a PyTorch that cannot clean up after it."""
    able = device.type == "cuda" and hasattr(torch._C, "_cuda_endAllocateToPool")
    return CudaRecorder(device) if able else None

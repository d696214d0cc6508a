"""How the networks of pass 2 run: device, number format, batches, memory; the stages know none of it.

A stage calls its network like a function, ``image = self.lnet(audio, faces)``, with as many faces as it has. The
:class:`Runner` around the network cuts them into batches, moves these to the device, computes in the number format
of the engine and hands back float32.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Generic, SupportsFloat, TypeVar, cast

import torch
from torch import nn

from videoretalking.core.devices import (
    autocast,
    choose_device,
    choose_dtype,
    cpu_threads,
    has_bfloat16_products,
    keep_freed_memory,
    to_device,
)
from videoretalking.core.graphs import GraphedFunction, Recorder, record_on
from videoretalking.core.locations import user_folder
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.dnet import DNet
from videoretalking.models.enet import ENet
from videoretalking.models.folding import fold_for_cpu
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.models.int8 import is_large
from videoretalking.models.layers.packing import pack_weights
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.formats import CpuTrial, FormatTrial, main_output

logger = logging.getLogger(__name__)

FORMATS = "formats"  # folder in the user's
_BATCH = {"cuda": 16, "mps": 8, "cpu": 4}
# Times as many faces go through a small network on a CPU at once, which spends much of its time between layers.
_SMALL = 2
_BESIDE = 2  # batches of L-Net for cores beside each other, at most; each costs memory
# Their maps have 256 pixels a side and more. On a CPU a batch of four gains them nothing and takes gigabytes, while
# L-Net, whose weights outweigh its maps, needs a fifth less time a face.
_LARGE_MAPS = (BiSeNet, DNet, ENet, GFPGAN, ParseNet)

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True)
class Engine:
    """Where and how networks run; makes their runners.

    Attributes:
        device: where.
        dtype: number format; reduced ones under autocast. int8, and bfloat16 on CUDA, only where a network's first
            faces look the same.
        batch_size: items in one call to begin with.
        compiled: torch.compile the networks; does not go with int8.
        one_large_map: large networks with large maps get one item in a call, small networks twice as many as
            others. Several calls of a large network run beside each other, each on some of the cores.
        bfloat16_too: under int8, convolutions that int8 may not have or that are too small for it run in bfloat16,
            likewise only where the first faces look the same.
        verdicts: folder where the formats of int8 networks are kept from run to run; None tries them in each.
        recorder: of what the networks do on a GPU; None lets them run as they are.
    """

    device: torch.device
    dtype: torch.dtype
    batch_size: int
    compiled: bool = False
    one_large_map: bool = False
    bfloat16_too: bool = False
    verdicts: Path | None = None
    recorder: Recorder | None = field(default=None, compare=False, repr=False)

    @classmethod
    def from_config(cls, runtime: RuntimeConfig) -> Engine:
        """The engine that the settings ask for; ``auto`` and 0 choose by the machine.

        This also changes how the process keeps memory (:func:`core.devices.keep_freed_memory`), before there are
        threads with memory of their own.

        Raises:
            UserError: a device or a number format that is not there.
        """
        device = choose_device(runtime.device)
        keep_freed_memory()
        dtype = choose_dtype(runtime.dtype, device, runtime.compile)
        batch_size = runtime.batch_size or _BATCH.get(device.type, 4)
        one_large_map = device.type == "cpu" and not runtime.batch_size
        bfloat16_too = dtype == torch.int8 and has_bfloat16_products(device)
        verdicts = user_folder() / FORMATS if dtype == torch.int8 else None
        recorder = None if runtime.compile else record_on(device)
        return cls(
            device, dtype, batch_size, runtime.compile, one_large_map, bfloat16_too, verdicts, recorder
        )

    def __str__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        if self.dtype == torch.int8:
            reduced = "int8 or bfloat16" if self.bfloat16_too else "int8"
            precision = f"float32, convolutions in {reduced} where that looks the same"
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device} in {precision}, {self.batch_size} faces a batch{compiled}"

    def prepare(self, network: Network, exact: bool = False) -> Runner[Network]:
        """Move a network in eval mode to the device, as convolutions read it fastest: channels last.

        Args:
            network: changed in place; for inference only from here on.
            exact: float32 whatever the engine's number format, for what is a measurement and not a picture.
        """
        if self.device.type == "cuda" and self.compiled:
            torch.backends.cudnn.benchmark = True  # takes seconds at the start and pays on long videos too
        engine = replace(self, dtype=torch.float32) if exact else self
        large = is_large(network)
        if self.one_large_map and not large:
            engine = replace(engine, batch_size=_SMALL * self.batch_size)
        elif self.one_large_map and isinstance(network, _LARGE_MAPS):
            engine = replace(engine, batch_size=1)
        with torch.inference_mode(False):  # the trial of int8 needs gradients
            network = network.to(self.device).to(memory_format=torch.channels_last)
            if self.device.type == "cpu":
                _let_go_of_file(network)
            if self.device.type == "cpu" and not self.compiled:
                fold_for_cpu(network)
                if engine.dtype == torch.float32:
                    pack_weights(network)
        return Runner(engine, network, large=large)


class Runner(Generic[Network]):
    """A network as a stage calls it.

    The batch is halved for good whenever memory runs out. Under int8 the first batch decides whether the network
    changes; the verdict holds for all functions of the network.

    Attributes:
        network: the network itself, on its device.
        large: whether it has many weights (:func:`models.int8.is_large`).
        device: the engine's.
        batch_size: items in one call, for now.

    Args:
        engine: how to run.
        network: what :meth:`Engine.prepare` prepared.
        function: what to call; None calls the network.
        trial: of int8, shared by all functions of a network; None makes a new one.
        format_trial: of bfloat16 on CUDA, likewise.
        large: what :attr:`large` was before the network was rewritten; None looks.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        function: Callable[..., Any] | None = None,
        trial: CpuTrial | None = None,
        format_trial: FormatTrial | None = None,
        large: bool | None = None,
    ) -> None:
        self.network = network
        self.large = is_large(network) if large is None else large
        self.device = engine.device
        self.batch_size = engine.batch_size
        self._engine = engine
        self._beside = engine.one_large_map and self.large and not engine.compiled
        self._function: Callable[..., Any] = network if function is None else function
        self._plain = self._function
        if engine.compiled:
            self._function = torch.compile(self._function)
        self._compute = GraphedFunction(
            type(network).__name__, partial(_main_output, self._function), engine.recorder
        )
        self._trial = trial or CpuTrial(
            network, engine.dtype == torch.int8, engine.bfloat16_too, engine.verdicts
        )
        self._format_trial = format_trial or FormatTrial(network, engine.device, engine.dtype)

    def using(self, function: Callable[..., torch.Tensor]) -> Runner[Network]:
        """A runner of another function of the same network.

        Args:
            function: takes tensors [B, ...] and returns one tensor [B, ...].
        """
        trials = self._trial, self._format_trial
        return Runner(self._engine, self.network, function, *trials, self.large)

    @property
    def batches_at_once(self) -> int:
        """Batches that a call should have, for cores that work beside each other."""
        return min(torch.get_num_threads(), _BESIDE) if self._beside else 1

    def settle(self, *inputs: torch.Tensor) -> None:
        """Choose the number format by a sample, for stages that never call the network as a whole.

        Args:
            inputs: [B, ...] arguments of the network.
        """
        batch = [tensor.to(self.device) for tensor in inputs]
        self._trial(self._function, *batch)
        self._format_trial(self._plain, *batch)

    def __call__(self, *inputs: torch.Tensor, **shared: Any) -> torch.Tensor:
        """Run.

        Args:
            inputs: [N, ...] with N >= 1, anywhere.
            shared: arguments that every batch gets as they are; tensors on the device.

        Returns:
            [N, ...] float32 on the device: the output, or the main one of a network with several.

        Raises:
            torch.OutOfMemoryError: even one item does not fit.
        """
        results = self._run_beside(inputs, shared) if self._beside else []
        start = sum(map(len, results))
        while start < len(inputs[0]):
            batch = [tensor[start : start + self.batch_size] for tensor in inputs]
            try:
                results.append(self._run(*batch, **shared))
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, len(batch[0]) // 2)
                self._compute.forget()
                logger.warning("out of memory: going on with batches of %d", self.batch_size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += len(batch[0])
        return results[0] if len(results) == 1 else torch.cat(results)

    def _run_beside(self, inputs: Sequence[torch.Tensor], shared: dict[str, Any]) -> list[torch.Tensor]:
        """As many full batches as the cores can be shared among evenly, each in a thread of its own.

        Threads that share one batch wait for each other at every layer, for a tenth of their time.
        """
        threads, size = torch.get_num_threads(), self.batch_size
        count = len(inputs[0]) // size
        workers = min(threads, count)
        if workers < 2:
            return []
        starts = range(0, count // workers * workers * size, size)
        batches = [[tensor[start : start + size] for tensor in inputs] for start in starts]
        self._trial(self._function, *batches[0], **shared)
        return list(
            _crew(workers, threads // workers).map(lambda batch: self._run(*batch, **shared), batches)
        )

    def _padding(self, count: int) -> int:
        """Items to add to a batch, so that a GPU sees powers of two and the full size only."""
        if self.device.type != "cuda" or count > self.batch_size:
            return 0
        return min(1 << (count - 1).bit_length(), self.batch_size) - count

    def _run(self, *inputs: torch.Tensor, **shared: Any) -> torch.Tensor:
        count = len(inputs[0])
        padding = self._padding(count)
        batch = [_repeat_last(to_device(tensor, self.device), padding) for tensor in inputs]
        self._trial(self._function, *batch, **shared)
        dtype = self._format_trial(self._plain, *batch, **shared)
        result = self._compute(*batch, context=partial(autocast, self.device, dtype), kind=dtype, **shared)
        return result[:count].float()


def _main_output(function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> torch.Tensor:
    return main_output(function(*inputs, **shared))


def _let_go_of_file(network: nn.Module) -> None:
    """Copy the tensors that lie in the mapped checkpoint; the last one of them keeps all of it in memory."""
    for tensor in [*network.parameters(), *network.buffers()]:
        if not tensor.untyped_storage().resizable():
            tensor.data = tensor.data.clone(memory_format=torch.preserve_format)


@cache
def _crew(workers: int, threads: int) -> ThreadPoolExecutor:
    """Threads each of which PyTorch lets compute on so many cores."""
    crew = ThreadPoolExecutor(workers, thread_name_prefix="network")
    all_there = threading.Barrier(workers)

    def begin(_: int) -> None:
        torch.get_num_threads()  # a thread takes the number over when it first asks
        all_there.wait()

    with cpu_threads(threads):
        list(crew.map(begin, range(workers)))
    return crew


def _repeat_last(batch: torch.Tensor, times: int) -> torch.Tensor:
    """Append the last item of a batch to it."""
    return torch.cat([batch, batch[-1:].expand(times, *batch.shape[1:])]) if times else batch


class _Fetched:
    """A number on its way from the device; reading it waits for that."""

    def __init__(self, values: torch.Tensor, place: int, arrived: torch.cuda.Event) -> None:
        self._values, self._place, self._arrived = values, place, arrived

    def __float__(self) -> float:
        self._arrived.synchronize()
        return float(self._values[self._place])


def fetch(values: torch.Tensor) -> Sequence[SupportsFloat]:
    """[N] numbers for the CPU, without waiting for a GPU until one is read."""
    if values.device.type != "cuda":
        return cast("list[float]", values.tolist())
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    arrived = torch.cuda.current_stream(values.device).record_event()
    return [_Fetched(host, place, arrived) for place in range(len(values))]


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU allocator ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "out of memory" in text

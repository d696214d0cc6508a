"""How the networks of pass 2 run: device, number format, batches, memory; the stages know none of it.

A stage calls its network like a function, ``image = self.lnet(audio, faces)``, with as many faces as it has. The
:class:`Runner` around the network cuts them into batches, moves these to the device, computes in the number format
of the engine and hands back float32.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, SupportsFloat, TypeVar, cast

import torch
from torch import nn

from videoretalking.core.devices import autocast, choose_device, choose_dtype, keep_freed_memory
from videoretalking.core.quality import psnr
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.dnet import DNet
from videoretalking.models.enet import ENet
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.models.int8 import is_large, to_int8
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.config import RuntimeConfig

logger = logging.getLogger(__name__)

MIN_PSNR = 40.0  # dB between the first batch in a reduced format and in float32, below which it is not taken
_TRIED = 2  # faces by which the number format is chosen
_BATCH = {"cuda": 16, "mps": 8, "cpu": 4}
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
        one_large_map: large networks with large maps get one item in a call.
    """

    device: torch.device
    dtype: torch.dtype
    batch_size: int
    compiled: bool = False
    one_large_map: bool = False

    @classmethod
    def from_config(cls, runtime: RuntimeConfig) -> Engine:
        """The engine that the settings ask for; ``auto`` and 0 choose by the machine.

        Raises:
            UserError: a device or a number format that is not there.
        """
        device = choose_device(runtime.device)
        dtype = choose_dtype(runtime.dtype, device, runtime.compile)
        batch_size = runtime.batch_size or _BATCH.get(device.type, 4)
        one_large_map = device.type == "cpu" and not runtime.batch_size
        return cls(device, dtype, batch_size, runtime.compile, one_large_map)

    def __str__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        if self.dtype == torch.int8:
            precision = "float32, large ones in int8 where that looks the same"
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device} in {precision}, {self.batch_size} faces a batch{compiled}"

    def prepare(self, network: Network, exact: bool = False) -> Runner[Network]:
        """Move a network in eval mode to the device, as convolutions read it fastest: channels last.

        A large network on the CPU also changes how the process keeps memory
        (:func:`core.devices.keep_freed_memory`).

        Args:
            network: changed in place; for inference only from here on.
            exact: float32 whatever the engine's number format, for what is a measurement and not a picture.
        """
        if is_large(network) and self.device.type == "cpu":
            keep_freed_memory()
        if self.device.type == "cuda" and self.compiled:
            torch.backends.cudnn.benchmark = True  # takes seconds at the start and pays on long videos too
        engine = replace(self, dtype=torch.float32) if exact else self
        if self.one_large_map and isinstance(network, _LARGE_MAPS) and is_large(network):
            engine = replace(engine, batch_size=1)
        return Runner(engine, network.to(self.device).to(memory_format=torch.channels_last))


class Runner(Generic[Network]):
    """A network as a stage calls it.

    The batch is halved for good whenever memory runs out. Under int8 the first batch decides whether the network
    changes; the verdict holds for all functions of the network.

    Attributes:
        network: the network itself, on its device.
        device: the engine's.
        batch_size: items in one call, for now.

    Args:
        engine: how to run.
        network: what :meth:`Engine.prepare` prepared.
        function: what to call; None calls the network.
        trial: of int8, shared by all functions of a network; None makes a new one.
        format_trial: of bfloat16 on CUDA, likewise.
    """

    def __init__(
        self,
        engine: Engine,
        network: Network,
        function: Callable[..., Any] | None = None,
        trial: Int8Trial | None = None,
        format_trial: FormatTrial | None = None,
    ) -> None:
        self.network = network
        self.device = engine.device
        self.batch_size = engine.batch_size
        self._engine = engine
        self._function: Callable[..., Any] = network if function is None else function
        self._plain = self._function
        if engine.compiled:
            self._function = torch.compile(self._function)
        self._trial = trial or Int8Trial(network, enabled=engine.dtype == torch.int8)
        self._format_trial = format_trial or FormatTrial(network, engine.device, engine.dtype)

    def using(self, function: Callable[..., torch.Tensor]) -> Runner[Network]:
        """A runner of another function of the same network.

        Args:
            function: takes tensors [B, ...] and returns one tensor [B, ...].
        """
        return Runner(self._engine, self.network, function, self._trial, self._format_trial)

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
        results: list[torch.Tensor] = []
        start = 0
        while start < len(inputs[0]):
            batch = [tensor[start : start + self.batch_size] for tensor in inputs]
            try:
                results.append(self._run(*batch, **shared))
            except RuntimeError as error:
                if not _is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, len(batch[0]) // 2)
                logger.warning("out of memory: going on with batches of %d", self.batch_size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += len(batch[0])
        return torch.cat(results)

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
        with torch.inference_mode(), autocast(self.device, dtype):
            output = self._function(*batch, **shared)
        return main_output(output)[:count].float()


class Int8Trial:
    """Changes a network to int8 if its first real batch looks the same; the verdict holds.

    How much a network loses in int8 depends on its weights, so that it is measured and not assumed.

    Args:
        network: for inference only; changed in place.
        enabled: False makes the trial do nothing.
    """

    def __init__(self, network: nn.Module, enabled: bool) -> None:
        self.network: nn.Module | None = network if enabled and is_large(network) else None

    @torch.inference_mode()
    def __call__(self, function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> None:
        """At the first call run ``function`` both ways and decide; afterwards return at once.

        Args:
            function: of the network; its result is an image in [0, 1], or has one as its main output.
            inputs: its arguments.
            shared: its arguments by name.
        """
        network, self.network = self.network, None
        if network is None:
            return

        def image() -> torch.Tensor:
            # what is beyond is cut off before anybody sees it
            return main_output(function(*inputs, **shared)).clamp(0.0, 1.0)

        expected = image()
        replaced = to_int8(network)
        quality = -math.inf
        try:
            quality = float(psnr(image()[None], expected[None]))  # of the batch as a whole
        finally:
            if not quality >= MIN_PSNR:
                for owner, name, original in replaced:
                    setattr(owner, name, original)
        verdict = "in int8" if quality >= MIN_PSNR else f"stays in float32, int8 needs {MIN_PSNR:.0f} dB"
        logger.info("%s %s: %.1f dB on the first batch", type(network).__name__, verdict, quality)


def _repeat_last(batch: torch.Tensor, times: int) -> torch.Tensor:
    """Append the last item of a batch to it."""
    return torch.cat([batch, batch[-1:].expand(times, *batch.shape[1:])]) if times else batch


def to_device(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Move a tensor without waiting for the device: to CUDA it goes through page-locked memory."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.contiguous().pin_memory()  # an expanded one has no memory of its own
    return tensor.to(device, non_blocking=True)


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


def main_output(result: Any) -> torch.Tensor:
    """The tensor that the product uses of what a network returns."""
    for name in ("logits", "points", "image"):
        if hasattr(result, name):
            return cast(torch.Tensor, getattr(result, name))
    return cast(torch.Tensor, result if isinstance(result, torch.Tensor) else result[0])


def _is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU allocator ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "out of memory" in text


class FormatTrial:
    """Chooses the number format of a network on CUDA by its first real faces; the verdict holds.

    bfloat16 has three digits, which dozens of residual blocks in a row use up: L-Net of the released size, with
    random weights, is 29 dB from float32. float16 costs a GPU the same and is 18 dB better, but it overflows, so it
    is measured too before it is taken.

    Args:
        network: for the log.
        device: where it runs; anything but CUDA keeps the format.
        dtype: the wanted one; anything but bfloat16 is kept.
    """

    def __init__(self, network: nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._name = type(network).__name__
        self._device = device
        self._dtype = dtype
        self._decided = device.type != "cuda" or dtype != torch.bfloat16

    @torch.inference_mode()
    def __call__(self, function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> torch.dtype:
        """The format to compute in; the first call runs ``function`` in several.

        Args:
            function: of the network, as in :class:`Int8Trial`.
            inputs: its arguments.
            shared: its arguments by name.
        """
        if self._decided:
            return self._dtype
        self._decided = True

        few = [tensor[:_TRIED] for tensor in inputs]

        def image(dtype: torch.dtype) -> torch.Tensor:
            # cuDNN's search for the fastest kernels would take seconds in each format
            with torch.backends.cudnn.flags(enabled=True, allow_tf32=False), autocast(self._device, dtype):
                return main_output(function(*few, **shared)).float().clamp(0.0, 1.0)

        expected, tried = image(torch.float32), []
        self._dtype = torch.float32
        for dtype in (torch.bfloat16, torch.float16):
            quality = float(psnr(image(dtype)[None], expected[None]))
            tried.append(f"{quality:.1f} dB in {dtype}".replace("torch.", ""))
            if quality >= MIN_PSNR:  # not so for NaN
                self._dtype = dtype
                break
        chosen = str(self._dtype).removeprefix("torch.")
        logger.info("%s in %s: %s on the first faces", self._name, chosen, ", ".join(tried))
        return self._dtype

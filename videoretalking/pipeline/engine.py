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

from videoretalking.core.devices import (
    autocast,
    choose_device,
    choose_dtype,
    has_bfloat16_products,
    keep_freed_memory,
)
from videoretalking.core.quality import psnr
from videoretalking.models.bfloat16 import float32_convs
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.dnet import DNet
from videoretalking.models.enet import ENet
from videoretalking.models.folding import fold_for_cpu
from videoretalking.models.gfpgan import GFPGAN
from videoretalking.models.int8 import HeavyConv, find_losses, heavy_convs, is_large, weighing
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.config import RuntimeConfig

logger = logging.getLogger(__name__)

MIN_PSNR = 40.0  # dB between the first batch in a reduced format and in float32, below which it is not taken
_TRIED = 2  # faces by which the number format is chosen
_TRIALS = 4  # of int8 for some of the layers, at most
_MARGIN = 1.0  # dB above the bound that are aimed at there: what was tuned on these faces is worse on others
_SLACK = 0.7  # dB above that, at which the search ends
_MIN_SHARE = 0.2  # of the work of the large convolutions: if less is left in int8, it is not worth having
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
        bfloat16_too: under int8, convolutions that int8 may not have or that are too small for it run in bfloat16,
            likewise only where the first faces look the same.
    """

    device: torch.device
    dtype: torch.dtype
    batch_size: int
    compiled: bool = False
    one_large_map: bool = False
    bfloat16_too: bool = False

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
        bfloat16_too = dtype == torch.int8 and has_bfloat16_products(device)
        return cls(device, dtype, batch_size, runtime.compile, one_large_map, bfloat16_too)

    def __str__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        if self.dtype == torch.int8:
            reduced = "int8 or bfloat16" if self.bfloat16_too else "int8"
            precision = f"float32, convolutions in {reduced} where that looks the same"
        compiled = ", compiled" if self.compiled else ""
        return f"{self.device} in {precision}, {self.batch_size} faces a batch{compiled}"

    def prepare(self, network: Network, exact: bool = False) -> Runner[Network]:
        """Move a network in eval mode to the device, as convolutions read it fastest: channels last.

        On the CPU this also changes how the process keeps memory (:func:`core.devices.keep_freed_memory`).

        Args:
            network: changed in place; for inference only from here on.
            exact: float32 whatever the engine's number format, for what is a measurement and not a picture.
        """
        if self.device.type == "cpu":
            keep_freed_memory()
        if self.device.type == "cuda" and self.compiled:
            torch.backends.cudnn.benchmark = True  # takes seconds at the start and pays on long videos too
        engine = replace(self, dtype=torch.float32) if exact else self
        if self.one_large_map and isinstance(network, _LARGE_MAPS) and is_large(network):
            engine = replace(engine, batch_size=1)
        with torch.inference_mode(False):  # the trial of int8 needs gradients
            network = network.to(self.device).to(memory_format=torch.channels_last)
            if self.device.type == "cpu" and not self.compiled:
                fold_for_cpu(network)
        return Runner(engine, network)


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
        self._trial = trial or Int8Trial(network, engine.dtype == torch.int8, engine.bfloat16_too)
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
    """Changes a network to int8 as far as its first real faces look the same; the verdict holds.

    How much a network loses in int8 depends on its weights, so that it is measured and not assumed. Where all of
    the large convolutions in int8 lose too much, those that lose most for their work are left in float32. These and
    the small ones are then tried in bfloat16.

    Args:
        network: for inference only; changed in place.
        enabled: False makes the trial do nothing.
        bfloat16_too: try that as well.
    """

    def __init__(self, network: nn.Module, enabled: bool, bfloat16_too: bool = False) -> None:
        self.network: nn.Module | None = network if enabled and (is_large(network) or bfloat16_too) else None
        self._bfloat16_too = bfloat16_too

    def __call__(self, function: Callable[..., Any], *inputs: torch.Tensor, **shared: Any) -> None:
        """At the first call run ``function`` both ways on the first faces and decide; afterwards return at once.

        Args:
            function: of the network; its result is an image in [0, 1], or has one as its main output.
            inputs: its arguments.
            shared: its arguments by name.
        """
        network, self.network = self.network, None
        if network is None:
            return
        convs = heavy_convs(network) if is_large(network) else []
        # outside of inference mode, so that gradients can be had
        with torch.inference_mode(False), torch.no_grad():
            few = [tensor[:_TRIED].clone() for tensor in inputs]
            more = {name: _own(value) for name, value in shared.items()}
            mixture = _Mixture(convs, function, few, more)
            verdicts = [self._try_int8(convs, mixture)] if convs else []
            if self._bfloat16_too:
                verdicts.append(self._try_bfloat16(network, mixture))
        logger.info("%s %s", type(network).__name__, "; ".join(verdicts))

    def _try_int8(self, convs: list[HeavyConv], mixture: _Mixture) -> str:
        passed = False
        try:
            kept, quality = mixture.search()
            passed = quality >= MIN_PSNR
        finally:
            if not passed:
                for conv in convs:
                    conv.to_float32()
        verdict = f"stays in float32, int8 needs {MIN_PSNR:.0f} dB"
        if passed:
            verdict = f"in int8 but for {kept} of {len(mixture.convs)} convolutions" if kept else "in int8"
        return f"{verdict}: {quality:.1f} dB on the first faces"

    def _try_bfloat16(self, network: nn.Module, mixture: _Mixture) -> str:
        convs = float32_convs(network)
        passed = False
        try:
            for conv in convs:
                conv.to_bfloat16()
            quality = mixture.quality()
            passed = quality >= MIN_PSNR
        finally:
            if not passed:
                for conv in convs:
                    conv.to_float32()
        verdict = "in bfloat16" if passed else f"stay in float32, bfloat16 needs {MIN_PSNR:.0f} dB"
        return f"{len(convs)} others {verdict}: {quality:.1f} dB"


class _Mixture:
    """The search for the convolutions of a network that have to stay in float32.

    Args:
        convs: of the network.
        function: of it.
        inputs: its arguments, [B, ...].
        shared: its arguments by name.
    """

    def __init__(
        self,
        convs: list[HeavyConv],
        function: Callable[..., Any],
        inputs: list[torch.Tensor],
        shared: dict[str, Any],
    ) -> None:
        self._function, self._inputs, self._shared = function, inputs, shared
        with weighing(convs):
            self._expected = self._image()
        self.convs = [conv for conv in convs if conv.work]  # of the others nothing can be known

    def search(self) -> tuple[int, float]:
        """Leave as few convolutions in float32 as needed, and change the others.

        Returns:
            How many are left; the PSNR, below :data:`MIN_PSNR` where all that is worth trying loses too much.
        """
        quality = self._try(0)
        if quality >= MIN_PSNR or not self._rank():
            return 0, quality
        # the estimates are off by nearly the same for neighboring counts, so each trial corrects the next
        target = MIN_PSNR + _MARGIN
        failed, best, offset = 0, (self._most() + 1, quality), 0.0
        for _ in range(_TRIALS):
            if best[0] - failed <= 1 or 0.0 <= best[1] - target <= _SLACK:
                break
            count = min(max(self._fewest(target - offset), failed + 1), best[0] - 1)
            quality = self._try(count)
            offset = quality - self._estimate(count)
            if quality >= target:
                best = count, quality
            else:
                failed = count
        self._apply(best[0])
        return best

    def _image(self) -> torch.Tensor:
        # what is beyond is cut off before anybody sees it
        return main_output(self._function(*self._inputs, **self._shared)).clamp(0.0, 1.0)

    def _apply(self, count: int) -> None:
        """Leave the first ``count`` convolutions in float32."""
        for place, conv in enumerate(self.convs):
            if place < count:
                conv.to_float32()
            else:
                conv.to_int8()

    def _try(self, count: int) -> float:
        self._apply(count)
        return self.quality()

    def quality(self) -> float:
        """PSNR of the network as it is now against what it was at first."""
        return float(psnr(self._image()[None], self._expected[None]))

    def _rank(self) -> bool:
        """Sort by what a convolution loses for its work; False where that cannot be told."""
        for tensor in self._inputs:
            tensor.requires_grad_(tensor.is_floating_point())
        known = find_losses(self.convs, self._image)
        for tensor in self._inputs:
            tensor.requires_grad_(False)
        self.convs.sort(key=lambda conv: conv.loss / conv.work, reverse=True)
        return known

    def _estimate(self, count: int) -> float:
        """PSNR with ``count`` in float32."""
        loss = sum(conv.loss for conv in self.convs[count:])
        return -10.0 * math.log10(max(loss, 1e-30))

    def _fewest(self, quality: float) -> int:
        """How many have to stay in float32 by the estimates."""
        return next(
            (count for count in range(len(self.convs)) if self._estimate(count) >= quality), len(self.convs)
        )

    def _most(self) -> int:
        """How many may stay in float32."""
        rest = total = sum(conv.work for conv in self.convs)
        for count, conv in enumerate(self.convs):
            rest -= conv.work
            if rest < _MIN_SHARE * total:
                return count
        return len(self.convs)


def _own(value: Any) -> Any:
    """A tensor that gradients can be had with, made from one of inference mode."""
    return value.clone() if isinstance(value, torch.Tensor) else value


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

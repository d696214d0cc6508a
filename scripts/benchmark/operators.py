"""What networks really compute, seen at the operators: number format, memory layout, batch, and how much work.

Settings say what was asked for; autocast, the int8 trial and out-of-memory retries decide what happens. A
:class:`Probe` is a stopwatch that looks at the tensors of every convolution and matrix product of the real job. The
same counts give the arithmetic floor: the work over what the machine reaches at best in that format
(:func:`measure_peaks`).
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from videoretalking.core.devices import cpu_threads, has_fast_int8
from videoretalking.models.int8 import Int8Conv2d, quantize
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.stream import Stopwatch

_INT8_OPERATOR = "onednn::qconv2d_pointwise"
_POINTWISE_OPERATOR = "mkldnn::_convolution_pointwise"
_LAYOUTS = {True: "channels last", False: "channels first"}
_TRIAL_SECONDS = 2.0  # machines are noisy: the best of what fits
_BLOCK_SECONDS = 0.1


@dataclass(frozen=True)
class Kind:
    """One way of computing.

    Attributes:
        dtype: of the input, such as ``bfloat16``; ``int8`` for quantized convolutions.
        weight: dtype of the other operand.
        layout: ``channels last`` or ``channels first`` of a convolution's input; "" where there is no difference.
        batch: length of the input's first dimension; 0 for matrix products, where it need not be one.
    """

    dtype: str
    weight: str
    layout: str
    batch: int


@dataclass(frozen=True)
class Work:
    """What one stage computed.

    Attributes:
        flops: of each kind.
    """

    flops: Counter[Kind]

    @property
    def total(self) -> float:
        """FLOP of all kinds."""
        return float(sum(self.flops.values()))

    def shares(self, quantity: Callable[[Kind], Any]) -> dict[str, float]:
        """Share of the work by a quantity of its kind, largest first."""
        counts: Counter[str] = Counter()
        for kind, flops in self.flops.items():
            counts[str(quantity(kind))] += flops
        return {name: flops / self.total for name, flops in counts.most_common()}

    def floor(self, peaks: Mapping[str, float]) -> float:
        """Seconds that the work would take at the machine's best; NaN where that was not measured."""
        return sum(flops / peaks.get(kind.dtype, math.nan) for kind, flops in self.flops.items())

    def describe(self) -> dict[str, Any]:
        """For the results: shares by format, layout and batch."""
        return {
            "dtypes": self.shares(lambda kind: kind.dtype),
            "weights": self.shares(lambda kind: kind.weight),
            "layouts": self.shares(lambda kind: kind.layout or "-"),
            "batches": self.shares(lambda kind: kind.batch or "-"),
        }


class Probe(Stopwatch):
    """A stopwatch that counts what the operators of each stage compute, in whichever thread it runs."""

    def __init__(self) -> None:
        super().__init__()
        self._flops: dict[str, Counter[Kind]] = {}
        self._guard = threading.Lock()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the block for ``stage``."""
        recorder = _Recorder()
        with super().__call__(stage), recorder:
            yield
        with self._guard:
            self._flops.setdefault(stage, Counter()).update(recorder.flops)

    @property
    def work(self) -> dict[str, Work]:
        """Of the stages that compute at all."""
        return {stage: Work(flops) for stage, flops in self._flops.items() if flops.total() > 0}


def work_of(function: Callable[[], Any]) -> Work:
    """What a call computes. On one thread, since what is computed in others cannot be seen."""
    recorder = _Recorder()
    with cpu_threads(1), recorder:
        function()
    return Work(recorder.flops)


class _Recorder(TorchDispatchMode):
    """Looks at every operator of a thread; composite ones are taken apart, as inference mode leaves them whole."""

    def __init__(self) -> None:
        super().__init__()
        self.flops: Counter[Kind] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func._overloadpacket
        quantized, pointwise = func.name() == _INT8_OPERATOR, func.name() == _POINTWISE_OPERATOR
        if packet not in flop_registry and not (quantized or pointwise):
            with self:
                result = func.decompose(*args, **kwargs)
            return func(*args, **kwargs) if result is NotImplemented else result
        result = func(*args, **kwargs)
        operands = [item for item in args if isinstance(item, torch.Tensor)]
        if packet in (torch.ops.aten.addmm, torch.ops.aten.baddbmm):
            operands = operands[1:]  # what is added comes first
        if quantized:
            self._add(
                Kind("int8", "int8", _layout(args[0]), len(args[0])), _convolution_flops(args[3], result)
            )
        elif pointwise:
            kind = Kind(_name(operands[0]), _name(operands[1]), _layout(operands[0]), len(operands[0]))
            self._add(kind, _convolution_flops(operands[1], result))
        elif packet is torch.ops.aten.convolution:
            kind = Kind(_name(operands[0]), _name(operands[1]), _layout(operands[0]), len(operands[0]))
            self._add(kind, flop_registry[packet](*args, **kwargs, out_val=result))
        else:
            kind = Kind(_name(operands[0]), _name(operands[1]), "", 0)
            self._add(kind, flop_registry[packet](*args, **kwargs, out_val=result))
        return result

    def _add(self, kind: Kind, flops: int) -> None:
        self.flops[kind] += flops


def busy_time(device: torch.device) -> float:
    """A clock of the work: CPU-seconds of all threads, which other programs do not change; seconds of a GPU."""
    if device.type == "cpu":
        return time.process_time()
    _wait(device)
    return time.perf_counter()


def threads_of(device: torch.device) -> int:
    """How many seconds :func:`busy_time` can advance in one."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_peaks(runtime: RuntimeConfig) -> dict[str, float]:
    """What the machine reaches at best, FLOP a second, in float32 and in the formats that the engine may take.

    The better of a large matrix product and of a convolution with many channels, in the layout of the engine. On
    CUDA float32 has the precision that PyTorch gives it by default: TF32 in convolutions, not in matrix products.
    """
    engine = Engine.from_config(runtime)  # which may also set how exactly a GPU computes in float32
    device, dtype = engine.device, engine.dtype
    names = {torch.float32, dtype if dtype != torch.int8 else torch.float32}
    if engine.bfloat16_too:
        names.add(torch.bfloat16)
    if device.type == "cuda":
        names |= {torch.float16, torch.bfloat16}
    peaks = {_format(name): _peak(device, name) for name in names}
    if dtype == torch.int8 and has_fast_int8(device):
        peaks["int8"] = _int8_peak()
    return peaks


@torch.inference_mode()
def _peak(device: torch.device, dtype: torch.dtype) -> float:
    side, images = (8192, 32) if device.type == "cuda" else (1024, 4)
    matrix = torch.randn(side, side, device=device).to(dtype)
    conv = (
        nn.Conv2d(256, 256, 3, padding=1, bias=False).to(device, dtype).to(memory_format=torch.channels_last)
    )
    maps = torch.randn(images, 256, 64, 64, device=device).to(dtype)
    maps = maps.contiguous(memory_format=torch.channels_last)
    product = 2 * side**3 / _best(lambda: matrix @ matrix, device)
    return max(product, _conv_flops(images) / _best(lambda: conv(maps), device))


@torch.inference_mode()
def _int8_peak() -> float:
    conv = Int8Conv2d(nn.Conv2d(256, 256, 3, padding=1, bias=False).requires_grad_(False))
    levels = quantize(torch.randn(4, 256, 64, 64))
    return _conv_flops(4) / _best(lambda: conv.convolve(*levels), torch.device("cpu"))


def _conv_flops(images: int) -> int:
    return 2 * images * 64 * 64 * 256 * 256 * 9


def _best(function: Callable[[], Any], device: torch.device) -> float:
    """Least seconds of a call on all threads, as a mean over a block of calls.

    The clock of other threads that still run is some milliseconds late, which is no less than a call takes.
    """
    best, calls = math.inf, 1
    end = time.monotonic() + _TRIAL_SECONDS
    while time.monotonic() < end or best == math.inf:
        begin, start = time.perf_counter(), busy_time(device)
        for _ in range(calls):
            function()
        busy = busy_time(device) - start
        if time.perf_counter() - begin < _BLOCK_SECONDS:
            calls *= 2
        else:
            best = min(best, busy / calls)
    return best / threads_of(device)


def _convolution_flops(weight: torch.Tensor, result: torch.Tensor) -> int:
    return 2 * result.numel() * math.prod(weight.shape[1:])


def _layout(maps: torch.Tensor) -> str:
    """How a map lies in memory; "" where both ways are the same, as with a single channel or pixel."""
    last = maps.is_contiguous(memory_format=torch.channels_last)
    return "" if last and maps.is_contiguous() else _LAYOUTS[last]


def _name(tensor: torch.Tensor) -> str:
    return _format(tensor.dtype)


def _format(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

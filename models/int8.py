"""Convolutions in 8-bit integers, several times as fast on CPUs with VNNI instructions.

Weights have one scale for each output channel; the scale and zero point of the input follow from its range at
every call. Two things keep the loss small. All channels of a map share that scale, so that those with a wide range
are divided by a factor, which their weights are multiplied by (Xiao et al. 2023, "SmoothQuant"). And what rounding
takes from one tap of a kernel is added to the next: maps are smooth, so the errors of neighbors cancel. Only the
large convolutions change, the rest of a network stays in float32. How much a network loses depends on its weights,
so whoever calls :meth:`HeavyConv.to_int8` must compare both ways.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.arrays import Floats32
from videoretalking.models.layers import fused
from videoretalking.models.layers.blocks import split_padding
from videoretalking.models.layers.levels import LevelReader, Levels, choose_levels
from videoretalking.models.layers.style import ModulatedConv, conv2d, repeat_border

_MIN_REUSE = 128  # multiplications of each number: with fewer, rounding the map costs as much as int8 saves
_MIN_TAPS = 4  # likewise for 1x1 kernels; this also leaves the spectra of Fourier units in float32
_MIN_WEIGHTS = (
    4_000_000  # in the heavy convolutions together: released sizes have more, the bundled ones less
)
_MIN_WORK = 10_000_000  # multiplications for a face: with fewer, what int8 costs at each call is too much
_WEAKEST = 1e-2  # of the widest range: channels that the first map leaves empty may fill later
_CHUNK = 1 << 18  # numbers rounded at once, so that the intermediate result stays in the cache


def is_large(network: nn.Module) -> bool:
    """Whether ``network`` has so much work in heavy convolutions that how they run matters."""
    weights = sum(module.weight.numel() for module in network.modules() if _is_heavy(module))
    return weights >= _MIN_WEIGHTS


class HeavyConv:
    """A large convolution of a network, which runs in float32 or in int8.

    Attributes:
        work: multiplications for a face.
        loss: what it takes from the output of the network in int8, as a mean square (:func:`find_losses`).

        path: of the convolution in the network.
        balance: [in] that the channels are divided by in int8; None as long as no call was watched.

    Args:
        owner: module that has it.
        attribute: under this name.
        path: of the owner in the network.
    """

    def __init__(self, owner: nn.Module, attribute: str, path: str = "") -> None:
        self.work, self.loss = 0, 0.0
        self.path = f"{path}.{attribute}".lstrip(".")
        self.balance: torch.Tensor | None = None
        self._owner, self._attribute = owner, attribute
        self._original: Callable[..., torch.Tensor] = getattr(owner, attribute)
        self._rounded: Callable[..., torch.Tensor] | None = None

    def to_float32(self) -> None:
        """Run as at first."""
        setattr(self._owner, self._attribute, self._original)

    def to_int8(self) -> None:
        """Run in int8, with the channels balanced as in the first call that was watched."""
        setattr(self._owner, self._attribute, self.rounded)

    @property
    def is_worth_it(self) -> bool:
        """Whether it had so much work that int8 pays."""
        return self.work >= _MIN_WORK

    @property
    def is_int8(self) -> bool:
        """Whether it runs in int8 now."""
        return self._rounded is not None and getattr(self._owner, self._attribute) is self._rounded

    @property
    def rounded(self) -> Callable[..., torch.Tensor]:
        """The same function in int8."""
        if self._rounded is None:
            if isinstance(self._original, nn.Conv2d):
                normed = self._attribute in getattr(self._owner, "normed", ())
                self._rounded = Int8Conv2d(self._original, self.balance, half=normed)
            else:
                assert isinstance(self._owner, ModulatedConv)
                self._rounded = Int8Function(self._owner.weight.shape[1], self.balance)
        return self._rounded

    def watch(self, see: Callable[[HeavyConv, _Call], None]) -> None:
        """Run as at first, and show every call to ``see``."""

        def function(*args: Any, **options: Any) -> torch.Tensor:
            out = self._original(*args, **options)
            see(self, _Call(args, options, out))
            return out

        is_module = isinstance(self._original, nn.Module)
        setattr(self._owner, self._attribute, _Watched(function) if is_module else function)

    def weigh(self, call: _Call) -> None:
        """Learn from a call how much work it is and how its channels are to be balanced."""
        features, *weight = call.args[:2]  # a function gets its weight with the map
        kernel = weight[0] if weight else self._original.weight  # type: ignore[attr-defined]
        self.work += call.out[0, 0].numel() * kernel.numel()
        if self.balance is None:
            self.balance = balance_channels(features, kernel)


@dataclass(frozen=True)
class _Call:
    """Of a convolution, with its result."""

    args: tuple[Any, ...]
    options: dict[str, Any]
    out: torch.Tensor


class _Watched(nn.Module):
    """A function in the place of a module."""

    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.forward = function


def heavy_convs(network: nn.Module) -> list[HeavyConv]:
    """The large convolutions of ``network`` that still run in float32."""
    found: list[HeavyConv] = []
    for path, owner in network.named_modules():
        if isinstance(owner, ModulatedConv) and _is_heavy(owner):
            found.append(HeavyConv(owner, "convolve", path))
        for name, child in owner.named_children():
            if isinstance(child, nn.Conv2d) and _is_heavy(child):
                found.append(HeavyConv(owner, name, path))
    return found


@contextmanager
def weighing(convs: Sequence[HeavyConv]) -> Iterator[None]:
    """What the network computes in this block says how its convolutions are balanced and how much work they do."""
    with _watching(convs, HeavyConv.weigh):
        yield


def find_losses(convs: Sequence[HeavyConv], image: Callable[[], torch.Tensor]) -> bool:
    """Estimate how much each convolution, were it the only one in int8, would change the output of the network.

    The errors of rounding are as good as white noise. What comes of them at the output is their energy times the
    squared gradients of the output with respect to the result of that convolution. One backward pass, from a random
    direction, gives the sum of these squares for all convolutions at once.

    Args:
        convs: of the network; their ``loss`` is set.
        image: runs the network, on inputs that require a gradient.

    Returns:
        False where the output does not depend on its inputs by functions with a gradient; then nothing is set.
    """
    for conv in convs:
        conv.loss = 0.0

    def see(conv: HeavyConv, call: _Call) -> None:
        with torch.no_grad():
            error = float((conv.rounded(*call.args, **call.options) - call.out).square_().mean())

        def add(gradient: torch.Tensor) -> None:
            conv.loss += error * float(gradient.square().sum())

        if call.out.requires_grad:
            call.out.register_hook(add)

    with torch.enable_grad(), _watching(convs, see):
        out = image()
        if not out.requires_grad:
            return False
        generator = torch.Generator().manual_seed(0)
        direction = torch.randn(out.shape, generator=generator) / math.sqrt(out.numel())
        out.backward(direction)
    return True


@contextmanager
def _watching(convs: Sequence[HeavyConv], see: Callable[[HeavyConv, _Call], None]) -> Iterator[None]:
    try:
        for conv in convs:
            conv.watch(see)
        yield
    finally:
        for conv in convs:
            conv.to_float32()


class Int8Conv2d(nn.Module, LevelReader):
    """What an ``nn.Conv2d`` computes, with weights rounded once.

    Args:
        conv: any stride, dilation, groups and padding mode; numeric padding.
        balance: [in] that the channels are divided by, see :func:`balance_channels`; None for groups.
        half: give a result in bfloat16 where compiled loops may read it.
    """

    def __init__(self, conv: nn.Conv2d, balance: torch.Tensor | None = None, half: bool = False) -> None:
        super().__init__()
        self._half = half
        self.border, padding = split_padding(conv)
        self.padding_mode = conv.padding_mode
        if conv.padding_mode == "zeros" and conv.kernel_size[0] % 2 == 0 and conv.stride == (1, 1):
            # oneDNN takes nearly twice as long where it has to pad for an odd number of columns
            self.border, padding = [side for side in reversed(padding) for _ in range(2)], (0, 0)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.factors = _factors(balance, conv.in_channels)
        weight = _balanced(conv.weight, balance)
        self.convolve = _Int8Kernel(weight, conv.stride, padding, conv.dilation, conv.groups)

    def forward(self, features: torch.Tensor | Levels) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], float32 or bfloat16, channels last."""
        levels, scale, zero = _rounded(features, self.factors)
        if self.border and self.padding_mode == "zeros":
            levels = F.pad(levels, self.border, value=zero)
        elif self.border:
            levels = F.pad(levels, self.border, mode=self.padding_mode)
        return self.convolve(levels, scale, zero, self.bias, self._half and fused.reads_half())


class Int8Function(LevelReader):
    """:func:`style.conv2d` with weights that are rounded when they come; the last ones are kept.

    Args:
        channels: of its maps.
        balance: that of :class:`Int8Conv2d`.
    """

    def __init__(self, channels: int, balance: torch.Tensor | None = None) -> None:
        self.factors = _factors(balance, channels)
        self._balance = balance
        self._last: tuple[torch.Tensor, int, _Int8Kernel] | None = None

    def __call__(
        self,
        features: torch.Tensor | Levels,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        padding: int = 0,
        border: int = 0,
        half: bool = False,
    ) -> torch.Tensor:
        """[B, in, H, W] and [out, in, h, w] -> [B, out, H', W'], float32, or with ``half`` bfloat16."""
        last = self._last  # other threads may put theirs here
        if last is None or last[1] != padding or not (last[0] is weight or torch.equal(last[0], weight)):
            kernel = _Int8Kernel(_balanced(weight, self._balance), padding=(padding, padding))
            self._last = last = weight, padding, kernel
        levels, scale, zero = _rounded(features, self.factors)
        return last[2](repeat_border(levels, border), scale, zero, bias, half)


def balance_channels(features: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What to divide each input channel by, so that its map and its weights share what rounding loses.

    Args:
        features: [B, in, H, W].
        weight: [out, in, h, w].

    Returns:
        [in] positive factors: the root of the range of the map over that of the weights.
    """
    ranges = [features.abs().amax(dim=(0, 2, 3)), weight.detach().abs().amax(dim=(0, 2, 3)).float()]
    tiny = torch.finfo(torch.float32).tiny
    wide, heavy = (found.clamp(min=max(_WEAKEST * float(found.max()), tiny)) for found in ranges)
    return (wide / heavy).sqrt_()


def quantize(features: torch.Tensor, balance: torch.Tensor | None = None) -> Levels:
    """Round a map to 8 bits.

    Args:
        features: [B, C, H, W].
        balance: [C] that the channels are divided by; None stands for ones.

    Raises:
        ValueError: an input is not finite.
    """
    return _rounded(features, _factors(balance, features.shape[1]))


def _rounded(features: torch.Tensor | Levels, factors: Floats32) -> Levels:
    """Levels, which somebody may have made before."""
    if isinstance(features, Levels):
        return features
    with torch.no_grad():
        features = features.contiguous(memory_format=torch.channels_last)
        if fused.is_fit(features):
            return fused.to_levels(features, factors)
        return _quantize(features, torch.from_numpy(factors))


def _factors(balance: torch.Tensor | None, channels: int) -> Floats32:
    factors = torch.ones(channels) if balance is None else balance.detach().reciprocal()
    return np.asarray(factors.numpy())


def _quantize(features: torch.Tensor, factors: torch.Tensor) -> Levels:
    """:func:`quantize` with PyTorch's operators."""
    rows = features.permute(0, 2, 3, 1).flatten(0, 2)  # a view
    channels = rows.shape[1]
    chunk = max(1, _CHUNK // channels)
    scratch = torch.empty(min(chunk, len(rows)), channels)
    found: list[torch.Tensor] = []
    for some in rows.split(chunk):
        found += torch.aminmax(torch.mul(some, factors, out=scratch[: len(some)]))
    both = torch.stack(found)  # also of NaN, which min() of Python may lose
    scale, zero = choose_levels(float(both.amin()), float(both.amax()))
    levels = torch.empty_like(features, dtype=torch.uint8)
    nearest = torch.tensor(zero + 0.5)  # the conversion to integers cuts off
    factors = factors / scale
    parts = levels.permute(0, 2, 3, 1).flatten(0, 2).split(chunk)
    for part, some in zip(parts, rows.split(chunk), strict=True):
        part.copy_(torch.addcmul(nearest, some, factors, out=scratch[: len(some)]))
    return Levels(levels, scale, zero)


def _balanced(weight: torch.Tensor, balance: torch.Tensor | None) -> torch.Tensor:
    return weight if balance is None else weight.detach() * balance[:, None, None]


class _Int8Kernel:
    """A rounded weight in oneDNN's own layout, and how to convolve with it."""

    def __init__(
        self,
        weight: torch.Tensor,
        stride: Sequence[int] = (1, 1),
        padding: Sequence[int] = (0, 0),
        dilation: Sequence[int] = (1, 1),
        groups: int = 1,
    ) -> None:
        weight = weight.detach().float()
        self.scale = weight.abs().amax(dim=(1, 2, 3)).clamp_(min=torch.finfo(torch.float32).tiny) / 127.0
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.geometry = (stride, padding, dilation, groups)
        levels = _round_taps(weight / self.scale[:, None, None, None])
        self.packed = torch.ops.onednn.qconv_prepack(levels, self.scale, 1.0, 0, *self.geometry)

    def __call__(
        self,
        levels: torch.Tensor,
        scale: float,
        zero: int,
        bias: torch.Tensor | None = None,
        half: bool = False,
    ) -> torch.Tensor:
        """Convolve what :func:`quantize` returned; float32, or with ``half`` bfloat16."""
        dtype = torch.bfloat16 if half else torch.float32
        # scale, zero point and type of the output; no activation fused, with neither parameters nor algorithm
        plain: tuple[Any, ...] = (1.0, 0, dtype, "none", [], "")
        out: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            levels, scale, zero, self.packed, self.scale, self.zero, bias, *self.geometry, *plain
        )
        return out


def _round_taps(weight: torch.Tensor) -> torch.Tensor:
    """[out, in, h, w] within [-127, 127] -> int8, with what each tap loses added to the next one of the kernel."""
    taps = weight.permute(2, 3, 0, 1).flatten(0, 1).contiguous()
    levels = torch.empty_like(taps, dtype=torch.int8)
    rest = torch.zeros_like(taps[0])
    for level, tap in zip(levels, taps, strict=True):
        rest += tap
        rounded = rest.round().clamp_(-127.0, 127.0)
        level.copy_(rounded)
        rest -= rounded
    return levels.unflatten(0, weight.shape[2:]).permute(2, 3, 0, 1).contiguous()


def _is_heavy(module: nn.Module) -> TypeGuard[nn.Conv2d | ModulatedConv]:
    if isinstance(module, nn.Conv2d) and (module.groups > 1 or isinstance(module.padding, str)):
        return False
    if isinstance(module, ModulatedConv) and module.convolve is not conv2d:
        return False
    if not isinstance(module, nn.Conv2d | ModulatedConv):
        return False
    out_channels, _, height, width = module.weight.shape
    step = math.prod(module.stride) if isinstance(module, nn.Conv2d) else 1
    taps = height * width
    return taps >= _MIN_TAPS and out_channels * taps >= _MIN_REUSE * step

"""Convolutions in 8-bit integers, several times as fast on CPUs with VNNI instructions.

Weights have one scale for each output channel; the scale and zero point of the input follow from its range at
every call. Only the large convolutions change, the rest of a network stays in float32. How much a network loses
depends on its weights, so whoever calls :func:`to_int8` must compare both ways.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.style import ModulatedConv

_MIN_CHANNELS = 64  # with fewer, rounding the map costs as much time as the convolution saves
_MIN_TAPS = 9  # likewise for 1x1 kernels; this also leaves the spectra of Fourier units in float32
_MIN_WEIGHTS = 4_000_000  # in the heavy convolutions together: the bundled small networks do not get faster
_CHUNK = 1 << 18  # numbers rounded at once, so that the intermediate result stays in the cache


def is_large(network: nn.Module) -> bool:
    """Whether ``network`` has so much work in heavy convolutions that how they run matters."""
    weights = sum(module.weight.numel() for module in network.modules() if _is_heavy(module))
    return weights >= _MIN_WEIGHTS


def to_int8(network: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Replace the heavy convolutions of ``network`` by int8 ones.

    Returns:
        (owner, attribute, original) of each; setting the attributes again undoes it.
    """
    replaced: list[tuple[nn.Module, str, Any]] = []
    for owner in list(network.modules()):
        if isinstance(owner, ModulatedConv) and _is_heavy(owner):
            replaced.append((owner, "convolve", owner.convolve))
            owner.convolve = int8_conv2d
        for name, child in list(owner.named_children()):
            if _is_heavy(child) and isinstance(child, nn.Conv2d):
                replaced.append((owner, name, child))
                setattr(owner, name, Int8Conv2d(child))
    return replaced


class Int8Conv2d(nn.Module):
    """What an ``nn.Conv2d`` computes, with weights rounded once.

    Args:
        conv: any stride, dilation, groups and padding mode; numeric padding.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)
        pad_first = conv.padding_mode != "zeros"
        self.border = [side for side in reversed(conv.padding) for _ in range(2)] if pad_first else []
        self.padding_mode = conv.padding_mode
        padding = (0, 0) if pad_first else conv.padding
        bias = None if conv.bias is None else conv.bias.detach()
        self.convolve = _Int8Kernel(conv.weight, bias, conv.stride, padding, conv.dilation, conv.groups)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], float32, channels last."""
        levels, scale, zero = quantize(features)
        if self.border:
            levels = F.pad(levels, self.border, mode=self.padding_mode)
        return self.convolve(levels, scale, zero)


def int8_conv2d(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> torch.Tensor:
    """``F.conv2d`` with weights that are rounded at every call; channels last."""
    return _Int8Kernel(weight, bias, stride, padding, dilation, groups)(*quantize(features))


def quantize(features: torch.Tensor) -> tuple[torch.Tensor, float, int]:
    """Round a map to 8 bits: ``features`` is about ``(levels - zero) * scale``.

    Args:
        features: [B, C, H, W].

    Returns:
        uint8 levels of the same shape, channels last; scale; zero point, the level of 0.0.

    Raises:
        ValueError: an input is not finite.
    """
    features = features.contiguous(memory_format=torch.channels_last)
    numbers = features.permute(0, 2, 3, 1).reshape(-1)  # a view, on which one pass finds both ends
    low, high = (float(bound) for bound in torch.aminmax(numbers))
    if not math.isfinite(high - low):
        raise ValueError("int8 convolution of a map that is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 254.0 or 1.0  # one level less than there are, for the rounding of the zero point
    zero = round(-low / scale)
    levels = torch.empty_like(features, dtype=torch.uint8)
    to_nearest = torch.tensor(zero + 0.5)  # the conversion to integers cuts off
    scratch = torch.empty(min(_CHUNK, len(numbers)))
    parts = levels.permute(0, 2, 3, 1).reshape(-1).split(_CHUNK)
    for part, chunk in zip(parts, numbers.split(_CHUNK), strict=True):
        part.copy_(torch.add(to_nearest, chunk, alpha=1.0 / scale, out=scratch[: len(chunk)]))
    return levels, scale, zero


class _Int8Kernel:
    """A rounded weight in oneDNN's own layout, and how to convolve with it."""

    def __init__(
        self,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        groups: int,
    ) -> None:
        weight = weight.detach().float()
        self.scale = weight.abs().amax(dim=(1, 2, 3)).clamp_(min=torch.finfo(torch.float32).tiny) / 127.0
        self.zero = torch.zeros(len(weight), dtype=torch.int32)
        self.bias = bias
        self.geometry = (stride, padding, dilation, groups)
        levels = (weight / self.scale[:, None, None, None]).round_().to(torch.int8)
        self.packed = torch.ops.onednn.qconv_prepack(levels, self.scale, 1.0, 0, *self.geometry)

    def __call__(self, levels: torch.Tensor, scale: float, zero: int) -> torch.Tensor:
        """Convolve what :func:`quantize` returned; float32."""
        # scale, zero point and type of the output; no activation fused, with neither parameters nor algorithm
        plain: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        out: torch.Tensor = torch.ops.onednn.qconv2d_pointwise(
            levels, scale, zero, self.packed, self.scale, self.zero, self.bias, *self.geometry, *plain
        )
        return out


def _is_heavy(module: nn.Module) -> TypeGuard[nn.Conv2d | ModulatedConv]:
    if isinstance(module, nn.Conv2d) and (module.groups > 1 or isinstance(module.padding, str)):
        return False
    if isinstance(module, ModulatedConv) and module.convolve is int8_conv2d:
        return False
    if not isinstance(module, nn.Conv2d | ModulatedConv):
        return False
    out_channels, in_channels, height, width = module.weight.shape
    return min(in_channels, out_channels) >= _MIN_CHANNELS and height * width >= _MIN_TAPS

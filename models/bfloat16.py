"""Convolutions in bfloat16 between maps in float32, twice as fast on CPUs with AVX512-BF16 instructions.

bfloat16 has the range of float32 and three digits, so nothing has to be scaled, and a convolution sums in float32.
Autocast would keep the maps between the convolutions in bfloat16 too: no faster here, and 10 to 30 dB worse.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from videoretalking.models.layers.packing import PackedConv2d, is_packable
from videoretalking.models.layers.style import ModulatedConv, conv2d

_MIN_REUSE = 48  # multiplications of each number in or out; with fewer, rounding costs what it saves
# By their names: D-Net's flow, of which a grid step moves four pixels, and the convolutions of spectra.
_KEPT = {"flow_conv", "fourier"}


class SmallConv:
    """A convolution of a network that runs in float32, or in bfloat16.

    Attributes:
        path: of the convolution in the network.

    Args:
        owner: module that has it.
        attribute: under this name.
        path: of the owner in the network.
    """

    def __init__(self, owner: nn.Module, attribute: str, path: str = "") -> None:
        self.path = f"{path}.{attribute}".lstrip(".")
        self._owner, self._attribute = owner, attribute
        self._original: Callable[..., torch.Tensor] = getattr(owner, attribute)

    def to_bfloat16(self) -> None:
        """Round the maps and weights that it multiplies."""
        original = self._original
        rounded = Bfloat16Conv(original) if isinstance(original, nn.Module) else bfloat16_conv2d
        setattr(self._owner, self._attribute, rounded)

    def to_float32(self) -> None:
        """Run as at first."""
        setattr(self._owner, self._attribute, self._original)


def float32_convs(network: nn.Module) -> list[SmallConv]:
    """The convolutions of ``network`` that are in float32, gain by bfloat16, and are not to be exact."""
    found = []
    for path, owner in network.named_modules():
        if _KEPT.intersection(path.split(".")):
            continue
        if isinstance(owner, ModulatedConv) and owner.convolve is conv2d and _is_worth_it(owner):
            found.append(SmallConv(owner, "convolve", path))
        for name, child in owner.named_children():
            if not isinstance(child, nn.Conv2d | nn.ConvTranspose2d) or name in _KEPT:
                continue
            if child.weight.dtype == torch.float32 and _is_worth_it(child):
                found.append(SmallConv(owner, name, path))
    return found


class Bfloat16Conv(nn.Module):
    """What a convolution computes, with its weights and its map rounded.

    Args:
        conv: in float32.
    """

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        rounded = copy.deepcopy(conv).bfloat16().to(memory_format=torch.channels_last)
        self.convolve: nn.Module = PackedConv2d(rounded) if is_packable(rounded) else rounded

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], float32."""
        out: torch.Tensor = self.convolve(features.bfloat16())
        return out.float()


def bfloat16_conv2d(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    half: bool = False,
    **geometry: Any,
) -> torch.Tensor:
    """:func:`style.conv2d` with weights that are rounded at every call; float32, or bfloat16 if ``half`` may be."""
    out = conv2d(
        features.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16(), **geometry
    )
    return out if half and out.is_contiguous(memory_format=torch.channels_last) else out.float()


def _is_worth_it(conv: nn.Conv2d | nn.ConvTranspose2d | ModulatedConv) -> bool:
    if not isinstance(conv, ModulatedConv) and conv.groups > 1:
        return False
    outputs, inputs, *kernel = conv.weight.shape
    if isinstance(conv, nn.ConvTranspose2d):
        outputs, inputs = inputs, outputs
    taps = math.prod(kernel)
    # a stride above 1 leaves fewer outputs than inputs, or more where it is transposed
    step = 1 if isinstance(conv, ModulatedConv) else math.prod(conv.stride)
    used, summed = outputs * taps, inputs * taps
    if isinstance(conv, nn.ConvTranspose2d):
        summed //= step
    else:
        used //= step
    return 1 / used + 1 / summed <= 1 / _MIN_REUSE

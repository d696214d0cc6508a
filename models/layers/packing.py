"""Convolutions whose weights lie in memory as oneDNN reads them, for inference on a CPU.

Otherwise oneDNN sorts them at every call. Where maps are small, as L-Net's of 12x12, that is a tenth of the time.
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import split_padding

_MIN_WEIGHTS = 1 << 16  # with fewer, sorting takes no time


class PackedConv2d(nn.Module):
    """What a convolution computes, with weights that are sorted at the first call.

    Args:
        conv: one that :func:`is_packable`; float32 or bfloat16, as its maps.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.border, padding = split_padding(conv)
        self.padding_mode = conv.padding_mode
        self._geometry = (padding, conv.stride, conv.dilation, conv.groups)
        bias = None if conv.bias is None else conv.bias.detach()
        self._weights = _Weights(conv.weight.detach(), bias, packed=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], channels last."""
        if self.border:
            features = F.pad(features, self.border, mode=self.padding_mode)
        features = features.contiguous(memory_format=torch.channels_last)
        weights = self._weights  # which another thread may change meanwhile
        if not weights.packed:
            # the order that is best for maps of this size; others work too
            dense, size = weights.weight.to_mkldnn(), list(features.shape)
            ordered = torch.ops.aten.mkldnn_reorder_conv2d_weight(dense, *self._geometry, size)
            weights = self._weights = _Weights(ordered, weights.bias, packed=True)
        out: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            features, weights.weight, weights.bias, *self._geometry, "none", [], ""
        )
        return out


class _Weights(NamedTuple):
    weight: torch.Tensor
    bias: torch.Tensor | None
    packed: bool


def is_packable(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether oneDNN can have the weights of ``module`` once and for all."""
    if not isinstance(module, nn.Conv2d) or isinstance(module.padding, str) or module.weight.is_mkldnn:
        return False
    return module.weight.device.type == "cpu" and torch.backends.mkldnn.is_available()


def pack_weights(network: nn.Module) -> None:
    """Sort the larger weights of a network that computes in float32, in place; it can do nothing but infer then."""
    for owner in list(network.modules()):
        for name, child in list(owner.named_children()):
            if not is_packable(child) or child.weight.dtype != torch.float32:
                continue
            if child.weight.numel() >= _MIN_WEIGHTS:
                setattr(owner, name, PackedConv2d(child))

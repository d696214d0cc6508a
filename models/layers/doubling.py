"""A map that is doubled in size and then convolved, computed at its own size.

Doubling is linear, so it goes into the kernel: each of the four pixels that one pixel becomes has a kernel of its
own. Where pixels are repeated these have 2x2 taps instead of 3x3, less than half of the work. Where they are
blended the work stays, but the doubled map, four times as large as the small one, is never written.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn

from videoretalking.models.layers import fused
from videoretalking.models.layers.blocks import leaky_relu
from videoretalking.models.layers.levels import Levels

# For the upper and the lower one of the two pixels that a pixel becomes, and for what lies one above, there and one
# below at twice the size: the shares of the pixels above, here and below at the map's own size. Blended as by a
# bilinear resize with half-pixel centers.
_BLENDED = torch.tensor(
    [
        [[0.75, 0.25, 0.0], [0.25, 0.75, 0.0], [0.0, 0.75, 0.25]],
        [[0.25, 0.75, 0.0], [0.0, 0.75, 0.25], [0.0, 0.25, 0.75]],
    ]
)
# Likewise repeated: the upper one sees the pixels above and here, the lower one those here and below.
_REPEATED = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]])


class RepeatingConv2d(nn.Module):
    """``nn.Conv2d`` on a map whose pixels were all repeated twice in both directions.

    Args:
        conv: kernel 3x3, stride 1, padding 1, one group; padding mode ``zeros``, or ``reflect``, which at the
            border of a repeated map repeats.
        only_normed: nobody but a norm reads the result.

    Attributes:
        normed: names of convolutions whose results may be in bfloat16, since only :func:`interleave` reads them.
    """

    normed = ("phases",)

    def __init__(self, conv: nn.Conv2d, only_normed: bool = False) -> None:
        super().__init__()
        self._only_normed = only_normed
        outputs = conv.out_channels
        self.phases = nn.Conv2d(
            conv.in_channels,
            4 * outputs,
            2,
            padding=1,
            padding_mode="zeros" if conv.padding_mode == "zeros" else "replicate",
            bias=conv.bias is not None,
            device="meta",
        )
        weight = _phases(conv.weight.detach(), _REPEATED).contiguous(memory_format=torch.channels_last)
        self.phases.weight = nn.Parameter(weight, requires_grad=False)
        if conv.bias is not None:
            self.phases.bias = nn.Parameter(conv.bias.detach().repeat(4), requires_grad=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, 2H, 2W], channels last."""
        # one row and column more than the map has: the lower pixel's taps lie one further
        return cast(torch.Tensor, interleave(self.phases(features), 1, half=self._only_normed))


def blended_kernel(kernel: torch.Tensor) -> torch.Tensor:
    """The four kernels that do what a bilinear doubling and then ``kernel`` do, but for the border.

    Args:
        kernel: [out, in, 3, 3].

    Returns:
        [4 * out, in, 3, 3], for :func:`interleave`. With the border repeated by one pixel only the outermost pixels
        of the result differ, where ``kernel`` alone would see zeros.
    """
    return _phases(kernel, _BLENDED)


def interleave(
    phases: torch.Tensor,
    shift: int = 0,
    added: torch.Tensor | None = None,
    negative_slope: float = 1.0,
    reader: object = None,
    half: bool = False,
) -> torch.Tensor | Levels:
    """Put four maps together to one of twice the size.

    Args:
        phases: [B, 4 * C, H + shift, W + shift]: upper left, upper right, lower left, lower right pixels.
        shift: rows and columns that the lower and the right ones lie further than the others.
        added: [1 or B, 1, 2H, 2W] added to all channels.
        negative_slope: of a leaky ReLU on the result; 1 leaves it as it is.
        reader: what alone reads the result; a convolution in int8 may get it rounded.
        half: phases in bfloat16 may stay in it, where they are only put together.

    Returns:
        [B, C, 2H, 2W], channels last.
    """
    if fused.is_fit(phases, half=True):
        return fused.interleave(phases, shift, added, negative_slope, reader, half)
    batch, channels, height, width = phases.shape
    channels, height, width = channels // 4, height - shift, width - shift
    rows = phases.permute(0, 2, 3, 1).contiguous()
    out = rows.new_empty(batch, height, 2, width, 2, channels)
    more = None if added is None else added.reshape(len(added), height, 2, width, 2, 1).to(phases.dtype)
    for lower in (0, 1):
        for right in (0, 1):
            place = (2 * lower + right) * channels
            top, left = lower * shift, right * shift
            part = rows[:, top : top + height, left : left + width, place : place + channels]
            target = out[:, :, lower, :, right]
            if more is None:
                target.copy_(part)
            else:
                torch.add(part, more[:, :, lower, :, right], out=target)
    return leaky_relu(out.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2), negative_slope)


def _phases(kernel: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """[out, in, 3, 3] and the shares [2, 3, taps] -> [4 * out, in, taps, taps]."""
    kernel = kernel.clone()  # one from inference mode cannot be looked at in parts outside of it
    shares = shares.to(kernel)
    return torch.einsum("oiuv,aus,bvt->aboist", kernel, shares, shares).flatten(0, 2)

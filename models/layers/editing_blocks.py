"""Plain blocks of D-Net's editing network and L-Net's visual path (paper, figure 11 b and c)."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers import fused
from videoretalking.models.layers.blocks import ChannelLayerNorm, maybe_spectral_norm

Norm = Literal["layer", "batch"]
NEGATIVE_SLOPE = 0.1


class PlainBlock(nn.Module):
    """Convolution, norm, leaky ReLU, with an optional resize before or after.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel size.
        resample: ``up`` repeats every pixel before the convolution, ``down`` averages 2x2 after it.
        norm: ``layer`` as released, ``batch`` as in the paper's appendix C.2.1.
        spectral: spectrally normalize the convolution.

    Attributes:
        normed: names of convolutions whose results only a norm reads, in whichever format (as elsewhere).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        resample: Literal["none", "up", "down"] = "none",
        norm: Norm = "layer",
        spectral: bool = False,
    ) -> None:
        super().__init__()
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        self.conv = maybe_spectral_norm(conv, spectral)
        self.norm = ChannelLayerNorm(out_channels) if norm == "layer" else nn.BatchNorm2d(out_channels)
        self.normed = ("conv",) if norm == "layer" else ()
        self.resample = resample

    def forward(self, features: torch.Tensor, added: torch.Tensor | None = None) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W'], H' being H, 2H or H/2; plus ``added`` of that shape."""
        if self.resample == "up":
            features = F.interpolate(features, scale_factor=2.0, mode="nearest")
        out = self.conv(features)
        halve = self.resample == "down"
        if isinstance(self.norm, ChannelLayerNorm):
            return self.norm(out, NEGATIVE_SLOPE, inplace=True, halve=halve, added=added)
        out = self.norm(out)
        if not halve and fused.is_fit(out, added):
            return fused.activate(out, NEGATIVE_SLOPE, added)
        out = F.leaky_relu(out, NEGATIVE_SLOPE, inplace=True)
        out = F.avg_pool2d(out, 2) if halve else out
        return out if added is None else out + added


class FinalConv(nn.Module):
    """7x7 convolution to an image, without norm; the caller applies tanh or sigmoid.

    Args:
        in_channels: channels of the input.
        spectral: spectrally normalize the convolution.
    """

    def __init__(self, in_channels: int, spectral: bool = False) -> None:
        super().__init__()
        self.conv = maybe_spectral_norm(nn.Conv2d(in_channels, 3, 7, padding=3), spectral)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, 3, H, W]."""
        out: torch.Tensor = self.conv(features)
        return out

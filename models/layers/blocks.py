"""Convolution blocks that several networks share."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from videoretalking.models.layers import fused


def to_signed(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [-1, 1], the range that tanh networks are trained in."""
    return image * 2.0 - 1.0


def from_signed(image: torch.Tensor) -> torch.Tensor:
    """[-1, 1] -> [0, 1]; the inverse of :func:`to_signed`, not clipped."""
    return (image + 1.0) * 0.5


def resize(image: torch.Tensor, size: tuple[int, int] | int) -> torch.Tensor:
    """Bilinear resize with half-pixel centers and no antialiasing, the only kind the paper's networks use."""
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def shrink(image: torch.Tensor, size: int, antialias: bool) -> torch.Tensor:
    """Reduce faces to the size that a network reads.

    Args:
        image: [B, C, H, W].
        size: side of the result, not larger than H and W.
        antialias: take the mean of the pixels that each new one covers. False is the bilinear resize of the
            published code, which looks at four of them and so turns fine detail of large faces into noise.

    Returns:
        [B, C, size, size].
    """
    return F.interpolate(image, size=size, mode="area") if antialias else resize(image, size)


def scale_by(features: torch.Tensor, factor: float) -> torch.Tensor:
    """Bilinear resize by a factor; half-pixel centers, no antialiasing."""
    return F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)


def unroll_clip(clip: torch.Tensor) -> torch.Tensor:
    """[B, C, T, H, W] -> [T * B, C, H, W], time-major as Wav2Lip batches clips (item ``t * B + b``)."""
    return clip.permute(2, 0, 1, 3, 4).flatten(0, 1)


def unroll_audio(windows: torch.Tensor) -> torch.Tensor:
    """[B, T, 1, bands, columns] -> [T * B, 1, bands, columns], matching :func:`unroll_clip`."""
    return windows.transpose(0, 1).flatten(0, 1)


def roll_clip(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """[T * B, C, H, W] -> [B, C, T, H, W], the inverse of :func:`unroll_clip`."""
    return frames.unflatten(0, (num_frames, -1)).permute(1, 2, 0, 3, 4)


def split_padding(conv: nn.Conv2d) -> tuple[list[int], tuple[int, ...]]:
    """How a map is padded before a kernel that knows of zeros only, as F.pad takes it, and how by the kernel.

    Args:
        conv: any padding mode; numeric padding.

    Returns:
        [left, right, top, bottom], empty where nothing is padded before; (rows, columns) of zeros.
    """
    assert not isinstance(conv.padding, str)
    if conv.padding_mode == "zeros":
        return [], conv.padding
    return [side for side in reversed(conv.padding) for _ in range(2)], (0, 0)


def leaky_relu(features: torch.Tensor, negative_slope: float) -> torch.Tensor:
    """Leaky ReLU in place; a slope of 1 is none."""
    return features if negative_slope == 1.0 else F.leaky_relu(features, negative_slope, inplace=True)


class ChannelLayerNorm(nn.Module):
    """Layer norm over channels, height and width of one sample, with one scale and shift per channel.

    Args:
        num_channels: channels of the input.
        eps: added to the variance.
    """

    def __init__(self, num_channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(num_channels, 1, 1))

    def forward(
        self,
        features: torch.Tensor,
        negative_slope: float = 1.0,
        inplace: bool = False,
        halve: bool = False,
        added: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Normalize; statistics are taken in float32 under autocast too.

        Args:
            features: [B, C, H, W].
            negative_slope: of a leaky ReLU behind the norm; 1 leaves the values as they are.
            inplace: ``features`` may be written to.
            halve: average 2x2 pixels in the end.
            added: [B, C, H, W] added in the end; not together with ``halve``.

        Returns:
            [B, C, H, W], or half of H and W.
        """
        if fused.is_fit(features, added, half=self.weight.dtype == torch.float32):
            weight, bias = self.weight.view(1, -1), self.bias.view(1, -1)
            way = negative_slope, inplace, halve, added
            return cast(torch.Tensor, fused.norm(features, weight, bias, self.eps, False, *way))
        with torch.autocast(features.device.type, enabled=False):
            # the same as a group norm with one group, which also reads channels-last maps without copying them
            weight, bias = self.weight.flatten(), self.bias.flatten()
            normed = F.group_norm(features.float(), 1, weight, bias, self.eps).to(features.dtype)
        out = leaky_relu(normed, negative_slope)
        out = F.avg_pool2d(out, 2) if halve else out
        return out if added is None else out + added


class ConvNormAct(nn.Module):
    """Convolution, batch norm, optional addition of the input, ReLU: the block of Wav2Lip and SyncNet.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: kernel size, square or (height, width).
        stride: stride, square or (height, width).
        padding: zero padding.
        residual: add the input before the ReLU; shapes must agree.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 1,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
        self.norm = nn.BatchNorm2d(out_channels)
        self.residual = residual

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        out = self.norm(self.conv(features))
        return F.relu(out.add_(features) if self.residual else out, inplace=True)


class ResDown(nn.Module):
    """Residual block that halves the size: the identity encoder of E-Net and the encoder of GFPGAN.

    Main path conv 3x3, leaky ReLU, resize, conv 3x3, leaky ReLU; shortcut resize, conv 1x1. With
    ``factor=2`` it doubles the size instead (GFPGAN's decoder side).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        factor: size factor of the bilinear resize.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: float = 0.5) -> None:
        super().__init__()
        self.factor = factor
        self.conv1 = nn.Conv2d(in_channels, in_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, factor * H, factor * W]."""
        out = F.leaky_relu(self.conv1(features), 0.2, inplace=True)
        out = F.leaky_relu(self.conv2(scale_by(out, self.factor)), 0.2, inplace=True)
        return self.skip(scale_by(features, self.factor)).add_(out)


def maybe_spectral_norm(module: nn.Module, enabled: bool) -> nn.Module:
    """Spectrally normalize the weight of ``module`` when enabled; eval mode uses the stored vectors."""
    return spectral_norm(module) if enabled else module


@torch.no_grad()
def fold_spectral_norm(network: nn.Module) -> nn.Module:
    """Replace every normalized weight by its value in eval mode; outputs stay equal, training state is gone.

    Args:
        network: changed in place and put into eval mode.

    Returns:
        The same network.
    """
    network.eval()
    for module in network.modules():
        if is_parametrized(module, "weight"):
            remove_parametrizations(module, "weight", leave_parametrized=True)
    return network

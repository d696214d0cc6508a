"""Fast Fourier Convolutions with AdaIN (Chi et al. 2020; paper, section 3.2 and figure 11d).

Channels are split into a local part (the first ones) and a global part (the last ones). The global part is
seen by a 1x1 convolution in the frequency domain, whose receptive field is the whole map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.adain import AdaIN

# The local part [B, L, H, W] and the global one [B, G, H, W].
Parts: TypeAlias = tuple[torch.Tensor, torch.Tensor]

_SMALL = 24  # pixels a side up to which products of matrices are the faster transforms


class FourierUnit(nn.Module):
    """1x1 convolution, batch norm and ReLU on the real 2-D spectrum, kept in float32.

    Args:
        num_channels: channels of the map; real and imaginary parts are interleaved into twice as many.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * num_channels, 2 * num_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * num_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        size = features.shape[-2:]
        # complex FFTs exist in float32 only, and the bins span too many magnitudes for bfloat16
        with torch.autocast(features.device.type, enabled=False):
            spectrum = torch.view_as_real(torch.fft.rfft2(features.float(), norm="ortho"))  # [B, C, H, W', 2]
            bins = spectrum.permute(0, 1, 4, 2, 3).flatten(1, 2)  # channel 2j real, 2j + 1 imaginary
            bins = F.relu(self.norm(self.conv(bins)))
            spectrum = bins.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous()
            return torch.fft.irfft2(torch.view_as_complex(spectrum), s=size, norm="ortho").to(features.dtype)


class ProductFourierUnit(nn.Module):
    """A :class:`FourierUnit` for inference that takes the spectra of small maps by products of matrices.

    A transform of 12x12 numbers is so short that a library for them is busy with everything else, the more as it
    wants maps with their channels first. Its matrices take longer, counted in multiplications, and are faster; all
    of it lies channels last.

    Args:
        unit: whose norm went into the convolution.
    """

    def __init__(self, unit: FourierUnit) -> None:
        super().__init__()
        conv = unit.conv
        # all real parts first, then the imaginary ones
        order = torch.arange(conv.out_channels).view(-1, 2).t().flatten()
        conv.weight.data = conv.weight.data[order][:, order].contiguous(memory_format=torch.channels_last)
        if conv.bias is not None:
            conv.bias.data = conv.bias.data[order]
        self.conv = conv
        self.train(unit.training)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W], channels last."""
        with torch.autocast(features.device.type, enabled=False):
            maps = features.float().permute(0, 2, 3, 1)
            small = max(maps.shape[1:3]) <= _SMALL
            transform, back = (_products, _products_back) if small else (_fft, _fft_back)
            bins = F.relu(self.conv(transform(maps).permute(0, 3, 1, 2)), inplace=True)
            out = back(bins.permute(0, 2, 3, 1), maps.shape[2])
            return out.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last).to(features.dtype)


def _fft(maps: torch.Tensor) -> torch.Tensor:
    """[B, H, W, C] -> [B, H, W // 2 + 1, 2 * C], the orthonormal spectrum."""
    spectrum = torch.fft.rfft2(maps, dim=(1, 2), norm="ortho")
    return torch.cat([spectrum.real, spectrum.imag], dim=3)


def _fft_back(bins: torch.Tensor, width: int) -> torch.Tensor:
    """The inverse of :func:`_fft`."""
    spectrum = torch.complex(*bins.chunk(2, dim=3))
    return torch.fft.irfft2(spectrum, s=(bins.shape[1], width), dim=(1, 2), norm="ortho")


def _products(maps: torch.Tensor) -> torch.Tensor:
    """What :func:`_fft` computes, columns first."""
    batch, height, width, channels = maps.shape
    columns = _transforms(height)[0] @ maps.reshape(batch, height, width * channels)
    # [B, H, real and imaginary rows of W, C]
    bins = _transforms(width)[1] @ columns.view(batch, height, 2 * width, channels)
    return bins.view(batch, height, width // 2 + 1, 2 * channels)


def _products_back(bins: torch.Tensor, width: int) -> torch.Tensor:
    """What :func:`_fft_back` computes, rows first."""
    batch, height, half, channels = bins.shape
    rows = _transforms(width)[2] @ bins.reshape(batch, height, 2 * half, channels // 2)
    maps = _transforms(height)[3] @ rows.view(batch, 2 * height, width * channels // 2)
    return maps.view(batch, height, width, channels // 2)


@cache
def _transforms(side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The matrices of an orthonormal transform of ``side`` numbers; r stands for real and imaginary parts.

    Returns:
        [(side, r), side], numbers to spectrum; [(half, r), (r, side)], complex numbers to the first half of a
        spectrum; [(r, side), (half, r)], what such a half adds up to with its mirror image; [side, (side, r)], the
        real part of what a spectrum adds up to.
    """
    half = side // 2 + 1
    angles = torch.outer(*[torch.arange(side, dtype=torch.float64)] * 2) * (2.0 * math.pi / side)
    cosine, sine = (function(angles) / math.sqrt(side) for function in (torch.cos, torch.sin))
    forward = torch.stack([cosine, -sine], dim=1).view(2 * side, side)
    real, imaginary = torch.stack([cosine, sine], dim=1), torch.stack([-sine, cosine], dim=1)
    forward_half = torch.stack([real, imaginary], dim=1)[:half].reshape(2 * half, 2 * side)
    twice = torch.full((half,), 2.0, dtype=torch.float64)
    twice[0] = 1.0  # these two bins are their own mirror images
    if side % 2 == 0:
        twice[-1] = 1.0
    cosine_half, sine_half = cosine[:, :half] * twice, sine[:, :half] * twice
    real, imaginary = (
        torch.stack([cosine_half, -sine_half], dim=2),
        torch.stack([sine_half, cosine_half], dim=2),
    )
    back_half = torch.stack([real, imaginary]).view(2 * side, 2 * half)
    back = torch.stack([cosine, -sine], dim=2).view(side, 2 * side)
    return forward.float(), forward_half.float(), back_half.float(), back.float()


class SpectralTransform(nn.Module):
    """The global-to-global path: squeeze to half the channels, Fourier unit beside identity, expand.

    Args:
        num_channels: channels of the global part.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        hidden = num_channels // 2
        self.squeeze = nn.Conv2d(num_channels, hidden, 1, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        self.fourier = FourierUnit(hidden)
        self.expand = nn.Conv2d(hidden, num_channels, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        hidden = F.relu(self.norm(self.squeeze(features)), inplace=True)
        return self.expand(self.fourier(hidden).add_(hidden))


class FFCUnit(nn.Module):
    """One FFC with AdaIN and leaky ReLU on both parts.

    Args:
        local_channels: channels of the local part.
        global_channels: channels of the global part.
        condition_size: length of the audio vector.
        hidden_size: width of the AdaIN perceptron.
        negative_slope: of the leaky ReLU. The released network uses 0.01 here and 0.1 elsewhere.
    """

    def __init__(
        self,
        local_channels: int,
        global_channels: int,
        condition_size: int,
        hidden_size: int,
        negative_slope: float,
    ) -> None:
        super().__init__()
        self.local_to_local = _reflect_conv(local_channels, local_channels)
        self.local_to_global = _reflect_conv(local_channels, global_channels)
        self.global_to_local = _reflect_conv(global_channels, local_channels)
        self.global_to_global = SpectralTransform(global_channels)
        self.local_norm = AdaIN(local_channels, condition_size, hidden_size)
        self.global_norm = AdaIN(global_channels, condition_size, hidden_size)
        self.negative_slope = negative_slope

    def forward(self, parts: Parts, condition: torch.Tensor, added: Parts | None = None) -> Parts:
        """Both parts and [B, condition] -> both parts, same shapes; plus ``added``."""
        local, global_ = parts
        out_local = self.local_to_local(local).add_(self.global_to_local(global_))
        out_global = self.local_to_global(local).add_(self.global_to_global(global_))
        more_local, more_global = added or (None, None)
        return (
            self.local_norm(out_local, condition, self.negative_slope, inplace=True, added=more_local),
            self.global_norm(out_global, condition, self.negative_slope, inplace=True, added=more_global),
        )


class FFCResBlock(nn.Module):
    """Two FFC units and a shortcut: the paper's "LaMa-AdaIN" or MR-FFC block (figure 11d).

    Args:
        num_channels: channels of the map.
        global_ratio: share of the channels in the global part.
        condition_size: length of the audio vector.
        hidden_size: width of the AdaIN perceptron.
        negative_slope: of the leaky ReLU.
    """

    def __init__(
        self,
        num_channels: int,
        global_ratio: float,
        condition_size: int,
        hidden_size: int = 128,
        negative_slope: float = 0.01,
    ) -> None:
        super().__init__()
        sizes = split_channels(num_channels, global_ratio)
        self.unit1 = FFCUnit(*sizes, condition_size, hidden_size, negative_slope)
        self.unit2 = FFCUnit(*sizes, condition_size, hidden_size, negative_slope)

    def forward(self, parts: Parts, condition: torch.Tensor) -> Parts:
        """Both parts and [B, condition] -> both parts."""
        return cast(Parts, self.unit2(self.unit1(parts, condition), condition, added=parts))


class FFCStage(nn.ModuleList):
    """Blocks one after the other, for which the map is split only once.

    Args:
        count: of the blocks.
        num_channels: channels of the map.
        global_ratio: as those below, of :class:`FFCResBlock`.
        condition_size: length of the audio vector.
        hidden_size: width of the AdaIN perceptron.
        negative_slope: of the leaky ReLU.
    """

    def __init__(
        self,
        count: int,
        num_channels: int,
        global_ratio: float,
        condition_size: int,
        hidden_size: int = 128,
        negative_slope: float = 0.01,
    ) -> None:
        options = (condition_size, hidden_size, negative_slope)
        super().__init__(FFCResBlock(num_channels, global_ratio, *options) for _ in range(count))
        self.sizes = split_channels(num_channels, global_ratio)

    def forward(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] and [B, condition] -> [B, C, H, W]."""
        if len(self) == 0:
            return features
        parts: Sequence[torch.Tensor] = features.split(self.sizes, dim=1)
        if features.is_contiguous(memory_format=torch.channels_last):  # as convolutions want the parts too
            parts = [part.contiguous(memory_format=torch.channels_last) for part in parts]
        for block in self:
            parts = block(parts, condition)
        return torch.cat(list(parts), dim=1)


def split_channels(num_channels: int, global_ratio: float) -> tuple[int, int]:
    """Channels of the local part and of the global part."""
    global_channels = int(num_channels * global_ratio)
    return num_channels - global_channels, global_channels


def _reflect_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=False)

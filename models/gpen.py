"""GPEN-BFR (Yang et al. 2021), the face restorer that the published pipeline runs before and after lip-sync.

An encoder gives a StyleGAN2 generator one latent code and, where StyleGAN2 adds random noise, its own feature
maps; the generator concatenates them. All layers are equalized (Karras et al. 2018): weights are stored with
unit variance and scaled at run time. Nothing is random. Defaults are the sizes of the released network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_positive
from videoretalking.models.layers.blocks import from_signed, to_signed

_CONSTANT_SIZE = 4  # side of the generator's learned constant, and of the coarsest level
_MAPPING_LR_MULTIPLIER = 0.01
_DEMODULATION_EPS = 1e-8


@dataclass(frozen=True)
class GPENConfig:
    """Sizes of GPEN.

    Attributes:
        widths: channels from the finest level (the image) to the coarsest (4x4); each level has half the size
            of the one before, so the number of widths sets the size of the image.
        style_size: length of the latent code.
        num_mapping_layers: layers of the mapping network.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)
    style_size: int = 512
    num_mapping_layers: int = 8

    def __post_init__(self) -> None:
        require_positive(self, "widths", "style_size", "num_mapping_layers")

    @property
    def image_size(self) -> int:
        """Side of the image in pixels (released: 512)."""
        return _CONSTANT_SIZE * 2 ** (len(self.widths) - 1)


class GPEN(nn.Module):
    """Aligned degraded face -> restored face.

    Args:
        config: sizes.
    """

    def __init__(self, config: GPENConfig | None = None) -> None:
        super().__init__()
        self.config = config or GPENConfig()
        widths, style_size = self.config.widths, self.config.style_size
        pairs = list(pairwise(widths))
        self.stem = EqualizedConv(3, widths[0], 1)
        self.downs = nn.ModuleList(DownLevel(fine, coarse) for fine, coarse in pairs)
        self.to_latent = EqualizedLinear(widths[-1] * _CONSTANT_SIZE**2, style_size)
        self.mapping = nn.ModuleList(
            EqualizedLinear(style_size, style_size, lr_multiplier=_MAPPING_LR_MULTIPLIER)
            for _ in range(self.config.num_mapping_layers)
        )
        self.constant = nn.Parameter(torch.randn(1, widths[-1], _CONSTANT_SIZE, _CONSTANT_SIZE))
        self.first = StyledConv(widths[-1], widths[-1], style_size)
        self.first_rgb = ToRGB(2 * widths[-1], style_size)
        self.levels = nn.ModuleList(
            GeneratorLevel(2 * coarse, fine, style_size) for fine, coarse in reversed(pairs)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Restore.

        Args:
            image: [B, 3, S, S] RGB in [0, 1] with S = ``config.image_size``, the face aligned as in FFHQ.

        Returns:
            [B, 3, S, S] RGB around [0, 1], not clipped, float32.
        """
        features = _scaled_leaky_relu(self.stem(to_signed(image)))
        maps = [features]
        for down in self.downs:
            features = down(features)
            maps.append(features)
        style = self._style(features)

        features = self.first(self.constant.expand(len(image), -1, -1, -1), style, maps[-1])
        restored = self.first_rgb(features, style)
        for level, encoded in zip(self.levels, reversed(maps[:-1]), strict=True):
            features, restored = level(features, restored, style, encoded)
        return from_signed(restored)

    def _style(self, features: torch.Tensor) -> torch.Tensor:
        """Coarsest map -> [B, style_size], the one code of all generator layers, in float32."""
        with torch.autocast(features.device.type, enabled=False):
            code = _scaled_leaky_relu(self.to_latent(features.float().flatten(1)))
            code = code * torch.rsqrt(code.square().mean(dim=1, keepdim=True) + 1e-8)
            for layer in self.mapping:
                code = _scaled_leaky_relu(layer(code))
            return code


class DownLevel(nn.Module):
    """Encoder level: low-pass filter, strided convolution, leaky ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.blur = Blur(padding=2)
        self.conv = EqualizedConv(in_channels, out_channels, 3, stride=2)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        return _scaled_leaky_relu(self.conv(self.blur(features)))


class GeneratorLevel(nn.Module):
    """One doubling of the generator: two styled convolutions and an image.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the encoder's map at this size; the output has twice as many.
        style_size: length of the latent code.
    """

    def __init__(self, in_channels: int, out_channels: int, style_size: int) -> None:
        super().__init__()
        self.up = StyledConv(in_channels, out_channels, style_size, upsample=True)
        self.conv = StyledConv(2 * out_channels, out_channels, style_size)
        self.to_rgb = ToRGB(2 * out_channels, style_size)

    def forward(
        self, features: torch.Tensor, image: torch.Tensor, style: torch.Tensor, encoded: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, in, s, s] and image [B, 3, s, s] -> [B, 2 * out, 2s, 2s] and [B, 3, 2s, 2s].

        ``encoded`` is the encoder's map [B, out, 2s, 2s]; both convolutions take it.
        """
        features = self.conv(self.up(features, style, encoded), style, encoded)
        return features, self.to_rgb(features, style, image)


class StyledConv(nn.Module):
    """Modulated 3x3 convolution, concatenation of the encoder's map, bias, leaky ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the convolution and of the encoder's map; the output has twice as many.
        style_size: length of the latent code.
        upsample: double the size.
    """

    def __init__(self, in_channels: int, out_channels: int, style_size: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = EqualizedModulatedConv(in_channels, out_channels, 3, style_size, upsample=upsample)
        # takes the place of StyleGAN2's noise scale
        self.encoder_scale = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(2 * out_channels))

    def forward(self, features: torch.Tensor, style: torch.Tensor, encoded: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W], [B, style_size] and [B, out, H', W'] -> [B, 2 * out, H', W']."""
        out = self.conv(features, style)
        out = torch.cat([out, (self.encoder_scale * encoded).to(out.dtype)], dim=1)
        return _scaled_leaky_relu(out + self.bias.view(1, -1, 1, 1).to(out.dtype))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to an image, added to the up-sampled image of the previous level.

    Args:
        in_channels: channels of the input.
        style_size: length of the latent code.
    """

    def __init__(self, in_channels: int, style_size: int) -> None:
        super().__init__()
        self.conv = EqualizedModulatedConv(in_channels, 3, 1, style_size, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample()

    def forward(
        self, features: torch.Tensor, style: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """[B, in, H, W] and, but for the first level, [B, 3, H/2, W/2] -> [B, 3, H, W], summed in float32."""
        out: torch.Tensor = self.conv(features, style).float() + self.bias
        return out if image is None else out + self.upsample(image)


class EqualizedModulatedConv(nn.Module):
    """Equalized convolution whose kernel is scaled per sample by the latent code.

    Up-sampling is a strided transposed convolution followed by the low-pass filter (Karras et al. 2020),
    unlike :class:`models.layers.style.ModulatedConv`, which is also not equalized.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel size.
        style_size: length of the latent code.
        demodulate: normalize every output filter to unit norm.
        upsample: double the size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_size: int,
        demodulate: bool = True,
        upsample: bool = False,
    ) -> None:
        super().__init__()
        self.modulation = EqualizedLinear(style_size, in_channels, initial_bias=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.demodulate = demodulate
        # gain 4: zeros inserted by the stride leave a quarter of the energy
        self.blur = Blur(padding=1, gain=4.0) if upsample else None

    def forward(self, features: torch.Tensor, style: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] and [B, style_size] -> [B, out, H, W] (doubled size when up-sampling)."""
        scale = self.modulation(style)
        weight = self.weight * self.gain
        # scaling input and output maps equals scaling the kernel per sample
        features = features * scale[:, :, None, None].to(features.dtype)
        if self.blur is None:
            out = F.conv2d(features, weight, padding=weight.shape[-1] // 2)
        else:
            out = self.blur(F.conv_transpose2d(features, weight.transpose(0, 1), stride=2))
        if self.demodulate:
            out = out * _demodulation(weight, scale)[:, :, None, None].to(out.dtype)
        return out


class EqualizedConv(nn.Module):
    """Convolution without padding whose weight is stored with unit variance.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: kernel size.
        stride: stride.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.stride = stride

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return F.conv2d(features, self.weight * self.gain, self.bias, stride=self.stride)


class EqualizedLinear(nn.Module):
    """Linear layer whose weight is stored with the variance of 1 / lr_multiplier^2.

    Args:
        in_features: length of the input.
        out_features: length of the output.
        lr_multiplier: factor on weight and bias at run time, which slows down their learning.
        initial_bias: bias at run time before training.
    """

    def __init__(
        self, in_features: int, out_features: int, lr_multiplier: float = 1.0, initial_bias: float = 0.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), initial_bias / lr_multiplier))
        self.gain = lr_multiplier / math.sqrt(in_features)
        self.lr_multiplier = lr_multiplier

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in] -> [B, out]."""
        return F.linear(features, self.weight * self.gain, self.bias * self.lr_multiplier)


class Blur(nn.Module):
    """The low-pass filter of :func:`blur_kernel` on every channel.

    Args:
        padding: zeros on each side; the size changes by ``2 * padding - 3``.
        gain: sum of the filter.
    """

    kernel: torch.Tensor

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(gain)[None, None], persistent=False)
        self.padding = padding

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H', W']."""
        channels = features.shape[1]
        kernel = self.kernel.to(features.dtype).expand(channels, -1, -1, -1)
        return F.conv2d(features, kernel, padding=self.padding, groups=channels)


class Upsample(nn.Module):
    """Doubling of an image by zero insertion and the low-pass filter, in float32 to keep colors smooth."""

    kernel: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", blur_kernel(4.0)[None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, 2H, 2W]."""
        channels = image.shape[1]
        with torch.autocast(image.device.type, enabled=False):
            kernel = self.kernel.expand(channels, -1, -1, -1)
            return F.conv_transpose2d(image, kernel, stride=2, padding=1, groups=channels)


def blur_kernel(gain: float = 1.0) -> torch.Tensor:
    """[4, 4] outer product of (1, 3, 3, 1) with the given sum, StyleGAN2's low-pass filter."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return torch.outer(taps, taps) * (gain / 64.0)


def _scaled_leaky_relu(features: torch.Tensor) -> torch.Tensor:
    """Leaky ReLU times sqrt(2), which keeps the variance."""
    return F.leaky_relu(features, 0.2) * math.sqrt(2.0)


def _demodulation(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """[out, in, k, k] and [B, in] -> [B, out]: one over the norm of every modulated filter, in float32."""
    with torch.autocast(scale.device.type, enabled=False):
        energy = weight.float().square().sum(dim=(2, 3))
        return torch.rsqrt(scale.float().square() @ energy.t() + _DEMODULATION_EPS)

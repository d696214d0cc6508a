"""Style-modulated convolutions of the "clean" StyleGAN2 family, used by E-Net and GFPGAN.

Karras et al. 2020 describe modulation and demodulation; the variant here up-samples bilinearly before the
convolution and has plain (not equalized) weights, as both released networks do.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import scale_by

_DEMODULATION_EPS = 1e-8


class ModulatedConv(nn.Module):
    """Convolution whose kernel is scaled per sample by a style code.

    Modulating the kernel along its input channels equals scaling the input map, and demodulating it
    equals scaling the output map, so one shared convolution serves the whole batch (Karras et al. 2020,
    section 2.2).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd kernel size.
        style_size: length of the style code.
        demodulate: normalize every output filter to unit norm.
        upsample: bilinear x2 on the input map first.
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
        self.modulation = nn.Linear(style_size, in_channels)
        nn.init.ones_(self.modulation.bias)
        fan_in = in_channels * kernel_size**2
        self.weight = nn.Parameter(
            torch.randn(out_channels, in_channels, kernel_size, kernel_size) / math.sqrt(fan_in)
        )
        self.demodulate = demodulate
        self.upsample = upsample
        self.convolve: Callable[..., torch.Tensor] = F.conv2d  # models.int8 puts its own here

    def forward(
        self,
        features: torch.Tensor,
        style: torch.Tensor,
        bias: torch.Tensor | None = None,
        gain: float = 1.0,
    ) -> torch.Tensor:
        """Convolve.

        Args:
            features: [B, in, H, W].
            style: [B, style_size], or [1, style_size] for a code that the whole batch shares; then the kernel is
                modulated, which is much smaller than the map.
            bias: [out] added at the end.
            gain: factor on the convolution, without the bias.

        Returns:
            [B, out, H, W] (doubled size when up-sampling).
        """
        scale = self.modulation(style)
        if self.upsample:
            features = scale_by(features, 2.0)
        padding = (self.weight.shape[-1] // 2,) * 2
        if len(style) == 1:
            kernel = self._kernel(scale) * gain
            return self.convolve(features, kernel, bias, padding=padding)
        modulated = features * scale[:, :, None, None].to(features.dtype)
        out = self.convolve(modulated, self.weight, padding=padding)
        if self.demodulate:
            out = out * (self._demodulation(scale) * gain)[:, :, None, None].to(out.dtype)
        elif gain != 1.0:
            out = out * gain
        return out if bias is None else out + bias[:, None, None].to(out.dtype)

    def _kernel(self, scale: torch.Tensor) -> torch.Tensor:
        """[1, in] -> the modulated kernel [out, in, k, k], in float32."""
        with torch.autocast(scale.device.type, enabled=False):
            kernel = self.weight.float() * scale.float()[0, :, None, None]
            if self.demodulate:
                kernel = kernel * self._demodulation(scale)[0, :, None, None, None]
            return kernel

    def _demodulation(self, scale: torch.Tensor) -> torch.Tensor:
        """[B, in] -> [B, out]: one over the norm of every modulated filter, in float32."""
        with torch.autocast(scale.device.type, enabled=False):
            energy = self.weight.float().square().sum(dim=(2, 3))  # [out, in]
            return torch.rsqrt(scale.float().square() @ energy.t() + _DEMODULATION_EPS)


class StyleConv(nn.Module):
    """Modulated 3x3 convolution, gain, noise, bias and leaky ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        style_size: length of the style code.
        upsample: double the size.
    """

    def __init__(self, in_channels: int, out_channels: int, style_size: int, upsample: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, out_channels, 3, style_size, upsample=upsample)
        self.noise_scale = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(1, out_channels, 1, 1))

    def forward(
        self, features: torch.Tensor, style: torch.Tensor, noise: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Apply the layer.

        Args:
            features: [B, in, H, W].
            style: [B, style_size], or [1, style_size] shared by the batch.
            noise: [1 or B, 1, H', W'] standard normal map shared by all channels; None adds none.

        Returns:
            [B, out, H', W'].
        """
        out = self.conv(features, style, self.bias.flatten(), gain=math.sqrt(2.0))
        if noise is not None:
            out = out.add_((self.noise_scale * noise).to(out.dtype))
        return F.leaky_relu(out, 0.2, inplace=True)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to an image, added to the up-sampled image of the previous level.

    Args:
        in_channels: channels of the input.
        style_size: length of the style code.
    """

    def __init__(self, in_channels: int, style_size: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(in_channels, 3, 1, style_size, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))

    def forward(
        self, features: torch.Tensor, style: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Apply the layer.

        Args:
            features: [B, in, H, W].
            style: [B, style_size], or [1, style_size] shared by the batch.
            image: [B, 3, H/2, W/2] of the previous level (bilinear x2 before the sum); None for the first.

        Returns:
            [B, 3, H, W].
        """
        out = self.conv(features, style) + self.bias
        return out if image is None else out + scale_by(image, 2.0)

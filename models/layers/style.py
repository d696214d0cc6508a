"""Style-modulated convolutions of the "clean" StyleGAN2 family, used by E-Net and GFPGAN.

Karras et al. 2020 describe modulation and demodulation; the variant here up-samples bilinearly before the
convolution and has plain (not equalized) weights, as both released networks do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers import fused
from videoretalking.models.layers.blocks import leaky_relu, scale_by
from videoretalking.models.layers.doubling import blended_kernel, interleave
from videoretalking.models.layers.levels import LevelReader, Levels

_DEMODULATION_EPS = 1e-8
_MIN_MERGED = 64  # channels
_NEGATIVE_SLOPE = 0.2


def conv2d(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    padding: int = 0,
    border: int = 0,
    half: bool = False,
) -> torch.Tensor:
    """``F.conv2d`` that can repeat the border of the map outwards first, by ``border`` pixels.

    What stands in its place may give a result in bfloat16 for a map in float32 if ``half`` says so.
    """
    return F.conv2d(repeat_border(features, border), weight, bias, padding=padding)


def repeat_border(maps: torch.Tensor, pixels: int) -> torch.Tensor:
    """Repeat the outermost pixels of [B, C, H, W] outwards."""
    return F.pad(maps, [pixels] * 4, mode="replicate") if pixels else maps


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

    Attributes:
        phases: kernels that also double the size (:meth:`merge_doubling`); None doubles the map.
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
        self.phases: torch.Tensor | None = None
        self._energy: torch.Tensor | None = None
        self._last: _Modulated | None = None
        self.convolve: Callable[..., torch.Tensor] = conv2d  # models.int8 puts its own here

    def forward(
        self,
        features: torch.Tensor | Levels,
        style: torch.Tensor,
        bias: torch.Tensor | None = None,
        gain: float = 1.0,
        noise: torch.Tensor | None = None,
        negative_slope: float = 1.0,
        reader: nn.Module | None = None,
    ) -> torch.Tensor | Levels | Unfinished:
        """Convolve.

        Args:
            features: [B, in, H, W]; levels only from a layer that had this one as its ``reader``.
            style: [B, style_size], or [1, style_size] for a code that the whole batch shares; then the kernel is
                modulated where it is smaller than the map.
            bias: [out] added at the end.
            gain: factor on the convolution, without the bias.
            noise: [1 or B, 1, H, W] added to all channels of the result; None adds none.
            negative_slope: of a leaky ReLU at the end; 1 leaves the values as they are.
            reader: layer that alone reads the result, with the same style: a convolution like this one, which may
                get levels; or :class:`ToRGB`, which may get what is left to finish with the result.

        Returns:
            [B, out, H, W] (doubled size when up-sampling).
        """
        scale = self.modulation(style)
        if isinstance(features, torch.Tensor) and not (len(style) == 1 and self._is_small(features.numel())):
            return self._convolve_modulated(features, scale, bias, gain, noise, negative_slope)
        return self._convolve_shared(features, scale, bias, gain, noise, negative_slope, reader)

    def level_reader(self, numbers: int) -> LevelReader | None:
        """What rounds the input, if a map of so many numbers may come rounded already.

        One in int8, for a style that is shared, where the map need not be doubled or modulated before.
        """
        doubles = self.upsample and self.phases is None
        reads = isinstance(self.convolve, LevelReader) and self._is_small(numbers) and not doubles
        return cast(LevelReader, self.convolve) if reads else None

    def _is_small(self, numbers: int) -> bool:
        """Whether the kernel has fewer numbers than the map that it goes over."""
        return self.weight.numel() <= numbers * (4 if self.upsample else 1)

    def merge_doubling(self) -> None:
        """Let the kernel double the size where one style is shared, which saves the doubled map.

        For inference, and for who cuts the border off: the outermost pixels of the result differ. With few channels
        nothing happens, since putting the pixels together would take as long.
        """
        if self.upsample and min(self.weight.shape[:2]) >= _MIN_MERGED:
            self.phases = blended_kernel(self.weight.detach())

    def freeze(self) -> None:
        """For weights that do not change any more: compute only once what follows from them and from one style."""
        self._energy = self._find_energy().detach()

    def _convolve_shared(
        self,
        features: torch.Tensor | Levels,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        gain: float,
        noise: torch.Tensor | None,
        negative_slope: float,
        reader: nn.Module | None,
    ) -> torch.Tensor | Levels | Unfinished:
        """:meth:`forward` with the modulation [1, in] of the whole batch in the kernel."""
        kernel = self._modulate(scale, gain)
        half = noise is not None and fused.reads_half()
        if self.phases is not None:
            bias = None if bias is None else bias.repeat(4)
            phases = self.convolve(features, kernel, bias, border=1, half=half)
            return interleave(phases, 0, noise, negative_slope, _level_reader(reader, phases.numel()))
        if self.upsample:
            assert isinstance(features, torch.Tensor)
            features = scale_by(features, 2.0)
        out = self.convolve(features, kernel, bias, padding=self._padding, half=half)
        return _finish(out, noise, negative_slope, reader)

    def _convolve_modulated(
        self,
        features: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        gain: float,
        noise: torch.Tensor | None,
        negative_slope: float,
    ) -> torch.Tensor | Levels | Unfinished:
        """:meth:`forward` with the modulation [B or 1, in] in the map, before and after one kernel for all."""
        if self.upsample:
            features = scale_by(features, 2.0)
        modulated = features * scale[:, :, None, None].to(features.dtype)
        out = self.convolve(modulated, self.weight, padding=self._padding)
        if self.demodulate:
            out = out * (self._demodulation(scale) * gain)[:, :, None, None].to(out.dtype)
        elif gain != 1.0:
            out = out * gain
        out = out if bias is None else out + bias[:, None, None].to(out.dtype)
        return _finish(out, noise, negative_slope)

    def kernel(self, style: torch.Tensor) -> torch.Tensor:
        """[out, in, h, w], modulated by a style [1, style_size]."""
        return self._modulate(self.modulation(style), 1.0)

    def _modulate(self, scale: torch.Tensor, gain: float) -> torch.Tensor:
        """The kernel for the modulation [1, in]; of frozen weights the last one is kept."""
        keep = self._energy is not None and not torch.is_grad_enabled()
        last = self._last if keep else None  # other threads may put theirs here
        if last is not None and last.gain == gain and torch.equal(last.scale, scale):
            return last.kernel
        weight = self.weight if self.phases is None else self.phases
        with torch.autocast(scale.device.type, enabled=False):
            kernel = weight.float() * scale.float()[0, :, None, None]
            if self.demodulate:
                factors = self._demodulation(scale)[0].repeat(len(weight) // len(self.weight))
                kernel = kernel * factors[:, None, None, None]
            kernel = kernel * gain
        if keep:
            self._last = _Modulated(scale, gain, kernel)
        return kernel

    @property
    def _padding(self) -> int:
        return self.weight.shape[-1] // 2

    def _demodulation(self, scale: torch.Tensor) -> torch.Tensor:
        """[B, in] -> [B, out]: one over the norm of every modulated filter, in float32."""
        with torch.autocast(scale.device.type, enabled=False):
            energy = self._find_energy() if self._energy is None else self._energy
            return torch.rsqrt(scale.float().square() @ energy.t() + _DEMODULATION_EPS)

    def _find_energy(self) -> torch.Tensor:
        """[out, in], the squares of each kernel's taps."""
        return self.weight.float().square().sum(dim=(2, 3))


class _Modulated(NamedTuple):
    """A kernel and what it was modulated by."""

    scale: torch.Tensor
    gain: float
    kernel: torch.Tensor


class Unfinished(NamedTuple):
    """What a convolution leaves to :class:`ToRGB`, which can do it without writing the map.

    Attributes:
        maps: [B, C, H, W] float32 or bfloat16.
        added: [1 or B, 1, H, W] to be added to all channels.
        negative_slope: of the leaky ReLU to follow.
    """

    maps: torch.Tensor
    added: torch.Tensor
    negative_slope: float


def _level_reader(reader: nn.Module | None, numbers: int) -> LevelReader | None:
    return reader.level_reader(numbers) if isinstance(reader, ModulatedConv) else None


def _finish(
    out: torch.Tensor, noise: torch.Tensor | None, negative_slope: float, reader: nn.Module | None = None
) -> torch.Tensor | Levels | Unfinished:
    """Noise and leaky ReLU, in place; or as the reader wants it."""
    if noise is not None and fused.is_fit(out, half=True):
        if isinstance(reader, ToRGB):
            return Unfinished(out, noise, negative_slope)
        return fused.add_to_pixels(out, noise, negative_slope, _level_reader(reader, out.numel()))
    out = out if noise is None else out.add_(noise.to(out.dtype))
    return leaky_relu(out, negative_slope)


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
        self,
        features: torch.Tensor | Levels,
        style: torch.Tensor,
        noise: torch.Tensor | None = None,
        reader: StyleConv | ToRGB | None = None,
    ) -> torch.Tensor | Levels | Unfinished:
        """Apply the layer.

        Args:
            features: [B, in, H, W], or what a layer gave that had this one as its ``reader``.
            style: [B, style_size], or [1, style_size] shared by the batch.
            noise: [1 or B, 1, H', W'] standard normal map shared by all channels; None adds none.
            reader: layer that alone reads the result, with the same style; it may get it in a form of its own.

        Returns:
            [B, out, H', W'].
        """
        if noise is not None:
            noise = self.noise_scale * noise
        to = reader.conv if isinstance(reader, StyleConv) else reader
        bias = self.bias.flatten()
        return self.conv(features, style, bias, math.sqrt(2.0), noise, _NEGATIVE_SLOPE, to)


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
        self, features: torch.Tensor | Unfinished, style: torch.Tensor, image: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Apply the layer.

        Args:
            features: [B, in, H, W], or what a layer gave that had this one as its ``reader``.
            style: [B, style_size], or [1, style_size] shared by the batch.
            image: [B, 3, H/2, W/2] of the previous level (bilinear x2 before the sum); None for the first.

        Returns:
            [B, 3, H, W].
        """
        if isinstance(features, Unfinished):
            out = fused.add_to_pixels_and_project(*features, self.conv.kernel(style).flatten(1))
        else:
            out = self.conv(features, style)
        out = out + self.bias
        return out if image is None else out + scale_by(image, 2.0)

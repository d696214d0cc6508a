"""VGG-19 features (Simonyan and Zisserman 2015) of the perceptual and style losses (paper, appendix C)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.colors import IMAGENET_MEAN, IMAGENET_STD

_WIDTHS = (64, 128, 256, 512, 512)
# Convolutions of each block up to relu5_1, the deepest feature in use; blocks start after a 2x2 max pooling.
_DEPTHS = (2, 2, 4, 4, 1)


@dataclass(frozen=True)
class VGG19FeaturesConfig:
    """Size of the feature network.

    Attributes:
        width_multiplier: factor on all channel counts; 1 is the released network.
    """

    width_multiplier: float = 1.0


class VGG19Features(nn.Module):
    """VGG-19 up to relu5_1.

    Args:
        config: sizes.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: VGG19FeaturesConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or VGG19FeaturesConfig()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)
        blocks: list[nn.Module] = []
        channels = 3
        for full_width, depth in zip(_WIDTHS, _DEPTHS, strict=True):
            width = max(1, round(full_width * config.width_multiplier))
            blocks.append(_block(channels, width, depth))
            channels = width
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Features at five depths.

        Args:
            image: [B, 3, H, W] RGB in [0, 1]; height and width of at least 16.

        Returns:
            relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, at sizes H, H/2, H/4, H/8 and H/16.
        """
        taps: list[torch.Tensor] = []
        features = (image - self.mean) / self.std
        for index, block in enumerate(self.blocks):
            assert isinstance(block, nn.ModuleList)
            first, *others = block
            features = F.relu(first(features if index == 0 else F.max_pool2d(features, 2)))
            taps.append(features)
            for conv in others:
                features = F.relu(conv(features))
        return taps


def _block(in_channels: int, width: int, depth: int) -> nn.ModuleList:
    convs = [nn.Conv2d(in_channels, width, 3, padding=1)]
    convs += [nn.Conv2d(width, width, 3, padding=1) for _ in range(depth - 1)]
    return nn.ModuleList(convs)

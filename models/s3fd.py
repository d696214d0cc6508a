"""S3FD face detector (Zhang et al. 2017), the one that the published pipeline crops faces with.

VGG-16 with six detection levels; the output is raw, boxes are decoded in ``faces``. Defaults are the sizes of
the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.colors import IMAGENET_MEAN_LEVELS
from videoretalking.core.config import require_positive

STRIDES = (4, 8, 16, 32, 64, 128)  # input pixels per cell of each level
_FIRST_NORMED_STAGE = 2  # the last three VGG stages are detected on after an L2 norm
_NORM_SCALES = (10.0, 8.0, 5.0)  # initial scales (Zhang et al. 2017, section 3.1)
_NUM_BACKGROUND = 3  # background logits of the finest level, of which the largest counts (max-out)


@dataclass(frozen=True)
class S3FDConfig:
    """Sizes of S3FD.

    Attributes:
        stage_channels: channels of the five VGG stages.
        stage_depths: convolutions in each of them.
        context_channels: channels of fc6 and fc7, which are convolutions here.
        extra_channels: hidden and output channels of the fifth, then of the sixth detection level.
    """

    stage_channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    stage_depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    context_channels: int = 1024
    extra_channels: tuple[int, ...] = (256, 512, 128, 256)

    def __post_init__(self) -> None:
        require_positive(self, "stage_channels", "stage_depths", "context_channels", "extra_channels")
        if len(self.stage_channels) != 5 or len(self.stage_depths) != 5 or len(self.extra_channels) != 4:
            raise ValueError("S3FD has five VGG stages (channels and depths) and four extra convolutions")


class S3FDOutput(NamedTuple):
    """Raw outputs of the six levels, fine to coarse, float32.

    Attributes:
        scores: each [B, 2, H', W'], logits of background and face.
        boxes: each [B, 4, H', W'], offsets to the level's one anchor per cell.
    """

    scores: list[torch.Tensor]
    boxes: list[torch.Tensor]


class S3FD(nn.Module):
    """Picture -> raw face scores and boxes.

    Args:
        config: sizes.
    """

    mean: torch.Tensor

    def __init__(self, config: S3FDConfig | None = None) -> None:
        super().__init__()
        self.config = config or S3FDConfig()
        channels = self.config.stage_channels
        context = self.config.context_channels
        # The means in BGR order, subtracted from RGB: the release was fed like that, so the order is meant.
        mean = torch.tensor(IMAGENET_MEAN_LEVELS[::-1]).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.stages = nn.ModuleList(
            _vgg_stage(*sizes)
            for sizes in zip((3, *channels), channels, self.config.stage_depths, strict=False)
        )
        # padding 3 around a 3x3 kernel is the release's: the maps grow by 4 cells here
        self.context = nn.Sequential(
            nn.Conv2d(channels[-1], context, 3, padding=3),
            nn.ReLU(),
            nn.Conv2d(context, context, 1),
            nn.ReLU(),
        )
        hidden1, out1, hidden2, out2 = self.config.extra_channels
        self.extras = nn.ModuleList([_extra_level(context, hidden1, out1), _extra_level(out1, hidden2, out2)])
        normed = channels[_FIRST_NORMED_STAGE:]
        self.norms = nn.ModuleList(ScaledL2Norm(*pair) for pair in zip(normed, _NORM_SCALES, strict=True))
        levels = (*normed, context, out1, out2)
        self.score_heads = nn.ModuleList(
            nn.Conv2d(width, _NUM_BACKGROUND + 1 if level == 0 else 2, 3, padding=1)
            for level, width in enumerate(levels)
        )
        self.box_heads = nn.ModuleList(nn.Conv2d(width, 4, 3, padding=1) for width in levels)

    def forward(self, image: torch.Tensor) -> S3FDOutput:
        """Detect.

        Args:
            image: [B, 3, H, W] RGB in [0, 1], sides at least 32.

        Returns:
            Scores and boxes of the six levels, before softmax and decoding.
        """
        maps = self._levels(image * 255.0 - self.mean)
        scores = [head(level).float() for head, level in zip(self.score_heads, maps, strict=True)]
        background, face = scores[0].split([_NUM_BACKGROUND, 1], dim=1)
        scores[0] = torch.cat([background.amax(dim=1, keepdim=True), face], dim=1)
        boxes = [head(level).float() for head, level in zip(self.box_heads, maps, strict=True)]
        return S3FDOutput(scores, boxes)

    def _levels(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        stages = []
        features = pixels
        for stage in self.stages:
            features = stage(features)
            stages.append(features)
            features = F.max_pool2d(features, 2)
        maps = [norm(stage) for norm, stage in zip(self.norms, stages[_FIRST_NORMED_STAGE:], strict=True)]
        for layer in (self.context, *self.extras):
            features = layer(features)
            maps.append(features)
        return maps


class ScaledL2Norm(nn.Module):
    """Unit length over the channels of every cell, times a learned scale per channel.

    Args:
        num_channels: channels of the input.
        scale: initial scale.
    """

    def __init__(self, num_channels: int, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_channels,), scale))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same shape; the length is taken in float32."""
        wide = features.float()
        length = wide.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
        return (wide / length * self.weight.view(1, -1, 1, 1)).to(features.dtype)


def _vgg_stage(in_channels: int, out_channels: int, depth: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(out_channels if index else in_channels, out_channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers)


def _extra_level(in_channels: int, hidden_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden_channels, 1),
        nn.ReLU(),
        nn.Conv2d(hidden_channels, out_channels, 3, stride=2, padding=1),
        nn.ReLU(),
    )

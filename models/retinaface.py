"""RetinaFace with ResNet-50 (Deng et al. 2020), the detector that the published pipeline aligns faces with.

The output is raw apart from the softmax; anchors and boxes are decoded in ``faces``. Defaults are the sizes
of the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import Conv2dNormActivation

from videoretalking.core.colors import IMAGENET_MEAN_LEVELS
from videoretalking.core.config import require_positive
from videoretalking.models.layers.resnet import ResNetBody, require_four_stages

STRIDES = (8, 16, 32)  # input pixels per cell of each level
_RESNET50_CHANNELS = (512, 1024, 2048)  # at those strides


@dataclass(frozen=True)
class RetinaFaceConfig:
    """Sizes of RetinaFace.

    Attributes:
        depths: blocks in each of the four ResNet stages (ResNet-50: 3, 4, 6, 3).
        channels: channels of the feature pyramid, divisible by 4.
        num_anchors: anchors per cell.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)
    channels: int = 256
    num_anchors: int = 2

    def __post_init__(self) -> None:
        require_positive(self, "depths", "channels", "num_anchors")
        require_four_stages(self.depths)
        if self.channels % 4:
            raise ValueError(f"channels of RetinaFaceConfig must be divisible by 4, is {self.channels}")


class RetinaFaceOutput(NamedTuple):
    """Outputs of all N anchors, float32; order: stride 8, 16, 32, in each row, column, anchor.

    Attributes:
        boxes: [B, N, 4] offsets to the anchor.
        scores: [B, N, 2] probabilities of background and face.
        landmarks: [B, N, 10] offsets of five points (x, y) to the anchor.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    landmarks: torch.Tensor


class RetinaFace(nn.Module):
    """Picture -> raw boxes, scores and five landmarks per anchor.

    Args:
        config: sizes.
    """

    mean: torch.Tensor

    def __init__(self, config: RetinaFaceConfig | None = None) -> None:
        super().__init__()
        self.config = config or RetinaFaceConfig()
        channels, num_anchors = self.config.channels, self.config.num_anchors
        # The release was fed BGR with the means in BGR order; the converter flips its first convolution, so that
        # the same numbers come out of RGB.
        mean = torch.tensor(IMAGENET_MEAN_LEVELS).view(1, 3, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.body = ResNetBody(Bottleneck, self.config.depths)
        self.pyramid = FeaturePyramid(channels)
        self.contexts = nn.ModuleList(ContextModule(channels) for _ in STRIDES)
        self.box_heads = nn.ModuleList(nn.Conv2d(channels, 4 * num_anchors, 1) for _ in STRIDES)
        self.score_heads = nn.ModuleList(nn.Conv2d(channels, 2 * num_anchors, 1) for _ in STRIDES)
        self.landmark_heads = nn.ModuleList(nn.Conv2d(channels, 10 * num_anchors, 1) for _ in STRIDES)

    def forward(self, image: torch.Tensor) -> RetinaFaceOutput:
        """Detect.

        Args:
            image: [B, 3, H, W] RGB in [0, 1].

        Returns:
            Boxes, scores and landmarks of all anchors, before decoding.
        """
        levels = self.pyramid(self.body(image * 255.0 - self.mean))
        maps = [context(level) for context, level in zip(self.contexts, levels, strict=True)]
        return RetinaFaceOutput(
            boxes=_flatten_heads(self.box_heads, maps, 4),
            scores=_flatten_heads(self.score_heads, maps, 2).softmax(dim=-1),
            landmarks=_flatten_heads(self.landmark_heads, maps, 10),
        )


class FeaturePyramid(nn.Module):
    """Top-down pyramid over the last three ResNet stages (Lin et al. 2017).

    Args:
        channels: channels of every level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(
            Conv2dNormActivation(width, channels, 1) for width in _RESNET50_CHANNELS
        )
        self.merges = nn.ModuleList(Conv2dNormActivation(channels, channels, 3) for _ in STRIDES[:-1])

    def forward(self, stages: tuple[torch.Tensor, ...]) -> list[torch.Tensor]:
        """ResNet maps, fine to coarse -> [B, channels, H', W'] each, same order."""
        levels = [lateral(stage) for lateral, stage in zip(self.laterals, stages, strict=True)]
        for index in reversed(range(len(self.merges))):
            coarse = F.interpolate(levels[index + 1], size=levels[index].shape[2:], mode="nearest")
            levels[index] = self.merges[index](levels[index] + coarse)
        return levels


class ContextModule(nn.Module):
    """Three branches that see 3x3, 5x5 and 7x7 cells, concatenated (SSH, Najibi et al. 2017).

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.branch_3x3 = Conv2dNormActivation(channels, half, 3, activation_layer=None)
        self.shared = Conv2dNormActivation(channels, quarter, 3)
        self.branch_5x5 = Conv2dNormActivation(quarter, quarter, 3, activation_layer=None)
        self.branch_7x7 = nn.Sequential(
            Conv2dNormActivation(quarter, quarter, 3),
            Conv2dNormActivation(quarter, quarter, 3, activation_layer=None),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same shape."""
        shared = self.shared(features)
        branches = [self.branch_3x3(features), self.branch_5x5(shared), self.branch_7x7(shared)]
        return F.relu(torch.cat(branches, dim=1))


def _flatten_heads(heads: nn.ModuleList, maps: list[torch.Tensor], size: int) -> torch.Tensor:
    """Apply one head a level -> [B, N, size], anchors in the order of :class:`RetinaFaceOutput`."""
    outputs = [head(level).float() for head, level in zip(heads, maps, strict=True)]
    return torch.cat([out.permute(0, 2, 3, 1).reshape(len(out), -1, size) for out in outputs], dim=1)

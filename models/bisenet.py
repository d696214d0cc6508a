"""BiSeNet, the alternative face parser (Yu et al. 2018; the widespread face weights have no spatial path).

Defaults are the sizes of the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation

from videoretalking.core.colors import IMAGENET_MEAN, IMAGENET_STD
from videoretalking.core.config import require_positive
from videoretalking.models.layers.resnet import ResNetBody, require_four_stages

# Meaning of each logit, by index; the order differs from ParseNet's.
CLASSES = (
    "background",
    "skin",
    "left_brow",
    "right_brow",
    "left_eye",
    "right_eye",
    "glasses",
    "left_ear",
    "right_ear",
    "earring",
    "nose",
    "mouth",
    "upper_lip",
    "lower_lip",
    "neck",
    "necklace",
    "cloth",
    "hair",
    "hat",
)

_RESNET18_CHANNELS = (128, 256, 512)  # at 1/8, 1/16 and 1/32
_ATTENTION_REDUCTION = 4


@dataclass(frozen=True)
class BiSeNetConfig:
    """Sizes of BiSeNet.

    Attributes:
        depths: blocks in each of the four ResNet stages (ResNet-18: 2 each).
        context_channels: channels of the context path.
        fusion_channels: channels of the feature fusion and of the main head.
        auxiliary_channels: channels of the two auxiliary heads.
        num_classes: logits per pixel.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    context_channels: int = 128
    fusion_channels: int = 256
    auxiliary_channels: int = 64
    num_classes: int = len(CLASSES)

    def __post_init__(self) -> None:
        require_positive(
            self, "depths", "context_channels", "fusion_channels", "auxiliary_channels", "num_classes"
        )
        require_four_stages(self.depths)
        if self.fusion_channels < _ATTENTION_REDUCTION:
            raise ValueError(f"fusion_channels must be at least {_ATTENTION_REDUCTION}")


class BiSeNetOutput(NamedTuple):
    """Logits [B, num_classes, H, W] before softmax; the last two are auxiliary and serve training only.

    Attributes:
        logits: from the fused map.
        logits_16: from the context map at 1/8 (named after the stage that it refines).
        logits_32: from the context map at 1/16.
    """

    logits: torch.Tensor
    logits_16: torch.Tensor
    logits_32: torch.Tensor


class BiSeNet(nn.Module):
    """Face -> class logits.

    Args:
        config: sizes.
    """

    classes = CLASSES
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, config: BiSeNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or BiSeNetConfig()
        context, fusion = self.config.context_channels, self.config.fusion_channels
        auxiliary, num_classes = self.config.auxiliary_channels, self.config.num_classes
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.context = ContextPath(self.config)
        self.fusion = FeatureFusion(_RESNET18_CHANNELS[0] + context, fusion)
        self.head = _head(fusion, fusion, num_classes)
        self.head_16 = _head(context, auxiliary, num_classes)
        self.head_32 = _head(context, auxiliary, num_classes)

    def forward(self, image: torch.Tensor) -> BiSeNetOutput:
        """Parse.

        Args:
            image: [B, 3, H, W] RGB in [0, 1]; trained at 512.

        Returns:
            Three logit maps at the size of the input, float32.
        """
        spatial, context_8, context_16 = self.context((image - self.mean) / self.std)
        fused = self.fusion(torch.cat([spatial, context_8], dim=1))
        size = image.shape[2:]
        return BiSeNetOutput(
            _to_size(self.head(fused), size),
            _to_size(self.head_16(context_8), size),
            _to_size(self.head_32(context_16), size),
        )


class ContextPath(nn.Module):
    """ResNet with attention refinement of its last two stages and a global average on top.

    Args:
        config: sizes.
    """

    def __init__(self, config: BiSeNetConfig) -> None:
        super().__init__()
        channels = config.context_channels
        self.body = ResNetBody(BasicBlock, config.depths)
        self.attention_16 = AttentionRefinement(_RESNET18_CHANNELS[1], channels)
        self.attention_32 = AttentionRefinement(_RESNET18_CHANNELS[2], channels)
        self.smooth_16 = Conv2dNormActivation(channels, channels, 3)
        self.smooth_32 = Conv2dNormActivation(channels, channels, 3)
        self.average = Conv2dNormActivation(_RESNET18_CHANNELS[2], channels, 1)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] normalized -> ResNet map at 1/8, context maps at 1/8 and 1/16."""
        eighth, sixteenth, last = self.body(pixels)
        context = self.attention_32(last) + self.average(_global_mean(last))
        context_16 = self.smooth_32(_nearest(context, sixteenth))
        context_8 = self.smooth_16(_nearest(self.attention_16(sixteenth) + context_16, eighth))
        return eighth, context_8, context_16


class AttentionRefinement(nn.Module):
    """3x3 convolution whose channels are weighted by their own global mean.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv2dNormActivation(in_channels, out_channels, 3)
        self.attention = Conv2dNormActivation(
            out_channels, out_channels, 1, activation_layer=nn.Sigmoid, inplace=None
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        features = self.conv(features)
        return features * self.attention(_global_mean(features))


class FeatureFusion(nn.Module):
    """1x1 convolution of the concatenated paths, then channel attention with a residual.

    Args:
        in_channels: channels of both paths together.
        out_channels: channels of the output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv2dNormActivation(in_channels, out_channels, 1)
        self.squeeze = nn.Conv2d(out_channels, out_channels // _ATTENTION_REDUCTION, 1, bias=False)
        self.excite = nn.Conv2d(out_channels // _ATTENTION_REDUCTION, out_channels, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H, W]."""
        features = self.conv(features)
        attention = torch.sigmoid(self.excite(F.relu(self.squeeze(_global_mean(features)))))
        return features * attention + features


def _head(in_channels: int, hidden_channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        Conv2dNormActivation(in_channels, hidden_channels, 3),
        nn.Conv2d(hidden_channels, num_classes, 1, bias=False),
    )


def _global_mean(features: torch.Tensor) -> torch.Tensor:
    return features.mean(dim=(2, 3), keepdim=True)


def _nearest(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return F.interpolate(features, size=like.shape[2:], mode="nearest")


def _to_size(logits: torch.Tensor, size: torch.Size) -> torch.Tensor:
    # corner-aligned as the weights were trained, unlike every other resize of the project
    return F.interpolate(logits.float(), size=size, mode="bilinear", align_corners=True)

"""ParseNet, the face parser of the published pipeline (from PSFRGAN, Chen et al. 2021, shipped with GPEN).

A residual encoder, body and decoder without skips. It also predicts an image, a training aid of its authors
that the release carries. Defaults are the sizes of the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_positive
from videoretalking.models.layers.blocks import from_signed, to_signed

# Meaning of each logit, by index.
CLASSES = (
    "background",
    "skin",
    "nose",
    "glasses",
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
    "left_ear",
    "right_ear",
    "mouth",
    "upper_lip",
    "lower_lip",
    "hair",
    "hat",
    "earring",
    "necklace",
    "neck",
    "cloth",
)

Resizing = Literal["none", "down", "up"]


@dataclass(frozen=True)
class ParseNetConfig:
    """Sizes of ParseNet.

    Attributes:
        widths: channels at full size and after each halving; the decoder mirrors them.
        num_body_blocks: residual blocks at the smallest size.
        num_classes: logits per pixel.
    """

    widths: tuple[int, ...] = (64, 128, 256, 256, 256)
    num_body_blocks: int = 10
    num_classes: int = len(CLASSES)

    def __post_init__(self) -> None:
        require_positive(self, "widths", "num_body_blocks", "num_classes")


class ParseNetOutput(NamedTuple):
    """What ParseNet returns.

    Attributes:
        logits: [B, num_classes, H, W], before softmax.
        image: [B, 3, H, W] RGB around [0, 1]; not used by the pipeline.
    """

    logits: torch.Tensor
    image: torch.Tensor


class ParseNet(nn.Module):
    """Aligned face -> class logits.

    Args:
        config: sizes.
    """

    classes = CLASSES

    def __init__(self, config: ParseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or ParseNetConfig()
        widths = self.config.widths
        self.stem = ReflectConv(3, widths[0], norm=False)
        self.encoder = nn.Sequential(*(ResidualBlock(*pair, resizing="down") for pair in pairwise(widths)))
        self.body = nn.Sequential(
            *(ResidualBlock(widths[-1], widths[-1]) for _ in range(self.config.num_body_blocks))
        )
        mirrored = widths[::-1]
        self.decoder = nn.Sequential(*(ResidualBlock(*pair, resizing="up") for pair in pairwise(mirrored)))
        self.mask_head = ReflectConv(widths[0], self.config.num_classes, norm=False)
        self.image_head = ReflectConv(widths[0], 3, norm=False)

    def forward(self, image: torch.Tensor) -> ParseNetOutput:
        """Parse.

        Args:
            image: [B, 3, H, W] RGB in [0, 1]; trained at 512, sides divisible by 2 to the number of halvings.

        Returns:
            Logits and an image at the size of the input, float32.
        """
        features = self.encoder(self.stem(to_signed(image)))
        features = self.decoder(features + self.body(features))
        return ParseNetOutput(
            logits=self.mask_head(features).float(), image=from_signed(self.image_head(features).float())
        )


class ResidualBlock(nn.Module):
    """Two convolutions and a shortcut; nothing after the sum.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        resizing: halve the size in the second convolution, double it before the first, or neither.
    """

    def __init__(self, in_channels: int, out_channels: int, resizing: Resizing = "none") -> None:
        super().__init__()
        self.conv1 = ReflectConv(
            in_channels, out_channels, "up" if resizing == "up" else "none", activation=True
        )
        self.conv2 = ReflectConv(out_channels, out_channels, "down" if resizing == "down" else "none")
        self.shortcut: nn.Module = nn.Identity()
        if resizing != "none" or in_channels != out_channels:
            self.shortcut = ReflectConv(in_channels, out_channels, resizing, norm=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        out: torch.Tensor = self.conv2(self.conv1(features))
        return out + self.shortcut(features)


class ReflectConv(nn.Module):
    """3x3 convolution with reflection at the border, optional batch norm and leaky ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        resizing: stride 2, nearest x2 before the convolution, or neither.
        norm: batch norm, which replaces the bias of the convolution.
        activation: leaky ReLU at the end.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        resizing: Resizing = "none",
        norm: bool = True,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            3,
            stride=2 if resizing == "down" else 1,
            padding=1,
            padding_mode="reflect",
            bias=not norm,
        )
        self.norm = nn.BatchNorm2d(out_channels) if norm else nn.Identity()
        self.upsample = resizing == "up"
        self.activation = activation

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        if self.upsample:
            features = F.interpolate(features, scale_factor=2, mode="nearest")
        out: torch.Tensor = self.norm(self.conv(features))
        return F.leaky_relu(out, 0.2) if self.activation else out

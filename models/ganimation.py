"""GANimation (Pumarola et al. 2018), which adds an emotion to the upper face after lip-sync.

The generator paints a color image and an attention mask; where the mask is 1 the input stays. Defaults are
the sizes of the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_positive
from videoretalking.models.layers.blocks import from_signed, to_signed


@dataclass(frozen=True)
class GANimationConfig:
    """Sizes of the generator.

    Attributes:
        num_action_units: facial action units of the condition.
        width: channels at full size; each halving doubles them.
        num_halvings: strided convolutions, mirrored by transposed ones.
        num_blocks: residual blocks at the smallest size.
    """

    num_action_units: int = 17
    width: int = 64
    num_halvings: int = 2
    num_blocks: int = 6

    def __post_init__(self) -> None:
        require_positive(self, "num_action_units", "width", "num_halvings", "num_blocks")


class GANimationOutput(NamedTuple):
    """What the generator returns, float32.

    Attributes:
        image: [B, 3, H, W] RGB in [0, 1], ``attention * input + (1 - attention) * color``.
        color: [B, 3, H, W] RGB in [0, 1], the painted image.
        attention: [B, 1, H, W] in [0, 1], 1 keeps the input.
        features: [B, width, H, W], the map that both heads read.
    """

    image: torch.Tensor
    color: torch.Tensor
    attention: torch.Tensor
    features: torch.Tensor


class GANimation(nn.Module):
    """Face and action units -> face with that expression.

    The release has biases before its instance norms, which remove them again; here they do not exist.

    Args:
        config: sizes.
    """

    def __init__(self, config: GANimationConfig | None = None) -> None:
        super().__init__()
        self.config = config or GANimationConfig()
        width = self.config.width
        widths = [width * 2**level for level in range(self.config.num_halvings + 1)]
        pairs = list(pairwise(widths))
        self.stem = nn.Conv2d(3 + self.config.num_action_units, width, 7, padding=3, bias=False)
        self.downs = nn.ModuleList(
            nn.Conv2d(narrow, wide, 4, stride=2, padding=1, bias=False) for narrow, wide in pairs
        )
        self.blocks = nn.ModuleList(ResidualBlock(widths[-1]) for _ in range(self.config.num_blocks))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(wide, narrow, 4, stride=2, padding=1, bias=False)
            for narrow, wide in reversed(pairs)
        )
        self.color_head = nn.Conv2d(width, 3, 7, padding=3, bias=False)
        self.attention_head = nn.Conv2d(width, 1, 7, padding=3, bias=False)

    def forward(self, image: torch.Tensor, action_units: torch.Tensor) -> GANimationOutput:
        """Animate.

        Args:
            image: [B, 3, H, W] RGB in [0, 1]; trained at 128.
            action_units: [B, num_action_units] intensities in [0, 1] (OpenFace's, divided by 5).
        """
        # Differs from published inference: it feeds BGR to weights that were trained on RGB; here RGB is fed.
        signed = to_signed(image)
        spread = action_units[:, :, None, None].expand(-1, -1, *image.shape[2:])
        features = _norm_relu(self.stem(torch.cat([signed, spread], dim=1)))
        for down in self.downs:
            features = _norm_relu(down(features))
        for block in self.blocks:
            features = block(features)
        for up in self.ups:
            features = _norm_relu(up(features))
        color = from_signed(torch.tanh(self.color_head(features).float()))
        attention = torch.sigmoid(self.attention_head(features).float())
        return GANimationOutput(
            image=attention * image + (1.0 - attention) * color,
            color=color,
            attention=attention,
            features=features.float(),
        )


class ResidualBlock(nn.Module):
    """Two normalized 3x3 convolutions added to the input; nothing after the sum.

    Args:
        channels: channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> the same shape."""
        return features + _norm(self.conv2(_norm_relu(self.conv1(features))))


def _norm(features: torch.Tensor) -> torch.Tensor:
    """Instance norm without parameters; statistics in float32 under autocast too."""
    return F.instance_norm(features.float()).to(features.dtype)


def _norm_relu(features: torch.Tensor) -> torch.Tensor:
    return F.relu(_norm(features))

"""GFPGAN v1.3 "clean" (Wang et al. 2021), one of the two face restorers after lip-sync (paper, section 3.3).

A U-Net removes the degradation and predicts the style codes of a clean StyleGAN2 decoder; at every level its
features modulate half of the decoder's channels. Defaults are the sizes of the released network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_positive
from videoretalking.models.layers.blocks import ResDown, from_signed, to_signed
from videoretalking.models.layers.style import StyleConv, ToRGB

_CONSTANT_SIZE = 4  # side of the decoder's learned constant, and of the coarsest level


@dataclass(frozen=True)
class GFPGANConfig:
    """Sizes of GFPGAN.

    Attributes:
        widths: channels of the decoder from the finest level (the image) to the coarsest (4x4); each level
            has half the size of the one before, so the number of widths sets the size of the image. All even:
            the U-Net has half of them.
        style_size: length of one style code.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512, 512, 512, 512)
    style_size: int = 512

    def __post_init__(self) -> None:
        require_positive(self, "widths", "style_size")
        if any(width % 2 for width in self.widths):
            raise ValueError(f"widths of GFPGANConfig must be even, are {self.widths}")

    @property
    def image_size(self) -> int:
        """Side of the image in pixels (released: 512)."""
        return _CONSTANT_SIZE * 2 ** (len(self.widths) - 1)


class GFPGAN(nn.Module):
    """Aligned degraded face -> restored face.

    Args:
        config: sizes.
    """

    def __init__(self, config: GFPGANConfig | None = None) -> None:
        super().__init__()
        self.config = config or GFPGANConfig()
        widths = [width // 2 for width in self.config.widths]
        pairs = list(pairwise(widths))
        self.stem = nn.Conv2d(3, widths[0], 1)
        self.downs = nn.ModuleList(ResDown(fine, coarse) for fine, coarse in pairs)
        self.neck = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.num_codes = 2 * len(widths)
        self.to_codes = nn.Linear(widths[-1] * _CONSTANT_SIZE**2, self.num_codes * self.config.style_size)
        self.ups = nn.ModuleList(ResDown(coarse, fine, factor=2.0) for fine, coarse in reversed(pairs))
        self.side_heads = nn.ModuleList(nn.Conv2d(fine, 3, 1) for fine, _ in reversed(pairs))
        self.decoder = StyleDecoder(self.config)

    def forward(
        self, image: torch.Tensor, return_side_images: bool = False
    ) -> torch.Tensor | tuple[torch.Tensor, list[torch.Tensor]]:
        """Restore.

        Args:
            image: [B, 3, S, S] RGB in [0, 1] with S = ``config.image_size``, the face aligned as in FFHQ.
            return_side_images: also return what the U-Net's decoder side paints at every level, which the
                pyramid restoration loss compares in training.

        Returns:
            [B, 3, S, S] RGB around [0, 1], not clipped, float32; with ``return_side_images`` a pair of it and
            the side images, sides 8, 16 .. S.
        """
        features = F.leaky_relu(self.stem(to_signed(image)), 0.2)
        skips = []
        for down in self.downs:
            features = down(features)
            skips.append(features)
        features = F.leaky_relu(self.neck(features), 0.2)
        codes = self.to_codes(features.flatten(1)).unflatten(1, (self.num_codes, -1))

        conditions = []
        for up, skip in zip(self.ups, reversed(skips), strict=True):
            features = up(features + skip)
            conditions.append(features)
        restored = from_signed(self.decoder(codes, conditions).float())
        if not return_side_images:
            return restored
        side_images = [
            from_signed(head(condition).float())
            for head, condition in zip(self.side_heads, conditions, strict=True)
        ]
        return restored, side_images


class StyleDecoder(nn.Module):
    """Clean StyleGAN2 generator whose levels are modulated by feature maps.

    The noise maps are fixed buffers, so a frame always gives the same result.
    Differs from published inference: it draws fresh noise at every call, which makes a video flicker; the
    release carries the maps that are used here.

    Args:
        config: sizes.
    """

    first_noise: torch.Tensor

    def __init__(self, config: GFPGANConfig) -> None:
        super().__init__()
        coarsest = config.widths[-1]
        self.constant = nn.Parameter(torch.randn(1, coarsest, _CONSTANT_SIZE, _CONSTANT_SIZE))
        self.register_buffer("first_noise", torch.randn(1, 1, _CONSTANT_SIZE, _CONSTANT_SIZE))
        self.first = StyleConv(coarsest, coarsest, config.style_size)
        self.first_rgb = ToRGB(coarsest, config.style_size)
        mirrored = config.widths[::-1]
        self.levels = nn.ModuleList(
            DecoderLevel(coarse, fine, config.style_size, _CONSTANT_SIZE * 2 ** (index + 1))
            for index, (coarse, fine) in enumerate(pairwise(mirrored))
        )

    def forward(self, codes: torch.Tensor, conditions: list[torch.Tensor]) -> torch.Tensor:
        """Paint.

        Args:
            codes: [B, 2 * number of levels including 4x4, style_size].
            conditions: map of every level above 4x4, coarse to fine, [B, width / 2, side, side].

        Returns:
            [B, 3, S, S] around [-1, 1].
        """
        constant = self.constant.expand(len(codes), -1, -1, -1)
        features = self.first(constant, codes[:, 0], self.first_noise)
        image: torch.Tensor = self.first_rgb(features, codes[:, 1])
        for index, (level, condition) in enumerate(zip(self.levels, conditions, strict=True)):
            # a level's image and the next level's first convolution share a code, as in StyleGAN2
            start = 2 * index + 1
            features, image = level(features, image, condition, codes[:, start : start + 3])
        return image


class DecoderLevel(nn.Module):
    """One doubling of the decoder: up-sampling, feature transform, convolution, image.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        style_size: length of one style code.
        side: side of the output in pixels.
    """

    up_noise: torch.Tensor
    noise: torch.Tensor

    def __init__(self, in_channels: int, out_channels: int, style_size: int, side: int) -> None:
        super().__init__()
        self.up = StyleConv(in_channels, out_channels, style_size, upsample=True)
        self.transform = SplitFeatureTransform(out_channels // 2)
        self.conv = StyleConv(out_channels, out_channels, style_size)
        self.to_rgb = ToRGB(out_channels, style_size)
        self.register_buffer("up_noise", torch.randn(1, 1, side, side))
        self.register_buffer("noise", torch.randn(1, 1, side, side))

    def forward(
        self, features: torch.Tensor, image: torch.Tensor, condition: torch.Tensor, codes: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Features [B, in, s, s], image [B, 3, s, s], codes [B, 3, style_size] -> both doubled in size."""
        features = self.up(features, codes[:, 0], self.up_noise)
        features = self.transform(features, condition)
        features = self.conv(features, codes[:, 1], self.noise)
        return features, self.to_rgb(features, codes[:, 2], image)


class SplitFeatureTransform(nn.Module):
    """Scale and shift per pixel on the second half of the channels; the first half passes (CS-SFT).

    Args:
        channels: channels of the condition, half of those of the features.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = _condition_head(channels)
        self.shift = _condition_head(channels)

    def forward(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """[B, 2 * channels, H, W] and [B, channels, H, W] -> the shape of the features."""
        kept, changed = features.chunk(2, dim=1)
        return torch.cat([kept, changed * self.scale(condition) + self.shift(condition)], dim=1)


def _condition_head(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(channels, channels, 3, padding=1),
    )

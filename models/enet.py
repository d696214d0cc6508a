"""E-Net, the identity-aware enhancement network (paper, section 3.3 and appendix C.3).

It brings L-Net's 96x96 face to 384x384: an identity encoder turns the high-resolution reference into one
style code, and two style blocks (a clean StyleGAN2 level each) double the size under that code. L-Net
stands beside it, frozen (the paper's figure 12 joins the two). Defaults are the sizes of the released network.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import ResDown, resize
from videoretalking.models.layers.style import StyleConv, ToRGB

# L-Net's image is padded before the style blocks and cropped after them, so that border artifacts of the
# up-sampling fall outside: 96 + 2 * 2 = 100, 100 * 4 = 400, 400 - 2 * 8 = 384.
_PADDING = 2
# Pixels of L-Net's image to each side that a pixel of the result depends on, rounded up: through two convolutions
# and a bilinear step at each size.
_REACH = 3
# Spread of fresh codes, and of the features that they are made from: small ones, for the linear layer sums
# thousands and Adam moves all its weights at once. The modulations, 1 on the mean, then vary by about a tenth.
_CODE_SPREAD, _FEATURE_SPREAD = 0.06, 0.02

Window: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom in pixels of L-Net's image


@dataclass(frozen=True)
class ENetConfig:
    """Sizes of E-Net without L-Net.

    Attributes:
        identity_size: side in pixels of the identity encoder's input (paper: 256).
        identity_channels: channels after the stem and after each down-sampling (paper: six down-samplings).
        style_size: length of the style code (paper: 512).
        style_channels: channels of each style block; each doubles the size (paper: two blocks, 96 -> 384).
        low_size: side in pixels of L-Net's faces.
        noise_seed: seed of the fixed noise maps.
        detail_gain: in use alone, how much further what is finer than a pixel of L-Net's face departs from its
            surroundings; 0 leaves it (paper, released). For an L-Net whose mouths are softer than the faces that
            this network was taught on.
    """

    identity_size: int = 256
    identity_channels: tuple[int, ...] = (256, 256, 512, 512, 512, 512, 512)
    style_size: int = 512
    style_channels: tuple[int, ...] = (256, 128)
    low_size: int = 96
    noise_seed: int = 0
    detail_gain: float = 0.0


class ENet(nn.Module):
    """Identity encoder and style blocks.

    The released network draws fresh noise at every call, which makes a video flicker.
    Here every style convolution has one noise map, drawn once from ``config.noise_seed``, the same for
    every frame and machine. Training draws new maps for every sample, as StyleGAN2 does: on the fixed ones the
    network would learn where each grain lies.

    Args:
        config: sizes.
    """

    def __init__(self, config: ENetConfig | None = None) -> None:
        super().__init__()
        self.config = config or ENetConfig()
        self.identity_encoder = IdentityEncoder(self.config)
        convs, to_rgbs = [], []
        channels = 3
        side = self.config.low_size + 2 * _PADDING
        generator = torch.Generator("cpu").manual_seed(self.config.noise_seed)
        for level, width in enumerate(self.config.style_channels):
            convs.append(StyleConv(channels, width, self.config.style_size, upsample=True))
            convs.append(StyleConv(width, width, self.config.style_size))
            to_rgbs.append(ToRGB(width, self.config.style_size))
            channels = width
            side *= 2
            for index in (2 * level, 2 * level + 1):
                noise = torch.randn(1, 1, side, side, generator=generator, device="cpu")
                # the maps follow from the seed, so they need not be stored
                self.register_buffer(f"noise{index}", noise, persistent=False)
        self.style_convs = nn.ModuleList(convs)
        self.to_rgbs = nn.ModuleList(to_rgbs)

    def forward(
        self, low_res: torch.Tensor, reference: torch.Tensor, noise_seeds: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Enhance.

        Args:
            low_res: [B, 3, 96, 96] RGB in [0, 1], L-Net's output; with ``noise_seeds`` a square part of it will do.
            reference: [B, 3, 384, 384] RGB in [0, 1], whose identity is kept.
            noise_seeds: [B] integers from which the noise of each image is drawn, for training; None takes the
                fixed maps. A seed for each image, so that its noise depends neither on the batch nor on the process
                that computes it.

        Returns:
            [B, 3, 384, 384] RGB around [0, 1], not clipped, float32.
        """
        return self.paint(low_res, self.identity_encoder(reference), noise_seeds)

    def paint(
        self,
        low_res: torch.Tensor,
        style: torch.Tensor,
        noise_seeds: torch.Tensor | None = None,
        window: Window | None = None,
        doublings: int | None = None,
    ) -> torch.Tensor:
        """:meth:`forward` with the identity encoder's style code, [B or 1, style_size]; sharing one is faster.

        Args:
            low_res: as in :meth:`forward`.
            style: the code.
            noise_seeds: as in :meth:`forward`.
            window: part of ``low_res`` to paint, in its pixels; None paints all. A part looks as in the whole.
            doublings: of the size, after which the image is taken as it is; None takes all.

        Returns:
            [B, 3, height, width] of the window, times 2 for each doubling.
        """
        image = F.pad(low_res, [_PADDING] * 4, mode="reflect")
        noise = self.fixed_noise() if noise_seeds is None else self.draw_noise(noise_seeds, low_res.shape[-1])
        left, top, right, bottom = window or (0, 0, low_res.shape[-1], low_res.shape[-2])
        gain = 0.0 if self.training else self.config.detail_gain
        reach = _REACH + (gain > 0.0)
        part = _part((left, top, right, bottom), (image.shape[-1], image.shape[-2]), reach)
        image = _cut(image, part)
        features = image
        count = len(self.to_rgbs) if doublings is None else doublings
        for level, to_rgb in enumerate(self.to_rgbs[:count]):
            up, conv = self.style_convs[2 * level : 2 * level + 2]
            grain = [_cut(maps, part, 2 ** (level + 1)) for maps in noise[2 * level : 2 * level + 2]]
            last = level == count - 1
            features = up(features, style, grain[0], reader=conv)
            features = conv(features, style, grain[1], reader=to_rgb if last else None)
            image = to_rgb(features, style, image)
        factor = 2**count
        if gain:
            image = image + gain * (image - _smooth(image, factor // 2))
        inside = (left + _PADDING - part[0], top + _PADDING - part[1])
        box = (*inside, inside[0] + right - left, inside[1] + bottom - top)
        return _cut(image, box, factor).float()

    def fixed_noise(self) -> list[torch.Tensor]:
        """The map [1, 1, H, W] of each style convolution."""
        return [self.get_buffer(f"noise{index}") for index in range(len(self.style_convs))]

    def draw_noise(self, seeds: torch.Tensor, low_size: int) -> list[torch.Tensor]:
        """New maps [B, 1, H, W] for each style convolution from [B] integers, for faces of ``low_size`` pixels."""
        device = self.get_buffer("noise0").device
        count, padded = len(self.style_convs), low_size + 2 * _PADDING
        sides = [padded * 2 ** (index // 2 + 1) for index in range(count)]
        rows = []
        for seed in seeds.tolist():
            generator = torch.Generator(device).manual_seed(seed)
            rows.append([torch.randn(1, side, side, generator=generator, device=device) for side in sides])
        return [torch.stack(maps) for maps in zip(*rows, strict=True)]


def _part(window: Window, size: tuple[int, int], reach: int) -> Window:
    """The part of the padded image that a window of the image depends on, ``reach`` pixels to each side."""
    left, top, right, bottom = (edge + _PADDING for edge in window)
    return (
        max(left - reach, 0),
        max(top - reach, 0),
        min(right + reach, size[0]),
        min(bottom + reach, size[1]),
    )


def _smooth(image: torch.Tensor, radius: int) -> torch.Tensor:
    """[B, C, H, W], each pixel the mean of those within ``radius`` rows and columns."""
    return F.avg_pool2d(F.pad(image, [radius] * 4, mode="replicate"), 2 * radius + 1, stride=1)


def _cut(maps: torch.Tensor, window: Window, factor: int = 1) -> torch.Tensor:
    """The window of maps that are larger by a factor than what it is given for."""
    left, top, right, bottom = (factor * edge for edge in window)
    return maps[..., top:bottom, left:right]


class IdentityEncoder(nn.Module):
    """Reference image -> style code: residual down-samplings and a linear layer (figure 13).

    Args:
        config: sizes.
    """

    def __init__(self, config: ENetConfig) -> None:
        super().__init__()
        widths = config.identity_channels
        self.size = config.identity_size
        self.first = nn.Conv2d(3, widths[0], 1)
        self.downs = nn.ModuleList(ResDown(*pair) for pair in itertools.pairwise(widths))
        self.final = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        side = config.identity_size // 2 ** len(self.downs)
        self.linear = nn.Linear(widths[-1] * side**2, config.style_size)
        self._keep_people_apart()

    @torch.no_grad()
    def _keep_people_apart(self) -> None:
        """Initial weights under which the spread between people comes through all layers (He et al. 2015).

        PyTorch's own halve it in each layer: codes then differ by 0.0005, and training learns to do without.
        """
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.2)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, ResDown):  # the sum of both paths has the spread of one
                module.conv2.weight.mul_(math.sqrt(0.5))
                module.skip.weight.mul_(math.sqrt(0.5))
        self.final.weight.mul_(_FEATURE_SPREAD)
        nn.init.normal_(
            self.linear.weight, std=_CODE_SPREAD / _FEATURE_SPREAD / math.sqrt(self.linear.in_features)
        )

    def forward(self, reference: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in [0, 1] -> [B, style_size]."""
        features = F.leaky_relu(self.first(resize(reference, self.size)), 0.2, inplace=True)
        for down in self.downs:
            features = down(features)
        features = F.leaky_relu(self.final(features), 0.2, inplace=True)
        code: torch.Tensor = self.linear(features.flatten(1))
        return code

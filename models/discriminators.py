"""Image discriminators: Wav2Lip's for the baseline, E-Net's adversary (paper, eq. 13), one of plain patches."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from videoretalking.models.layers.blocks import ResDown, to_signed, unroll_clip

# Kernel and stride of the first convolution of each size of Wav2Lip's discriminator, after 48x96.
_QUALITY_STEPS: tuple[tuple[int, int | tuple[int, int]], ...] = ((5, (1, 2)), (5, 2), (5, 2), (3, 2), (3, 2))

_DETAIL_SIZE = 5  # pixels of the local mean


@dataclass(frozen=True)
class QualityDiscriminatorConfig:
    """Sizes of Wav2Lip's discriminator; the defaults are those of the released file.

    Attributes:
        widths: channels at 48x96, then at 48, 24, 12, 6, 3 and 1 pixels.
    """

    widths: tuple[int, int, int, int, int, int, int] = (32, 64, 128, 256, 512, 512, 512)


class QualityDiscriminator(nn.Module):
    """Wav2Lip's visual quality discriminator: is this lower half of a face a photograph?

    Args:
        config: sizes.
    """

    def __init__(self, config: QualityDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or QualityDiscriminatorConfig()
        widths = config.widths
        layers = [nn.Conv2d(3, widths[0], 7, padding=3)]
        for index, (kernel, stride) in enumerate(_QUALITY_STEPS, start=1):
            layers.append(nn.Conv2d(widths[index - 1], widths[index], kernel, stride, padding=kernel // 2))
            layers.append(nn.Conv2d(widths[index], widths[index], kernel, padding=kernel // 2))
        layers.append(nn.Conv2d(widths[5], widths[6], 3))
        layers.append(nn.Conv2d(widths[6], widths[6], 1))
        self.layers = nn.ModuleList(layers)
        self.head = nn.Conv2d(widths[6], 1, 1)

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Judge every frame of a clip by its lower half.

        Args:
            clip: [B, 3, T, 96, 96] RGB in [0, 1].

        Returns:
            [T * B, 1] probability of being real; item ``t * B + b``.
        """
        frames = unroll_clip(clip)
        features = frames[:, :, frames.shape[2] // 2 :]
        for layer in self.layers:
            features = F.leaky_relu(layer(features), 0.01)
        return torch.sigmoid(self.head(features)).flatten(1)


@dataclass(frozen=True)
class ENetDiscriminatorConfig:
    """Sizes of E-Net's adversary.

    Attributes:
        widths: channels at full size and after each halving; the last size is that of the scores.
        gain: factor on every normalized convolution. At 1 each of them and its activation halve what passes, so
            that nine in a row leave scores of a few thousandths, from which nothing is learned.
        detail_gain: show the difference of the image from its local mean, times this factor, beside the image; 0
            shows the image alone. Spectral normalization bounds what a small discriminator can make of faint
            detail, the one thing that its verdict is wanted for.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    gain: float = 1.5
    detail_gain: float = 0.0


class Gain(nn.Module):
    """A fixed factor on a weight.

    Args:
        factor: the factor.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight, multiplied."""
        return weight * self.factor


# Assumed: the paper gives no structure, only the adversarial loss of Isola et al. 2017, whose discriminator
# scores patches. The patches are scored by the residual blocks of StyleGAN2's discriminator here, the
# counterpart of E-Net's decoder; spectral normalization bounds the gradients that the weight of 100 multiplies.
class ENetDiscriminator(nn.Module):
    """Patch discriminator with residual blocks: which parts of this face are a photograph?

    Args:
        config: sizes.
    """

    def __init__(self, config: ENetDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ENetDiscriminatorConfig()
        self.stem = nn.Conv2d(6 if config.detail_gain else 3, config.widths[0], 3, padding=1)
        self.blocks = nn.Sequential(*(ResDown(*widths) for widths in itertools.pairwise(config.widths)))
        self.head = nn.Conv2d(config.widths[-1], 1, 3, padding=1)
        for module in list(self.modules()):
            if isinstance(module, nn.Conv2d):
                spectral_norm(module)
                register_parametrization(module, "weight", Gain(config.gain))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge images.

        Args:
            image: [B, 3, H, W] RGB in [0, 1].

        Returns:
            [B, 1, H / 16, W / 16] logits (one halving for each width but the first), positive for real.
        """
        features = F.leaky_relu(self.stem(_with_detail(image, self.config.detail_gain)), 0.2)
        return self.head(self.blocks(features))


@dataclass(frozen=True)
class PatchDiscriminatorConfig:
    """Sizes of the plain patch discriminator.

    Attributes:
        widths: channels after each halving.
        detail_gain: as in :class:`ENetDiscriminatorConfig`.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    detail_gain: float = 0.0


class PatchDiscriminator(nn.Module):
    """The patch discriminator of Isola et al. 2017, whose adversarial loss the paper takes (eq. 13).

    Its norms are of single images, so that no verdict depends on the batch. It leaves chance five times as fast as
    :class:`ENetDiscriminator` on small pictures that are nearly right, at a fifth of the work; nothing bounds its
    gradients.

    Args:
        config: sizes.
    """

    def __init__(self, config: PatchDiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PatchDiscriminatorConfig()
        widths = config.widths
        layers: list[nn.Module] = [
            nn.Conv2d(6 if config.detail_gain else 3, widths[0], 4, 2, 1),
            nn.LeakyReLU(0.2),
        ]
        for before, after in itertools.pairwise(widths):
            norm = nn.InstanceNorm2d(after, affine=True)
            layers += [nn.Conv2d(before, after, 4, 2, 1), norm, nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Judge images.

        Args:
            image: [B, 3, H, W] RGB in [0, 1], H and W at least ``2 ** (len(widths) + 1)``.

        Returns:
            [B, 1, H / 2 ** len(widths), W / 2 ** len(widths)] logits, rounded down, positive for real.
        """
        return self.head(self.layers(_with_detail(image, self.config.detail_gain)))


def _with_detail(image: torch.Tensor, gain: float) -> torch.Tensor:
    """[B, 3, H, W] in [0, 1] -> [-1, 1] and, with a gain, the difference from the local mean beside it."""
    if not gain:
        return to_signed(image)
    mean = F.avg_pool2d(image, _DETAIL_SIZE, 1, _DETAIL_SIZE // 2, count_include_pad=False)
    return torch.cat([to_signed(image), gain * (image - mean)], dim=1)

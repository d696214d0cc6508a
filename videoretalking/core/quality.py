"""How near one image comes to another, for whoever must decide by it."""

from __future__ import annotations

import torch
import torch.nn.functional as F

MAX_PSNR = 100.0  # decibels reported for identical images, so that means stay finite


def psnr(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Peak signal-to-noise ratio in decibels; higher is more alike, at most 100.

    Args:
        first: [N, ...] in [0, 1].
        second: the same shape.

    Returns:
        [N].
    """
    error = (first - second).square().flatten(1).mean(dim=1)
    return -10.0 * torch.log10(error.clamp_min(10.0 ** (-MAX_PSNR / 10)))


def detail(image: torch.Tensor) -> torch.Tensor:
    """How much fine detail an image has: the root mean square of what a mean over 3 x 3 pixels takes away.

    Args:
        image: [N, C, H, W] in [0, 1].

    Returns:
        [N], in the units of the image; 0 for a flat one.
    """
    smooth = F.avg_pool2d(image, 3, stride=1)
    return (image[..., 1:-1, 1:-1] - smooth).square().flatten(1).mean(dim=1).sqrt()

"""How near one image comes to another, for whoever must decide by it."""

from __future__ import annotations

import torch

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

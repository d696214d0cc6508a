"""Keeping networks that judge an image from painting it; none of this is part of the paper.

A fixed network that finds landmarks or compares lips with speech was never asked about colors or texture. On little
data its gradient can be a thousand times that of the pixels, and a network learns to satisfy it with what no face
looks like. Two remedies: a judge sees the image in the colors of its target, and its gradient is limited to a
multiple of the pixels'.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch


def with_colors_of(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The output's brightness with the target's colors.

    Brightness is the plain mean of the channels. Of luma, which is mostly green, the gradient would push green more
    than the others, so images would turn violet or green after all.

    Args:
        output: [B, 3, ...] in [0, 1].
        target: the same shape.

    Returns:
        The same shape, a little outside of [0, 1] at most; its gradient is the same in all three channels.
    """
    return target + (output - target).mean(dim=1, keepdim=True)


def gradient_at(loss: torch.Tensor, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """How strongly a loss pushes the pixels of a region.

    Args:
        loss: scalar that depends on ``image``; its graph is kept.
        image: [B, 3, ...].
        mask: [B, 1, ...] in [0, 1], the region.

    Returns:
        Scalar: mean absolute gradient per value of the region.
    """
    (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)
    return (gradient.abs() * mask).sum() / (3.0 * mask.sum())


def limit_factors(
    image: torch.Tensor,
    pixels: torch.Tensor,
    judges: Mapping[str, torch.Tensor],
    limit: float,
    mask: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """What each judge's loss has to be multiplied by so that it outvotes the pixels by no more than a factor.

    Args:
        image: [B, 3, ...] with a graph, what all losses look at.
        pixels: scalar, the weighted pixel loss.
        judges: scalar weighted loss of each judge by name.
        limit: largest ratio of a judge's gradient to that of the pixels.
        mask: [B, 1, ...] the region that is compared.

    Returns:
        Scalar in [0, 1] by name, without gradient.
    """
    allowed = limit * gradient_at(pixels, image, mask)
    tiny = torch.finfo(torch.float32).tiny
    return {
        name: (allowed / gradient_at(loss, image, mask).clamp_min(tiny)).clamp(max=1.0)
        for name, loss in judges.items()
    }


def scale_gradient(loss: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """The same value with ``factor`` times the gradient, so that logs stay comparable."""
    return factor * loss + (1.0 - factor) * loss.detach()

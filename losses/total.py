"""The weighted sum that is minimized, with every term kept for the log."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch

from videoretalking.core.errors import UserError


def weighted_sum(losses: Mapping[str, torch.Tensor], weights: Mapping[str, float]) -> torch.Tensor:
    """Sum of weight times loss (paper, equations 4, 9 and 14).

    Args:
        losses: scalar losses by name; a name without a weight is an error, a weight without a loss is a term
            that this step did not compute.
        weights: factors by name.

    Returns:
        Scalar, lower is better.

    Raises:
        ValueError: no loss at all, or one without a weight.
    """
    unknown = sorted(set(losses) - set(weights))
    if unknown or not losses:
        raise ValueError(f"losses {sorted(losses)} do not fit the weights {sorted(weights)}")
    return torch.stack([weights[name] * loss.float() for name, loss in losses.items()]).sum()


def require_finite(losses: Mapping[str, float], step: int, clips: Sequence[str]) -> None:
    """Stop before anything is kept of what a broken batch taught.

    Args:
        losses: scalars by name.
        step: number of the training step.
        clips: names of the batch's clips.

    Raises:
        UserError: a value is NaN or infinite; the message names term, step and clips.
    """
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        raise UserError(
            f"{', '.join(broken)} not finite at step {step}, nothing of it was saved; clips of the batch: "
            f"{', '.join(dict.fromkeys(clips))}; look at these clips, lower optimizer.lr or use float32"
        )

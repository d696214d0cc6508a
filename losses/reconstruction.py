"""Pixel-wise reconstruction (paper, equations 5 and 10)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def l1_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference in RGB.

    Args:
        output: [B, 3, ...] image or clip in [0, 1].
        target: the same shape.

    Returns:
        Scalar in [0, 1] for images in range; 0 for equal images, lower is better.
    """
    return F.l1_loss(output.float(), target.float())

"""Conversion of network images to 8 bits."""

from __future__ import annotations

import torch


def round_to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] float (any shape) -> uint8, clipped and rounded to the nearest level."""
    return (image.float().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)


def truncate_to_uint8(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] float -> uint8 as the published program does: clipped and truncated, half a level too dark."""
    return (image.float().clamp(0.0, 1.0) * 255.0).to(torch.uint8)

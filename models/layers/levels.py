"""Maps in 8-bit integers, as the convolutions of :mod:`models.int8` read them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from videoretalking.core.arrays import Floats32

_STEPS = 254.0  # one level less than there are, for the rounding of the zero point


class Levels(NamedTuple):
    """A map, rounded for the convolution that reads it: ``(numbers - zero) * scale`` over that one's factors.

    Attributes:
        numbers: [B, C, H, W] uint8, channels last.
        scale: of a step.
        zero: the level of 0.0.
    """

    numbers: torch.Tensor
    scale: float
    zero: int


class LevelReader:
    """A convolution to which its map may come as :class:`Levels`.

    Attributes:
        factors: [in] positive numbers that it wants its channels multiplied by.
    """

    factors: Floats32


def choose_levels(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point for numbers between ``low`` and ``high``.

    Raises:
        ValueError: one of them is not finite.
    """
    if not math.isfinite(high - low):
        raise ValueError("int8 convolution of a map that is not finite")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / _STEPS or 1.0
    return scale, round(-low / scale)

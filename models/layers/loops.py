"""Loops over the pixels of maps, compiled by Numba on their first use and kept in its cache.

What PyTorch does in several passes over memory these do in one. Maps come as they lie in memory, channels last.
Nothing is checked here: :mod:`models.layers.fused` calls them. Those that write a map also :func:`look` at it, as
long as it is near.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_BLOCK = 64  # pixels that are summed in float32 before they join a sum in float64


def _compiled(loop: _Loop) -> _Loop:
    try:
        return cast(_Loop, numba.njit(loop, nogil=True, error_model="numpy", cache=True))
    except RuntimeError:  # no folder can be written, so that each process compiles for itself
        return cast(_Loop, numba.njit(loop, nogil=True, error_model="numpy"))


@_compiled
def look(rows, low, high, odd):
    """Least and largest of each channel of [P, C], and in ``odd`` NaN where a number is not finite."""
    for pixel in range(rows.shape[0]):
        for channel in range(rows.shape[1]):
            value = rows[pixel, channel]
            low[channel] = value if value < low[channel] else low[channel]
            high[channel] = value if value > high[channel] else high[channel]
            odd[channel] += value - value


@_compiled
def to_levels(rows, factors, zero, levels):
    """``rows * factors + zero`` of [P, C] and [C], cut off to integers from 0 to 255."""
    least, most = np.float32(0.0), np.float32(255.0)
    for pixel in range(rows.shape[0]):
        for channel in range(rows.shape[1]):
            value = rows[pixel, channel] * factors[channel] + zero
            levels[pixel, channel] = np.uint8(np.int32(min(max(value, least), most)))


@_compiled
def sums(rows, pivots, total, squares):
    """Sums over P of [B, P, C] less ``pivots`` [B, C], and of their squares, added to [B, C] in float64."""
    channels = rows.shape[2]
    some = np.empty(channels, np.float32)
    some_squares = np.empty(channels, np.float32)
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], _BLOCK):
            some[:] = 0.0
            some_squares[:] = 0.0
            for pixel in range(start, min(start + _BLOCK, rows.shape[1])):
                for channel in range(channels):
                    value = rows[item, pixel, channel] - pivots[item, channel]
                    some[channel] += value
                    some_squares[channel] += value * value
            for channel in range(channels):
                total[item, channel] += some[channel]
                squares[item, channel] += some_squares[channel]


@_compiled
def scale_and_shift(rows, scale, shift, slope, out, low, high, odd):
    """``rows * scale + shift`` of [B, P, C] and [B, C]; what is negative of it times ``slope``."""
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], _BLOCK):
            source, target = rows[item, start : start + _BLOCK], out[item, start : start + _BLOCK]
            for pixel in range(source.shape[0]):
                for channel in range(source.shape[1]):
                    value = source[pixel, channel] * scale[item, channel] + shift[item, channel]
                    target[pixel, channel] = value if value > 0.0 else value * slope
            look(target, low, high, odd)


@_compiled
def scale_and_shift_in_place(rows, scale, shift, slope, low, high, odd):
    """The same; with ``rows`` as ``out`` the one above goes number by number, for fear of what overlaps."""
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], _BLOCK):
            block = rows[item, start : start + _BLOCK]
            for pixel in range(block.shape[0]):
                for channel in range(block.shape[1]):
                    value = block[pixel, channel] * scale[item, channel] + shift[item, channel]
                    block[pixel, channel] = value if value > 0.0 else value * slope
            look(block, low, high, odd)


@_compiled
def scale_and_shift_and_add(rows, scale, shift, slope, added, low, high, odd):
    """The same in place, and ``added`` [B, P, C] to it."""
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], _BLOCK):
            block, more = rows[item, start : start + _BLOCK], added[item, start : start + _BLOCK]
            for pixel in range(block.shape[0]):
                for channel in range(block.shape[1]):
                    value = block[pixel, channel] * scale[item, channel] + shift[item, channel]
                    value = value if value > 0.0 else value * slope
                    block[pixel, channel] = value + more[pixel, channel]
            look(block, low, high, odd)


@_compiled
def scale_and_shift_and_halve(rows, scale, shift, slope, out, first, last, low, high, odd):
    """The same of [B, 2H, 2W, C], and means of 2x2 pixels of it, [B, H, W, C], rows [first, last)."""
    quarter = np.float32(0.25)
    for item in range(rows.shape[0]):
        for row in range(first, last):
            for column in range(out.shape[2]):
                target = out[item, row, column]
                target[:] = 0.0
                for lower in range(2):
                    for right in range(2):
                        source = rows[item, 2 * row + lower, 2 * column + right]
                        for channel in range(target.shape[0]):
                            value = source[channel] * scale[item, channel] + shift[item, channel]
                            target[channel] += quarter * (value if value > 0.0 else value * slope)
            look(out[item, row], low, high, odd)


@_compiled
def add_to_pixels(rows, added, slope, low, high, odd):
    """To all channels of a pixel of [P, C] one of [P], in place; what is negative then times ``slope``."""
    for start in range(0, rows.shape[0], _BLOCK):
        block = rows[start : start + _BLOCK]
        for pixel in range(block.shape[0]):
            more = added[start + pixel]
            for channel in range(block.shape[1]):
                value = block[pixel, channel] + more
                block[pixel, channel] = value if value > 0.0 else value * slope
        look(block, low, high, odd)


@_compiled
def interleave(phases, shift, added, slope, out, first, last, low, high, odd):
    """[B, H + shift, W + shift, 4, C] to [B, H, 2, 2W, C], see :func:`doubling.interleave`; rows [first, last).

    ``added`` [B, H, 2, 2W] goes to all channels, and what is negative then is taken times ``slope``.
    """
    for item in range(out.shape[0]):
        for row in range(first, last):
            for lower in range(2):
                line = out[item, row, lower]
                for column in range(line.shape[0]):
                    more, right = added[item, row, lower, column], column % 2
                    source = phases[item, row + lower * shift, column // 2 + right * shift, 2 * lower + right]
                    for channel in range(line.shape[1]):
                        value = source[channel] + more
                        line[column, channel] = value if value > 0.0 else value * slope
                look(line, low, high, odd)

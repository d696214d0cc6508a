"""Loops over the pixels of maps, compiled by Numba on their first use and kept in its cache.

What PyTorch does in several passes over memory these do in one. Maps come as they lie in memory, channels last, and
in bfloat16 as the 16-bit integers that NumPy has for it, which :func:`widen` reads. Nothing is checked here:
:mod:`models.layers.fused` calls them. Those that write a map in float32 for the next convolution also :func:`look`
at it, as long as it is near.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.extending import overload

_Loop = TypeVar("_Loop", bound=Callable[..., Any])
_BLOCK = 64  # rows that are summed in float32 before they join a sum in float64
_NEAR = 16384  # numbers that are written before somebody looks at them: a part of a core's cache


def _compiled(loop: _Loop, fastmath: bool | set[str] = False) -> _Loop:
    try:
        return cast(_Loop, numba.njit(loop, nogil=True, error_model="numpy", fastmath=fastmath, cache=True))
    except RuntimeError:  # no folder can be written, so that each process compiles for itself
        return cast(_Loop, numba.njit(loop, nogil=True, error_model="numpy", fastmath=fastmath))


def _summing(loop: _Loop) -> _Loop:
    """Compiled so that a sum may be taken in any order, as several at once."""
    return _compiled(loop, {"reassoc"})


def widen(value):
    """A number of a map as float32."""
    raise NotImplementedError("for compiled loops only")


@overload(widen, inline="always")
def _widen(value):
    if value == numba.types.uint16:  # the upper half of a float32
        return lambda value: np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)
    return lambda value: value


@_compiled
def look(rows, low, high, odd):
    """Least and largest of each channel of [P, C], and in ``odd`` NaN where a number is not finite."""
    for pixel in range(rows.shape[0]):
        for channel in range(rows.shape[1]):
            value = widen(rows[pixel, channel])
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
                    value = widen(rows[item, pixel, channel]) - pivots[item, channel]
                    some[channel] += value
                    some_squares[channel] += value * value
            for channel in range(channels):
                total[item, channel] += some[channel]
                squares[item, channel] += some_squares[channel]


@_compiled
def sums_and_extremes(rows, pivots, total, squares, low, high):
    """:func:`sums`, and least and largest of each channel less the pivot, [B, C]."""
    channels = rows.shape[2]
    some = np.empty(channels, np.float32)
    some_squares = np.empty(channels, np.float32)
    for item in range(rows.shape[0]):
        least, most = low[item], high[item]
        for start in range(0, rows.shape[1], _BLOCK):
            some[:] = 0.0
            some_squares[:] = 0.0
            for pixel in range(start, min(start + _BLOCK, rows.shape[1])):
                for channel in range(channels):
                    value = widen(rows[item, pixel, channel]) - pivots[item, channel]
                    some[channel] += value
                    some_squares[channel] += value * value
                    least[channel] = value if value < least[channel] else least[channel]
                    most[channel] = value if value > most[channel] else most[channel]
            for channel in range(channels):
                total[item, channel] += some[channel]
                squares[item, channel] += some_squares[channel]


@_compiled
def scale_and_shift(rows, scale, shift, slope, out, low, high, odd):
    """``rows * scale + shift`` of [B, P, C] and [B, C]; what is negative of it times ``slope``."""
    many = max(_NEAR // rows.shape[2], 1)
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], many):
            source, target = rows[item, start : start + many], out[item, start : start + many]
            for pixel in range(source.shape[0]):
                for channel in range(source.shape[1]):
                    value = widen(source[pixel, channel]) * scale[item, channel] + shift[item, channel]
                    target[pixel, channel] = value if value > 0.0 else value * slope
            look(target, low, high, odd)


@_compiled
def scale_and_shift_to_levels(rows, scale, shift, slope, factors, zero, levels):
    """The same, and then :func:`to_levels`, of which nothing is looked at."""
    least, most = np.float32(0.0), np.float32(255.0)
    for item in range(rows.shape[0]):
        for pixel in range(rows.shape[1]):
            for channel in range(rows.shape[2]):
                value = widen(rows[item, pixel, channel]) * scale[item, channel] + shift[item, channel]
                value = (value if value > 0.0 else value * slope) * factors[channel] + zero
                levels[item, pixel, channel] = np.uint8(np.int32(min(max(value, least), most)))


@_compiled
def scale_and_shift_in_place(rows, scale, shift, slope, low, high, odd):
    """The same; with ``rows`` as ``out`` the one above goes number by number, for fear of what overlaps."""
    many = max(_NEAR // rows.shape[2], 1)
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], many):
            block = rows[item, start : start + many]
            for pixel in range(block.shape[0]):
                for channel in range(block.shape[1]):
                    value = block[pixel, channel] * scale[item, channel] + shift[item, channel]
                    block[pixel, channel] = value if value > 0.0 else value * slope
            look(block, low, high, odd)


@_compiled
def scale_and_shift_and_add_to(rows, scale, shift, slope, added, out, low, high, odd):
    """``out`` is :func:`scale_and_shift` of ``rows``, and ``added`` [B, P, C] to it."""
    many = max(_NEAR // rows.shape[2], 1)
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], many):
            source, target = rows[item, start : start + many], out[item, start : start + many]
            more = added[item, start : start + many]
            for pixel in range(source.shape[0]):
                for channel in range(source.shape[1]):
                    value = widen(source[pixel, channel]) * scale[item, channel] + shift[item, channel]
                    value = value if value > 0.0 else value * slope
                    target[pixel, channel] = value + more[pixel, channel]
            look(target, low, high, odd)


@_compiled
def scale_and_shift_and_add(rows, scale, shift, slope, added, low, high, odd):
    """The same in place, and ``added`` [B, P, C] to it."""
    many = max(_NEAR // rows.shape[2], 1)
    for item in range(rows.shape[0]):
        for start in range(0, rows.shape[1], many):
            block, more = rows[item, start : start + many], added[item, start : start + many]
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
                            value = widen(source[channel]) * scale[item, channel] + shift[item, channel]
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
def add_to_pixels_of(rows, added, slope, out, low, high, odd):
    """``out`` [P, C] is what :func:`add_to_pixels` makes of ``rows``."""
    for start in range(0, rows.shape[0], _BLOCK):
        source, target = rows[start : start + _BLOCK], out[start : start + _BLOCK]
        for pixel in range(source.shape[0]):
            more = added[start + pixel]
            for channel in range(source.shape[1]):
                value = widen(source[pixel, channel]) + more
                target[pixel, channel] = value if value > 0.0 else value * slope
        look(target, low, high, odd)


@_compiled
def add_to_pixels_to_levels(rows, added, slope, factors, zero, levels):
    """The same, and then :func:`to_levels`, of which nothing is looked at."""
    least, most = np.float32(0.0), np.float32(255.0)
    for pixel in range(rows.shape[0]):
        more = added[pixel]
        for channel in range(rows.shape[1]):
            value = widen(rows[pixel, channel]) + more
            value = (value if value > 0.0 else value * slope) * factors[channel] + zero
            levels[pixel, channel] = np.uint8(np.int32(min(max(value, least), most)))


@_summing
def add_to_pixels_and_project(rows, added, slope, kernel, out):
    """The same, and of each pixel then the sums over its channels, weighted by ``kernel`` [3, C], in [P, 3]."""
    for pixel in range(rows.shape[0]):
        more = added[pixel]
        red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for channel in range(rows.shape[1]):
            value = widen(rows[pixel, channel]) + more
            value = value if value > 0.0 else value * slope
            red += value * kernel[0, channel]
            green += value * kernel[1, channel]
            blue += value * kernel[2, channel]
        out[pixel, 0], out[pixel, 1], out[pixel, 2] = red, green, blue


@_compiled
def interleave(phases, shift, added, slope, out, first, last, low, high, odd):
    """[B, H + shift, W + shift, 4, C] to [B, H, 2, W, 2, C], see :func:`doubling.interleave`; rows [first, last).

    ``added`` [B, H, 2, W, 2] goes to all channels, and what is negative then is taken times ``slope``.
    """
    for item in range(out.shape[0]):
        for row in range(first, last):
            for column in range(
                out.shape[3]
            ):  # all four pixels at once, which lie in memory one after the other
                for lower in range(2):
                    for right in range(2):
                        more = added[item, row, lower, column, right]
                        source = phases[item, row + lower * shift, column + right * shift, 2 * lower + right]
                        target = out[item, row, lower, column, right]
                        for channel in range(target.shape[0]):
                            value = widen(source[channel]) + more
                            target[channel] = value if value > 0.0 else value * slope
            for lower in range(2):
                for right in range(2):
                    look(out[item, row, lower, :, right], low, high, odd)


@_compiled
def interleave_to_levels(phases, shift, added, slope, factors, zero, levels, first, last):
    """The same, and then :func:`to_levels`, of which nothing is looked at."""
    least, most = np.float32(0.0), np.float32(255.0)
    for item in range(levels.shape[0]):
        for row in range(first, last):
            for column in range(levels.shape[3]):
                for lower in range(2):
                    for right in range(2):
                        more = added[item, row, lower, column, right]
                        source = phases[item, row + lower * shift, column + right * shift, 2 * lower + right]
                        target = levels[item, row, lower, column, right]
                        for channel in range(target.shape[0]):
                            value = widen(source[channel]) + more
                            value = (value if value > 0.0 else value * slope) * factors[channel] + zero
                            target[channel] = np.uint8(np.int32(min(max(value, least), most)))


@_compiled
def interleave_as_they_are(phases, shift, out, first, last):
    """The same without a sum and an activation, of which nothing is looked at."""
    for item in range(out.shape[0]):
        for row in range(first, last):
            for column in range(out.shape[3]):
                for lower in range(2):
                    for right in range(2):
                        source = phases[item, row + lower * shift, column + right * shift, 2 * lower + right]
                        target = out[item, row, lower, column, right]
                        for channel in range(target.shape[0]):
                            target[channel] = source[channel]

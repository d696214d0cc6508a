"""What networks do between their convolutions on a CPU, in as few passes over memory as there can be.

A map of 64 channels at 256x256 is larger than a core's cache, so that a norm, an activation or a rounding costs
what reading and writing it costs. PyTorch takes several passes for each of them, the loops of
:mod:`models.layers.loops` one or two. They are for inference in float32 on channels-last maps; elsewhere, and where
Numba is not installed, callers have PyTorch's operators for the same.

Convolutions in reduced formats give their maps in bfloat16 where only one of these functions reads them. Those in
int8 get theirs as levels from functions whose result nobody else reads: half and a quarter of the traffic.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from types import ModuleType
from typing import Any, cast

import numpy as np
import torch

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.models.layers.levels import LevelReader, Levels, choose_levels

logger = logging.getLogger(__name__)

_WORTH_SHARING = 1 << 20  # numbers of a map
_WIDTH = 512  # numbers in a row up to which several pixels count as one: the ends of short rows cost too much
_MANY = 1 << 15  # numbers of a map, for fewer of which that is not worth the trouble


class _Last(threading.local):
    """What a thread saw of the map that it wrote last: the next to ask is the convolution that reads it."""

    maps: Callable[[], torch.Tensor | None] = staticmethod(lambda: None)
    seen: Floats32 | None = None


_last = _Last()


@cache
def loops() -> ModuleType | None:
    """The compiled loops; None without Numba."""
    try:
        from videoretalking.models.layers import loops as compiled
    except ImportError as error:
        logger.info("networks run without compiled loops on a CPU: %s", error)
        return None
    return compiled


def is_fit(maps: torch.Tensor, added: torch.Tensor | None = None, half: bool = False) -> bool:
    """Whether the functions below can have these maps.

    Args:
        maps: [B, C, H, W].
        added: another that is read with it.
        half: ``maps`` may be in bfloat16, for functions that say so.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    half = half and maps.dtype == torch.bfloat16 and reads_half()
    for one, dtype in ((maps, torch.bfloat16 if half else torch.float32), (added, torch.float32)):
        if one is None:
            continue
        if one.device.type != "cpu" or one.dtype != dtype or one.numel() == 0:
            return False
        if not one.is_contiguous(memory_format=torch.channels_last):
            return False
    return loops() is not None


def reads_half() -> bool:
    """Whether functions that say so could have maps in bfloat16 now, if these are channels last on a CPU."""
    elsewhere = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu")
    return not elsewhere and loops() is not None


def extremes(maps: torch.Tensor) -> tuple[Floats32, Floats32] | None:
    """Least and largest number of each channel.

    Args:
        maps: [B, C, H, W] that :func:`is_fit`, as everywhere below.

    Returns:
        [C] twice; None where a number is not finite.
    """
    seen = _last.seen if _last.maps() is maps else None
    if seen is None:
        seen = _look(_pixels(maps), maps.shape[1])
    if not np.isfinite(seen).all():
        return None
    return seen[0], seen[1]


def to_levels(maps: torch.Tensor, factors: Floats32) -> Levels:
    """Round a map.

    Args:
        maps: [B, C, H, W].
        factors: those of a :class:`levels.LevelReader`.

    Raises:
        ValueError: a number is not finite.
    """
    found = extremes(maps)
    rounding = _Rounding(factors, *(found or (np.inf, np.inf)))
    rows, (levels, target) = _wide(_pixels(maps)), rounding.target(maps.shape)
    out, (factors, zero) = _wide(target), rounding.terms
    factors = _repeated(factors, rows.shape[1] // len(factors))
    parts = _parts(len(rows), rows.size)
    _beside(_loops().to_levels, [(rows[part], factors, zero, out[part]) for part in parts])
    return levels


class _Rounding:
    """How numbers become levels.

    Args:
        factors: those of a :class:`levels.LevelReader`.
        low: least number of each channel, [C], before they are taken times these.
        high: largest.

    Raises:
        ValueError: one of them is not finite.
    """

    def __init__(self, factors: Floats32, low: Any, high: Any) -> None:
        self.scale, self.zero = choose_levels(float((low * factors).min()), float((high * factors).max()))
        # the conversion to integers cuts off
        self.terms = factors / np.float32(self.scale), np.float32(self.zero + 0.5)

    def target(self, shape: Sequence[int]) -> tuple[Levels, Any]:
        """Levels for a map [B, C, H, W], to be written, and where, [B, P, C]."""
        numbers = torch.empty(tuple(shape), dtype=torch.uint8, memory_format=torch.channels_last)
        return Levels(numbers, self.scale, self.zero), _pixels(numbers)


def norm(
    maps: torch.Tensor,
    scale: torch.Tensor,
    shift: torch.Tensor,
    eps: float,
    per_channel: bool,
    negative_slope: float = 1.0,
    inplace: bool = False,
    halve: bool = False,
    added: torch.Tensor | None = None,
    reader: object = None,
) -> torch.Tensor | Levels:
    """Layer or instance norm, scale and shift, leaky ReLU, and where wanted the mean of each 2x2 pixels, or a sum.

    Args:
        maps: [B, C, H, W]; it may be in bfloat16.
        scale: [1 or B, C].
        shift: [1 or B, C].
        eps: added to the variance.
        per_channel: each channel has its mean and variance (instance norm), not each sample (layer norm).
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.
        inplace: ``maps`` may be written to, which saves a fourth of the traffic.
        halve: take the means; H and W are even.
        added: [B, C, H, W] that is fit as well, added at the end; not together with ``halve``.
        reader: the only one to read the result; a :class:`levels.LevelReader` gets levels, with neither ``halve``
            nor ``added``.

    Returns:
        [B, C, H, W], channels last; with ``halve`` [B, C, H / 2, W / 2].

    Raises:
        ValueError: a number is not finite, of a map for a reader of levels.
    """
    assert not halve or added is None
    reader = reader if isinstance(reader, LevelReader) and not halve and added is None else None
    rows, channels = _widened(_pixels(maps)), maps.shape[1]
    inplace = inplace and maps.dtype == torch.float32
    mean, variance, ends = _moments(rows, channels, extremes_too=reader is not None)
    if not per_channel:
        middle = mean.mean(axis=1, keepdims=True)
        variance = (variance + np.square(mean - middle)).mean(axis=1, keepdims=True)
        mean = middle
    factor = _as_numpy(scale) / np.sqrt(variance + eps)
    offset = _as_numpy(shift) - mean * factor
    slope = np.float32(negative_slope)
    if halve:
        narrow = factor.astype(np.float32), offset.astype(np.float32)
        height, width = maps.shape[2] // 2, maps.shape[3] // 2
        halved = torch.empty(len(maps), height, width, channels)
        source = _channels_behind(maps)
        around = source, *narrow, slope, halved.numpy()
        stretches = [(*around, part.start, part.stop) for part in _parts(height, rows.size)]
        return _written(halved.permute(0, 3, 1, 2), _loops().scale_and_shift_and_halve, stretches, channels)
    together, parts = rows.shape[2] // channels, _parts(rows.shape[1], rows.size)
    terms = _repeated(factor, together), _repeated(offset, together), slope
    if reader is not None:
        rounding = _rounding_between(factor * ends + offset, negative_slope, reader)
        levels, target = rounding.target(maps.shape)
        factors, zero = rounding.terms
        target, rest = _widened(target), (*terms, _repeated(factors, together), zero)
        rounded = [(rows[:, part], *rest, target[:, part]) for part in parts]
        _beside(_loops().scale_and_shift_to_levels, rounded)
        return levels
    calls: list[tuple[Any, ...]] = [(rows[:, part], *terms) for part in parts]
    if added is not None:
        more = _widened(_pixels(added))
        calls = [(*call, more[:, part]) for call, part in zip(calls, parts, strict=True)]
    if inplace:
        loop = _loops().scale_and_shift_in_place if added is None else _loops().scale_and_shift_and_add
        return _written(maps, loop, calls, rows.shape[2])
    out = torch.empty_like(maps, dtype=torch.float32)
    target = _widened(_pixels(out))
    calls = [(*call, target[:, part]) for call, part in zip(calls, parts, strict=True)]
    loop = _loops().scale_and_shift if added is None else _loops().scale_and_shift_and_add_to
    return _written(out, loop, calls, rows.shape[2])


def activate(maps: torch.Tensor, negative_slope: float, added: torch.Tensor | None = None) -> torch.Tensor:
    """A leaky ReLU, and then a sum where there is one, in place.

    Args:
        maps: [B, C, H, W], changed.
        negative_slope: of the leaky ReLU.
        added: [B, C, H, W] that is fit as well.

    Returns:
        ``maps``.
    """
    rows = _widened(_pixels(maps))
    shape = len(rows), rows.shape[2]
    same = np.ones(shape, np.float32), np.zeros(shape, np.float32), np.float32(negative_slope)
    parts = _parts(rows.shape[1], rows.size)
    if added is None:
        few = [(rows[:, part], *same) for part in parts]
        return _written(maps, _loops().scale_and_shift_in_place, few, rows.shape[2])
    more = _widened(_pixels(added))
    calls = [(rows[:, part], *same, more[:, part]) for part in parts]
    return _written(maps, _loops().scale_and_shift_and_add, calls, rows.shape[2])


def add_to_pixels(
    maps: torch.Tensor, added: torch.Tensor, negative_slope: float, reader: object = None
) -> torch.Tensor | Levels:
    """``added`` to all channels and a leaky ReLU, in place where it can be.

    Args:
        maps: [B, C, H, W]; it may be in bfloat16. Changed if it is not.
        added: [1 or B, 1, H, W].
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.
        reader: the only one to read the result; a :class:`levels.LevelReader` gets levels.

    Returns:
        [B, C, H, W], channels last.

    Raises:
        ValueError: a number is not finite, of a map for a reader of levels.
    """
    rows = _rows(maps)
    more = _spread(added, len(maps), len(rows) // len(maps)).reshape(-1)
    slope, parts = np.float32(negative_slope), _parts(len(rows), rows.size)
    if isinstance(reader, LevelReader):
        rounding = _rounding_of_sum(_look(_pixels(maps), maps.shape[1]), added, negative_slope, reader)
        levels, _ = rounding.target(maps.shape)
        target, terms = _rows(levels.numbers), (slope, *rounding.terms)
        rounded = [(rows[part], more[part], *terms, target[part]) for part in parts]
        _beside(_loops().add_to_pixels_to_levels, rounded)
        return levels
    if maps.dtype == torch.float32:
        calls = [(rows[part], more[part], slope) for part in parts]
        return _written(maps, _loops().add_to_pixels, calls, maps.shape[1])
    out = torch.empty_like(maps, dtype=torch.float32)
    target = _rows(out)
    calls_to = [(rows[part], more[part], slope, target[part]) for part in parts]
    return _written(out, _loops().add_to_pixels_of, calls_to, maps.shape[1])


def add_to_pixels_and_project(
    maps: torch.Tensor, added: torch.Tensor, negative_slope: float, kernel: torch.Tensor
) -> torch.Tensor:
    """:func:`add_to_pixels` and then a 1x1 convolution to an image, which alone is written.

    Args:
        maps: [B, C, H, W]; it may be in bfloat16.
        added: [1 or B, 1, H, W].
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.
        kernel: [3, C].

    Returns:
        [B, 3, H, W], channels last.
    """
    rows = _rows(maps)
    more = _spread(added, len(maps), len(rows) // len(maps)).reshape(-1)
    image = torch.empty(len(maps), 3, *maps.shape[2:], memory_format=torch.channels_last)
    out, weights, slope = _rows(image), np.ascontiguousarray(_as_numpy(kernel)), np.float32(negative_slope)
    parts = _parts(len(rows), rows.size)
    calls = [(rows[part], more[part], slope, weights, out[part]) for part in parts]
    _beside(_loops().add_to_pixels_and_project, calls)
    return image


def interleave(
    phases: torch.Tensor,
    shift: int,
    added: torch.Tensor | None,
    negative_slope: float,
    reader: object = None,
    half: bool = False,
) -> torch.Tensor | Levels:
    """:func:`models.layers.doubling.interleave` and a leaky ReLU.

    Args:
        phases: [B, 4 * C, H + shift, W + shift]; they may be in bfloat16.
        shift: rows and columns that the lower and the right pixels lie further.
        added: [1 or B, 1, 2H, 2W]; None adds nothing.
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.
        reader: the only one to read the result; a :class:`levels.LevelReader` gets levels.
        half: leave phases in bfloat16 in it, if nothing is added and there is no activation.

    Returns:
        [B, C, 2H, 2W], channels last.

    Raises:
        ValueError: a number is not finite, of a map for a reader of levels.
    """
    batch, channels, height, width = phases.shape
    channels, height, width = channels // 4, height - shift, width - shift
    half = half and phases.dtype == torch.bfloat16 and added is None and negative_slope == 1.0
    if added is None:
        added = torch.zeros(1, 1, 2 * height, 2 * width)
    more = _spread(added, batch, 4 * height * width).reshape(batch, height, 2, width, 2)
    source = _channels_behind(phases)
    source = source.reshape(*source.shape[:3], 4, channels)
    slope, parts = np.float32(negative_slope), _parts(height, batch * 4 * height * width * channels)
    shape = (batch, channels, 2 * height, 2 * width)
    if isinstance(reader, LevelReader):
        # each of the four phases has all channels
        rounding = _rounding_of_sum(_look(_pixels(phases), channels), added, negative_slope, reader)
        levels, numbers = rounding.target(shape)
        target = numbers.reshape(batch, height, 2, width, 2, channels)
        around = source, shift, more, slope, *rounding.terms, target
        _beside(_loops().interleave_to_levels, [(*around, part.start, part.stop) for part in parts])
        return levels
    out = torch.empty(batch, height, 2, width, 2, channels, dtype=torch.bfloat16 if half else torch.float32)
    doubled = out.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    target = _as_numpy(out)
    if half:
        few = [(source, shift, target, part.start, part.stop) for part in parts]
        _beside(_loops().interleave_as_they_are, few)
        return doubled
    calls = [(source, shift, more, slope, target, part.start, part.stop) for part in parts]
    return _written(doubled, _loops().interleave, calls, channels)


def _rounding_of_sum(
    seen: Floats32, added: torch.Tensor, negative_slope: float, reader: LevelReader
) -> _Rounding:
    """Of a map in which this was seen, after a sum with ``added`` and a leaky ReLU: by bounds that it keeps to."""
    least, most = added.aminmax()
    ends = np.stack([seen[0] + float(least), seen[1] + float(most)]) + seen[2]
    return _rounding_between(ends, negative_slope, reader)


def _rounding_between(ends: Any, negative_slope: float, reader: LevelReader) -> _Rounding:
    """Of a map whose channels lie between these numbers, [..., C], before a leaky ReLU."""
    ends = np.where(ends > 0.0, ends, ends * negative_slope).reshape(-1, ends.shape[-1])
    return _Rounding(reader.factors, ends.min(axis=0), ends.max(axis=0))


def _moments(rows: Any, channels: int, extremes_too: bool) -> tuple[Floats64, Floats64, Any]:
    """[B, P, n * channels] -> mean and variance, [B, channels], and where wanted the extremes [2, B, channels]."""
    together = rows.shape[2] // channels
    pivots = rows[:, 0, :channels]  # near the mean, so that little is lost where the spread is small
    if rows.dtype != np.float32:
        pivots = (pivots.astype(np.uint32) << 16).view(np.float32)
    repeated = _repeated(pivots, together)
    parts = _parts(rows.shape[1], rows.size)
    shape = (len(parts), *repeated.shape)
    total, squares = np.zeros(shape), np.zeros(shape)
    calls: list[tuple[Any, ...]]
    calls = [(rows[:, part], repeated, total[k], squares[k]) for k, part in enumerate(parts)]
    low, high = np.full(shape, np.inf, np.float32), np.full(shape, -np.inf, np.float32)
    if extremes_too:
        calls = [(*call, low[k], high[k]) for k, call in enumerate(calls)]
    _beside(_loops().sums_and_extremes if extremes_too else _loops().sums, calls)
    count, apart = rows.shape[1] * together, (len(parts), len(rows), together, channels)
    mean = total.reshape(apart).sum(axis=(0, 2)) / count
    variance = squares.reshape(apart).sum(axis=(0, 2)) / count - np.square(mean)
    if not extremes_too:
        return pivots + mean, variance, None
    ends = low.reshape(apart).min(axis=(0, 2)), high.reshape(apart).max(axis=(0, 2))
    return pivots + mean, variance, pivots + np.stack(ends)


def _repeated(numbers: Any, times: int) -> Floats32:
    """[..., C] -> [..., times * C] in float32, for :func:`_widened` rows."""
    numbers = numbers.astype(np.float32)
    return numbers if times == 1 else np.concatenate([numbers] * times, axis=-1)


def _as_numpy(maps: torch.Tensor) -> Any:
    """The same memory; numbers in bfloat16 as 16-bit integers.

    All that follows is NumPy's: each of PyTorch's views lets go of Python's lock and waits for it.
    """
    if maps.requires_grad:
        maps = maps.detach()
    if maps.dtype != torch.bfloat16:
        return maps.numpy()
    return maps.view(torch.int16).numpy().view(np.uint16)


def _channels_behind(maps: torch.Tensor) -> Any:
    """[B, C, H, W] in channels last -> [B, H, W, C], the same memory."""
    return _as_numpy(maps).transpose(0, 2, 3, 1)


def _pixels(maps: torch.Tensor) -> Any:
    """[B, C, H, W] in channels last -> [B, H * W, C], the same memory."""
    array = _channels_behind(maps)
    return array.reshape(len(array), -1, array.shape[3])


def _rows(maps: torch.Tensor) -> Any:
    """[B, C, H, W] in channels last -> [B * H * W, C], the same memory."""
    array = _channels_behind(maps)
    return array.reshape(-1, array.shape[3])


def _spread(added: torch.Tensor, batch: int, pixels: int) -> Floats32:
    """[1 or B, 1, H, W] -> [B, H * W]."""
    maps: Floats32 = np.ascontiguousarray(_as_numpy(added)).reshape(len(added), -1)
    assert maps.shape[1] == pixels and len(maps) in (1, batch)
    return maps if len(maps) == batch else np.repeat(maps, batch, axis=0)


def _wide(pixels: Any) -> Any:
    """[B, P, C] -> [B * P / n, n * C], a view."""
    return _widened(pixels.reshape(1, -1, pixels.shape[2]))[0]


def _widened(pixels: Any) -> Any:
    """[B, P, C] -> [B, P / n, n * C], a view."""
    batch, count, channels = pixels.shape
    together = 1
    if count * channels < _MANY:
        return pixels
    while 2 * together * channels <= _WIDTH and count % (2 * together) == 0:
        together *= 2
    return pixels.reshape(batch, count // together, together * channels)


def _loops() -> ModuleType:
    found = loops()
    assert found is not None
    return found


def _parts(length: int, numbers: int) -> list[slice]:
    """Stretches of ``length`` for the threads that PyTorch would take for so many numbers."""
    count = min(torch.get_num_threads(), length) if numbers >= _WORTH_SHARING else 1
    if count == 1:
        return [slice(0, length)]
    edges = [length * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _written(
    maps: torch.Tensor, loop: Callable[..., None], calls: Sequence[tuple[Any, ...]], width: int
) -> torch.Tensor:
    """``maps``, which the calls write; what they see is kept for who reads it next, so it may not be changed.

    Args:
        maps: [B, C, H, W].
        loop: see :func:`_see`.
        calls: likewise.
        width: n * C.
    """
    _last.maps, _last.seen = weakref.ref(maps), _see(loop, calls, width, maps.shape[1])
    return maps


def _look(pixels: Any, channels: int) -> Floats32:
    """What :func:`_see` returns, of [B, P, n * channels]."""
    rows = _wide(pixels)
    calls = [(rows[part],) for part in _parts(len(rows), rows.size)]
    return _see(_loops().look, calls, rows.shape[1], channels)


def _see(loop: Callable[..., None], calls: Sequence[tuple[Any, ...]], width: int, channels: int) -> Floats32:
    """[3, channels]: least and largest number of each channel, and NaN where one is not finite.

    Args:
        loop: to be called, with arrays for what it sees as its last arguments.
        calls: its other arguments.
        width: of these arrays, n * channels.
        channels: what they are put together to.
    """
    seen = np.zeros((len(calls), 3, width), np.float32)
    seen[:, 0], seen[:, 1] = np.inf, -np.inf
    _beside(loop, [(*arguments, *one) for arguments, one in zip(calls, seen, strict=True)])
    if len(calls) == 1 and width == channels:
        return cast(Floats32, seen[0])
    seen = seen.transpose(1, 0, 2).reshape(3, -1, channels)
    return np.stack([seen[0].min(axis=0), seen[1].max(axis=0), seen[2].sum(axis=0)])


def _beside(loop: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call ``loop`` with each of the arguments at the same time."""
    if len(calls) == 1:
        loop(*calls[0])
        return
    waiting = [_crew().submit(loop, *arguments) for arguments in calls[1:]]
    loop(*calls[0])
    for future in waiting:
        future.result()


@cache
def _crew() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="loops")

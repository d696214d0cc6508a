"""What networks do between their convolutions on a CPU, in as few passes over memory as there can be.

A map of 64 channels at 256x256 is larger than a core's cache, so that a norm, an activation or a rounding costs
what reading and writing it costs. PyTorch takes several passes for each of them, the loops of
:mod:`models.layers.loops` one or two. They are for inference in float32 on channels-last maps; elsewhere, and where
Numba is not installed, callers have PyTorch's operators for the same.
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
from typing import Any

import numpy as np
import torch

from videoretalking.core.arrays import Floats32, Floats64

logger = logging.getLogger(__name__)

_WORTH_SHARING = 1 << 20  # numbers of a map
_WIDTH = 512  # numbers in a row up to which several pixels count as one: the ends of short rows cost too much


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


def is_fit(*maps: torch.Tensor | None) -> bool:
    """Whether the functions below can have these maps; None is none."""
    if torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    for one in maps:
        if one is None:
            continue
        if one.device.type != "cpu" or one.dtype != torch.float32 or one.numel() == 0:
            return False
        if not one.is_contiguous(memory_format=torch.channels_last):
            return False
    return loops() is not None


def extremes(maps: torch.Tensor) -> tuple[Floats32, Floats32] | None:
    """Least and largest number of each channel.

    Args:
        maps: [B, C, H, W] that :func:`is_fit`, as everywhere below.

    Returns:
        [C] twice; None where a number is not finite.
    """
    seen = _last.seen if _last.maps() is maps else None
    if seen is None:
        rows = _wide(_pixels(maps).numpy())
        seen = _see(_loops().look, [(rows[part],) for part in _parts(len(rows), rows.size)], rows.shape[1])
    if not np.isfinite(seen).all():
        return None
    low, high = (part.reshape(-1, maps.shape[1]) for part in seen[:2])
    return low.min(axis=0), high.max(axis=0)


def to_levels(maps: torch.Tensor, factors: Floats32, zero: float) -> torch.Tensor:
    """``maps * factors + zero``, cut off to integers from 0 to 255.

    Args:
        maps: [B, C, H, W].
        factors: [C].
        zero: added.

    Returns:
        [B, C, H, W] uint8, channels last.
    """
    levels = torch.empty_like(maps, dtype=torch.uint8)
    rows, out = _wide(_pixels(maps).numpy()), _wide(_pixels(levels).numpy())
    factors = np.tile(factors, rows.shape[1] // len(factors))
    parts = _parts(len(rows), rows.size)
    _beside(_loops().to_levels, [(rows[part], factors, np.float32(zero), out[part]) for part in parts])
    return levels


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
) -> torch.Tensor:
    """Layer or instance norm, scale and shift, leaky ReLU, and where wanted the mean of each 2x2 pixels, or a sum.

    Args:
        maps: [B, C, H, W].
        scale: [1 or B, C].
        shift: [1 or B, C].
        eps: added to the variance.
        per_channel: each channel has its mean and variance (instance norm), not each sample (layer norm).
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.
        inplace: ``maps`` may be written to, which saves a fourth of the traffic.
        halve: take the means; H and W are even.
        added: [B, C, H, W] that is fit as well, added at the end; not together with ``halve``.

    Returns:
        [B, C, H, W], channels last; with ``halve`` [B, C, H / 2, W / 2].
    """
    assert not halve or added is None
    if added is not None and not inplace:
        maps = maps.clone(memory_format=torch.preserve_format)
    rows = _pixels(maps).numpy()
    mean, variance = _moments(rows)
    if not per_channel:
        middle = mean.mean(axis=1, keepdims=True)
        variance = (variance + np.square(mean - middle)).mean(axis=1, keepdims=True)
        mean = middle
    factor = scale.detach().numpy() / np.sqrt(variance + eps)
    terms = factor.astype(np.float32), (shift.detach().numpy() - mean * factor).astype(np.float32)
    slope = np.float32(negative_slope)
    if halve:
        batch, channels, height, width = (*maps.shape[:2], maps.shape[2] // 2, maps.shape[3] // 2)
        halved = maps.new_empty(batch, height, width, channels)
        around = maps.detach().permute(0, 2, 3, 1).numpy(), *terms, slope, halved.numpy()
        stretches = [(*around, part.start, part.stop) for part in _parts(height, rows.size)]
        return _written(halved.permute(0, 3, 1, 2), _loops().scale_and_shift_and_halve, stretches)
    parts = _parts(rows.shape[1], rows.size)
    if added is not None:
        more = _pixels(added).numpy()
        sums = [(rows[:, part], *terms, slope, more[:, part]) for part in parts]
        return _written(maps, _loops().scale_and_shift_and_add, sums)
    if inplace:
        few = [(rows[:, part], *terms, slope) for part in parts]
        return _written(maps, _loops().scale_and_shift_in_place, few)
    out = torch.empty_like(maps)
    target = _pixels(out).numpy()
    return _written(
        out, _loops().scale_and_shift, [(rows[:, part], *terms, slope, target[:, part]) for part in parts]
    )


def add_to_pixels(maps: torch.Tensor, added: torch.Tensor, negative_slope: float) -> torch.Tensor:
    """``added`` to all channels and a leaky ReLU, in place.

    Args:
        maps: [B, C, H, W], changed.
        added: [1 or B, 1, H, W].
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.

    Returns:
        ``maps``.
    """
    rows = _pixels(maps).flatten(0, 1).numpy()
    more = added.expand(len(maps), -1, -1, -1).flatten().numpy()
    slope, parts = np.float32(negative_slope), _parts(len(rows), rows.size)
    return _written(maps, _loops().add_to_pixels, [(rows[part], more[part], slope) for part in parts])


def interleave(
    phases: torch.Tensor, shift: int, added: torch.Tensor | None, negative_slope: float
) -> torch.Tensor:
    """:func:`models.layers.doubling.interleave` and a leaky ReLU.

    Args:
        phases: [B, 4 * C, H + shift, W + shift].
        shift: rows and columns that the lower and the right pixels lie further.
        added: [1 or B, 1, 2H, 2W]; None adds nothing.
        negative_slope: of the leaky ReLU; 1 leaves the values as they are.

    Returns:
        [B, C, 2H, 2W], channels last.
    """
    batch, channels, height, width = phases.shape
    channels, height, width = channels // 4, height - shift, width - shift
    if added is None:
        added = phases.new_zeros(1, 1, 2 * height, 2 * width)
    more = added.expand(batch, -1, -1, -1).reshape(batch, height, 2, 2 * width).contiguous().numpy()
    out = phases.new_empty(batch, height, 2, 2 * width, channels)
    source = phases.permute(0, 2, 3, 1).unflatten(3, (4, channels)).numpy()
    rest = more, np.float32(negative_slope), out.numpy()
    calls = [(source, shift, *rest, part.start, part.stop) for part in _parts(height, out.numel())]
    doubled = out.view(batch, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)
    return _written(doubled, _loops().interleave, calls)


def _moments(rows: Floats32) -> tuple[Floats64, Floats64]:
    """[B, P, C] -> mean and variance [B, C]."""
    pivots = rows[:, 0].copy()  # near the mean, so that little is lost where the spread is small
    parts = _parts(rows.shape[1], rows.size)
    total = np.zeros((len(parts), *pivots.shape))
    squares = np.zeros_like(total)
    _beside(_loops().sums, [(rows[:, part], pivots, total[k], squares[k]) for k, part in enumerate(parts)])
    mean = total.sum(axis=0) / rows.shape[1]
    return pivots + mean, squares.sum(axis=0) / rows.shape[1] - np.square(mean)


def _pixels(maps: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] in channels last -> [B, H * W, C], a view."""
    return maps.detach().permute(0, 2, 3, 1).flatten(1, 2)


def _wide(pixels: Any) -> Any:
    """[B, P, C] -> [B * P / n, n * C], a view."""
    batch, count, channels = pixels.shape
    together = 1
    while 2 * together * channels <= _WIDTH and (batch * count) % (2 * together) == 0:
        together *= 2
    return pixels.reshape(batch * count // together, together * channels)


def _loops() -> ModuleType:
    found = loops()
    assert found is not None
    return found


def _parts(length: int, numbers: int) -> list[slice]:
    """Stretches of ``length`` for the threads that PyTorch would take for so many numbers."""
    count = min(torch.get_num_threads(), length) if numbers >= _WORTH_SHARING else 1
    edges = [length * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in itertools.pairwise(edges)]


def _written(maps: torch.Tensor, loop: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> torch.Tensor:
    """``maps``, which the calls write; what they see is kept for who reads it next, so it may not be changed."""
    _last.maps, _last.seen = weakref.ref(maps), _see(loop, calls, maps.shape[1])
    return maps


def _see(loop: Callable[..., None], calls: Sequence[tuple[Any, ...]], channels: int) -> Floats32:
    """[3, channels]: least and largest number of each channel, and NaN where one is not finite."""
    seen = np.zeros((len(calls), 3, channels), np.float32)
    seen[:, 0], seen[:, 1] = np.inf, -np.inf
    _beside(loop, [(*arguments, *one) for arguments, one in zip(calls, seen, strict=True)])
    return np.stack([seen[:, 0].min(axis=0), seen[:, 1].max(axis=0), seen[:, 2].sum(axis=0)])


def _beside(loop: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Call ``loop`` with each of the arguments at the same time."""
    waiting = [_crew().submit(loop, *arguments) for arguments in calls[1:]]
    loop(*calls[0])
    for future in waiting:
        future.result()


@cache
def _crew() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="loops")

"""The waves that make up the mark of the picture, drawn from the key.

The mark is one square tile, repeated over the frame. A tile of period P is a sum of waves with whole numbers of
cycles, so all its power lies on a grid of frequencies. Some waves (``sync``) have phases that the key alone fixes:
their places in the spectrum of a picture show how it was scaled, turned or mirrored since, their phases how it was
shifted. The others each carry one bit of the code: its sign is the wave's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import CODE_BITS

TILE = 140  # pixels of a tile in a picture of nominal size
NOMINAL_SIDE = 448  # pixels; tiles grow with pictures whose short side is longer
LOWEST, HIGHEST = 3.5, 16.5  # cycles a tile: periods of 40 down to 8.5 pixels, which codecs keep longest
SYNC_LOWEST, SYNC_HIGHEST = 4.5, 16.0
SYNC_WAVES = 48
SYNC_SHARE = 0.12  # of the power
TILT = 0.15  # amplitude falls with this power of the frequency: codecs keep the low ones longer
_OFF_AXIS = 2  # cycles; upright and level edges of pictures lie on the axes


@dataclass(frozen=True, eq=False)
class Carriers:
    """The waves of one key.

    Attributes:
        sync: [K, 2] cycles a tile, across and down.
        sync_phases: [K] radians.
        data: [N, 2] likewise.
        data_phases: [N].
        bits: [N] which code bit each wave carries.
    """

    sync: Ints64
    sync_phases: Floats64
    data: Ints64
    data_phases: Floats64
    bits: Ints64


@lru_cache(maxsize=8)
def carriers_of(key: Key) -> Carriers:
    """Draw the waves of a key."""
    across, down = np.meshgrid(
        np.arange(-int(HIGHEST), int(HIGHEST) + 1), np.arange(_OFF_AXIS, int(HIGHEST) + 1)
    )
    waves = np.stack([across.ravel(), down.ravel()], axis=1)
    radius = np.hypot(*waves.T)
    waves = waves[(radius >= LOWEST) & (radius <= HIGHEST) & (np.abs(waves[:, 0]) >= _OFF_AXIS)]
    radius = np.hypot(*waves.T)
    is_sync = np.zeros(len(waves), dtype=bool)
    is_sync[_draw_sync(key, waves, radius)] = True
    sync, data = waves[is_sync], waves[~is_sync]
    data = data[np.argsort(np.hypot(*data.T), kind="stable")]
    # each run of neighbors in frequency serves every bit once, so that a band that is lost costs all bits alike
    runs = -(-len(data) // CODE_BITS)
    bits = np.concatenate([key.order(f"video bits {run}", CODE_BITS) for run in range(runs)])[: len(data)]
    turn = 2 * np.pi
    return Carriers(
        sync, turn * key.uniform("video sync phases", len(sync)),
        data, turn * key.uniform("video data phases", len(data)), bits,
    )  # fmt: skip


def _draw_sync(key: Key, waves: Ints64, radius: Floats64) -> Ints64:
    """Numbers of the waves that serve to find the place, spread over the band."""
    fit = np.flatnonzero((radius >= SYNC_LOWEST) & (radius <= SYNC_HIGHEST))
    chosen: list[int] = []
    for number in fit[key.order("video sync waves", len(fit))].tolist():
        # no two side by side: they would be one peak in the spectrum of a small piece
        if all(np.abs(waves[number] - waves[other]).max() > 1 for other in chosen):
            chosen.append(number)
        if len(chosen) == SYNC_WAVES:
            break
    return np.array(chosen)


def period_for(height: int, width: int) -> int:
    """Pixels of a tile in a frame of this size."""
    return round(TILE * max(1.0, min(height, width) / NOMINAL_SIDE))


def draw_tile(carriers: Carriers, code: npt.NDArray[np.float64], period: int) -> Floats32:
    """The tile that carries a code word.

    Args:
        carriers: of the key.
        code: [264] -1 or 1.
        period: pixels, at least 2 HIGHEST + 1.

    Returns:
        [period, period] with mean 0 and mean square 1.
    """
    spectrum = np.zeros((period, period), dtype=np.complex128)
    for waves, values, share in (
        (carriers.sync, np.exp(1j * carriers.sync_phases), SYNC_SHARE),
        (carriers.data, code[carriers.bits] * np.exp(1j * carriers.data_phases), 1 - SYNC_SHARE),
    ):
        amplitude = np.hypot(*waves.T) ** -TILT
        amplitude *= np.sqrt(2 * share / np.square(amplitude).sum())
        spectrum[waves[:, 1], waves[:, 0]] = amplitude * values
    return np.fft.ifft2(spectrum * period**2).real.astype(np.float32)

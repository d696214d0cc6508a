"""What the mark of the sound is written in: pairs of neighboring cells of a spectrogram.

The sound is looked at with 16,000 samples a second through windows of 16 ms, 8 ms apart. Two windows in a row and a
band of 125 Hz are one cell; the mark makes the first half of a cell louder and the second softer, or the other way
round, and what was written is read from the share ``(P1 - P2) / (P1 + P2)`` of their powers. Nothing of it depends
on the loudness, on the phase, or on a filter that does not change within 16 ms. 64 cells in a row times 48 bands
hold the whole message and repeat every 1.024 s.

The key chooses which cells carry which bit of the code and with which sign. A quarter of them carries no message:
these are found before the message is known and say where a period begins and how fast the sound is played.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter1d

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import CODE_BITS

RATE = 16_000  # samples a second of the sound that is looked at
HOP = 128  # samples between windows
WINDOW = 2 * HOP
CELL = 2 * HOP  # samples from one cell to the next
LOWEST_BIN = 8  # of a bin's 62.5 Hz: 500 Hz, above most fundamentals, whose power lies in few bins
BINS = 2  # of the spectrum in a band
BANDS = 48  # up to 6500 Hz, below what Opus and telephones in wide band cut off
PERIOD = 64  # cells after which the pattern repeats
SYNC_CELLS = PERIOD * BANDS // 4
SYNC_GROUPS = 88  # they are kept in balance in groups as large as those of a code bit
GROUPS = CODE_BITS + SYNC_GROUPS
NEIGHBORS = 15  # bands whose mean is taken from each
TINY = 1e-10  # power of a band that counts as silence

TAPER: Floats32 = np.sin(np.pi * np.arange(WINDOW) / WINDOW).astype(np.float32)  # squared, it sums to 1


@dataclass(frozen=True)
class Pattern:
    """Which cell carries what.

    Attributes:
        signs: [64, 48] -1 or 1.
        groups: [64, 48] below 264: the code bit that a cell carries; above: a group of cells without message.
    """

    signs: Floats64
    groups: Ints64

    @property
    def sync(self) -> Floats64:
        """[64, 48] the signs of cells without message, 0 elsewhere."""
        return np.where(self.groups >= CODE_BITS, self.signs, 0.0)


def make_pattern(key: Key) -> Pattern:
    """The pattern of a key."""
    order = key.order("audio cells", PERIOD * BANDS)
    groups = np.empty(PERIOD * BANDS, dtype=np.int64)
    groups[order[:SYNC_CELLS]] = CODE_BITS + np.arange(SYNC_CELLS) % SYNC_GROUPS
    groups[order[SYNC_CELLS:]] = np.arange(PERIOD * BANDS - SYNC_CELLS) % CODE_BITS
    signs = key.signs("audio signs", PERIOD * BANDS)
    return Pattern(signs.reshape(PERIOD, BANDS), groups.reshape(PERIOD, BANDS))


def group_signs(code: Floats64) -> Floats64:
    """[352] what each group of cells is multiplied by: its code bit, or 1 where there is no message."""
    return np.concatenate([code, np.ones(SYNC_GROUPS)])


def spectra(wave: Floats32, step: int = HOP) -> np.ndarray:
    """Tapered spectra of windows that lie whole within the sound.

    Args:
        wave: [n] with n >= 256.
        step: samples between windows.

    Returns:
        [windows, 129] complex.
    """
    windows = np.lib.stride_tricks.sliding_window_view(wave, WINDOW)[::step]
    return np.fft.rfft(windows * TAPER, axis=1)


def band_powers(spectrum: np.ndarray) -> Floats64:
    """[windows, 129] complex -> [windows, 48] power of each band, at least :data:`TINY`."""
    used = spectrum[:, LOWEST_BIN : LOWEST_BIN + BINS * BANDS]
    powers = np.square(used.real) + np.square(used.imag)
    return np.asarray(powers.reshape(len(powers), BANDS, BINS).sum(axis=2, dtype=np.float64) + TINY)


def without_common(shares: Floats64, weights: Floats64) -> Floats64:
    """Take from each band the weighted mean of the bands around it: an onset moves them all, the mark does not.

    Args:
        shares: [cells, 48].
        weights: [cells, 48] above 0.

    Returns:
        [cells, 48] weighted differences.
    """
    weighted = shares * weights
    common = uniform_filter1d(weighted, NEIGHBORS, axis=1) / uniform_filter1d(weights, NEIGHBORS, axis=1)
    return np.asarray(weighted - common * weights)


def mix_down(wave: Floats32) -> Floats32:
    """[channels, n] -> [n], the mean, or the loudest channel where the channels cancel each other."""
    mixed = wave.mean(axis=0, dtype=np.float32)
    levels = np.square(wave).mean(axis=1, dtype=np.float64)
    if np.square(mixed).mean(dtype=np.float64) < 0.01 * levels.max(initial=0.0):
        return wave[int(levels.argmax())]
    return np.asarray(mixed)

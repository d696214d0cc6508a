"""The mark of the sound: blind, keyed, below what the ear masks, and there in any two seconds of speech.

The pattern of :mod:`~videoretalking.provenance.audio_cells` is written by factors on the sound's own spectrum, so
that it lies where the sound lies and silence stays silent. How far a cell may be changed follows from the masking
threshold of its critical band (Johnston 1988: spreading over bands of one Bark, less below tones than below noise).
Within that, the writer listens to what the reader will hear: speech itself agrees or disagrees with the pattern, so
that a bit which the sound happens to carry already is written softly, and one that it contradicts firmly ("informed
embedding"). A running sum for each bit decides, hence any stretch of a second is in balance, wherever it is cut.

Only a difference is made at 16 kHz; it is added to the sound at its own rate, whose other content stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import gcd

import numpy as np
import numpy.typing as npt
from scipy.signal import resample_poly

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.core.errors import UserError
from videoretalking.provenance.audio_cells import (
    BANDS,
    BINS,
    CELL,
    GROUPS,
    HOP,
    LOWEST_BIN,
    PERIOD,
    RATE,
    TAPER,
    TINY,
    WINDOW,
    band_powers,
    group_signs,
    make_pattern,
    mix_down,
    spectra,
    without_common,
)
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import Payload, encode

MIN_RATE, MAX_RATE = 4_000, 384_000  # samples a second
CORE, MARGIN = 16, 2  # seconds that are marked at once, and those around them that are only listened to
_CELLS_PER_SECOND = RATE / CELL  # 62.5; CORE and MARGIN are even, so that they hold a whole number

_STRENGTH = 0.8  # share of the masking threshold that the mark's amplitude takes
_SOFTEST, _FIRMEST = 0.6, 3.0  # decibels: bounds of the depth that the threshold gives
_DEEPEST = 4.0  # decibels: bound of the depth after the balance of bits
_MEMORY = 0.985  # per cell: the balance forgets in about a second
_GAIN = 0.5  # of the balance's control loop
_TARGET = 0.4  # share (P1 - P2) / (P1 + P2) that each bit shall have on average
_MAX_FACTOR = 2.5  # of the depth
_NEPERS = np.log(10.0) / 10.0  # natural logarithm of a power ratio per decibel

_CRITICAL_BANDS = 22


class AudioMark:
    """Writes one payload into sound.

    Args:
        key: who may find the mark.
        payload: what it says.
    """

    def __init__(self, key: Key, payload: Payload) -> None:
        pattern = make_pattern(key)
        self._signs = pattern.signs * group_signs(encode(payload))[pattern.groups]
        self._groups = pattern.groups

    def apply(self, samples: Floats32, rate: int) -> Floats32:
        """Mark a whole sound.

        Args:
            samples: [channels, n] or [n] float32, nominally in [-1, 1]; all channels get the same factors.
            rate: samples a second.

        Returns:
            the same shape. Peaks may lie up to 4 dB higher than before; a writer of integers clips them.

        Raises:
            UserError: a rate outside 4 to 384 kHz.
        """
        blocks = list(self.stream([np.atleast_2d(samples)], rate))
        return np.concatenate(blocks, axis=1).reshape(samples.shape) if blocks else samples.copy()

    def stream(self, blocks: Iterable[Floats32], rate: int) -> Iterator[Floats32]:
        """Mark a sound of any length in flat memory; how it is cut into blocks does not change the result.

        Args:
            blocks: [channels, n] float32 each, as from ``media.audio.read_audio``.
            rate: samples a second.

        Yields:
            [channels, m] float32, about 16 seconds late; together as many samples as came in.

        Raises:
            UserError: a rate outside 4 to 384 kHz.
        """
        if not MIN_RATE <= rate <= MAX_RATE:
            raise UserError(f"sound with {rate} samples a second cannot be marked: give 4000 to 384000")
        core, margin = CORE * rate, MARGIN * rate
        balance = _Balance()
        for before, wave, last in _chunks(blocks, core, margin):
            marked = self._mark(wave, rate, balance, before)
            yield marked[:, before:] if last else marked[:, before : before + core]

    def _mark(self, wave: Floats32, rate: int, balance: _Balance, before: int) -> Floats32:
        """[channels, n] with ``before`` samples of context -> the same, marked where it is long enough."""
        common = gcd(rate, RATE)
        up, down = RATE // common, rate // common
        if wave.shape[1] * up < 2 * WINDOW * down:
            return wave
        low = resample_poly(wave, up, down, axis=1).astype(np.float32)
        first = round(before / rate * _CELLS_PER_SECOND)  # cells of context
        depths = self._depths(mix_down(low), balance, first)
        factors = np.power(10.0, depths / 20.0) - 1.0
        change = np.stack([_modulate(channel, factors) for channel in low])
        change = resample_poly(change, down, up, axis=1)[:, : wave.shape[1]]
        return np.asarray(wave + change, dtype=np.float32)

    def _depths(self, wave: Floats32, balance: _Balance, first: int) -> Floats64:
        """[2 cells, 48] decibels by which each window's bands grow."""
        count = len(wave) // CELL
        spectrum = spectra(np.pad(wave[: count * CELL], (0, WINDOW)))[: 2 * count]
        powers = band_powers(spectrum).reshape(count, 2, BANDS)
        allowed = _allowed_depths(spectrum)
        own = np.log(powers[:, 0] / powers[:, 1])
        position = (balance.cell + np.arange(count)) % PERIOD
        signs = self._signs[position]
        shares = np.tanh(own / 2)
        common = shares - without_common(shares, np.ones_like(shares))
        depths = balance.run(allowed, own * signs, common * signs, self._groups[position], first) * signs
        return np.stack([depths, -depths], axis=1).reshape(2 * count, BANDS)


class _Balance:
    """How well each bit is written so far, and from that how firmly the next cell is.

    Attributes:
        cell: number of the cell, counted from the start of the sound, at which the next chunk begins.
    """

    def __init__(self) -> None:
        self.cell = 0
        self._read = np.zeros(GROUPS)  # sum of what the reader sees, with the pattern's sign
        self._count = np.zeros(GROUPS)

    def run(
        self, allowed: Floats64, agreement: Floats64, common: Floats64, groups: Ints64, first: int
    ) -> Floats64:
        """Walk through a chunk, and keep the state of the cell where the next chunk starts.

        Args:
            allowed: [cells, 48] decibels.
            agreement: [cells, 48] logarithm of the ratio of the halves' powers, with the pattern's sign.
            common: [cells, 48] what the reader takes from each cell's share, with the pattern's sign.
            groups: [cells, 48] group of each cell.
            first: cells of context before the chunk's own.

        Returns:
            [cells, 48] decibels, at least 0.
        """
        depths = np.empty_like(allowed)
        following = first + round((CORE - MARGIN) * _CELLS_PER_SECOND)
        read, count = self._read.copy(), self._count.copy()
        for index, group in enumerate(groups):
            if index == following:
                self._read, self._count = read.copy(), count.copy()
            read *= _MEMORY
            count *= _MEMORY
            expected = np.tanh(agreement[index] / 2 + _NEPERS * allowed[index]) - common[index]
            missing = _TARGET * (count[group] + 1) - read[group] - expected
            factor = np.clip(1 + _GAIN * missing, 0.0, _MAX_FACTOR)
            depths[index] = np.minimum(factor * allowed[index], _DEEPEST)
            written = np.tanh(agreement[index] / 2 + _NEPERS * depths[index]) - common[index]
            read += np.bincount(group, written, GROUPS)
            count += np.bincount(group, minlength=GROUPS)
        self.cell += following
        return depths


def _chunks(blocks: Iterable[Floats32], core: int, margin: int) -> Iterator[tuple[int, Floats32, bool]]:
    """Cut a stream into pieces of ``core`` samples with ``margin`` around them.

    Yields:
        samples of context before, [channels, n] with both contexts, whether it is the last.
    """
    held: list[Floats32] = []
    length = before = 0
    for block in blocks:
        held.append(block)
        length += block.shape[1]
        while length >= before + core + margin:
            wave = np.concatenate(held, axis=1)
            yield before, wave[:, : before + core + margin], False
            held = [wave[:, before + core - margin :]]
            length, before = held[0].shape[1], margin
    if length > before:
        yield before, np.concatenate(held, axis=1), True


def _modulate(wave: Floats32, factors: Floats64) -> Floats32:
    """[n] and [windows, 48] relative changes -> [n] what they add to the sound."""
    spectrum = spectra(np.pad(wave[: len(factors) * HOP], (0, WINDOW)))[: len(factors)]
    used = spectrum[:, LOWEST_BIN : LOWEST_BIN + BINS * BANDS] * np.repeat(factors, BINS, axis=1)
    changed = np.zeros_like(spectrum)
    changed[:, LOWEST_BIN : LOWEST_BIN + BINS * BANDS] = used
    windows = (np.fft.irfft(changed, axis=1) * TAPER).astype(np.float32).reshape(len(factors), 2, HOP)
    added = np.zeros(len(wave), dtype=np.float32)
    halves = np.zeros((len(factors) + 1, HOP), dtype=np.float32)
    halves[:-1] += windows[:, 0]
    halves[1:] += windows[:, 1]
    covered = min(len(wave), halves.size)
    added[:covered] = halves.ravel()[:covered]
    return added


def _bark(frequency: npt.NDArray[np.floating]) -> Floats64:
    """Hertz -> number of critical bands below (Zwicker)."""
    return np.asarray(13 * np.arctan(0.00076 * frequency) + 3.5 * np.arctan(np.square(frequency / 7500)))


def _band_of_bins(bins: int) -> Ints64:
    """[bins] the critical band of each bin of a spectrum from 0 Hz to 8 kHz."""
    return np.minimum(_bark(np.linspace(0, RATE / 2, bins)).astype(np.int64), _CRITICAL_BANDS - 1)


_CELL_BANDS = _band_of_bins(WINDOW // 2 + 1)[LOWEST_BIN : LOWEST_BIN + BINS * BANDS : BINS]


def _spreading() -> Floats64:
    """[22, 22] share of each critical band's power (columns) that excites the others (Schroeder's function)."""
    distance = np.arange(_CRITICAL_BANDS)[:, None] - np.arange(_CRITICAL_BANDS)[None, :] + 0.474
    level = 15.81 + 7.5 * distance - 17.5 * np.sqrt(1 + np.square(distance))
    power = np.power(10.0, level / 10)
    return np.asarray(power / power.sum(axis=1, keepdims=True))


_SPREADING = _spreading()


def masking_threshold(powers: Floats64) -> tuple[Floats64, Floats64]:
    """Masking threshold of spectra in critical bands (Johnston 1988).

    Args:
        powers: [spectra, bins] power, from 0 Hz to 8 kHz.

    Returns:
        [spectra, 22] threshold, and [spectra, 22] power of the bands, in one unit.
    """
    bins = powers.shape[1]
    member = (_band_of_bins(bins)[:, None] == np.arange(_CRITICAL_BANDS)).astype(np.float64)
    bands = powers @ member + TINY
    audible = powers[:, bins // 32 : bins - 1] + TINY
    flatness = 10 * (np.log10(audible).mean(axis=1) - np.log10(audible.mean(axis=1)))
    tonality = np.clip(flatness / -60, 0, 1)[:, None]
    center = np.arange(_CRITICAL_BANDS) + 0.5
    offset = tonality * (14.5 + center) + (1 - tonality) * 5.5  # decibels: below tones less is masked
    return (bands @ _SPREADING.T) * np.power(10.0, -offset / 10), bands


def _allowed_depths(spectrum: np.ndarray) -> Floats64:
    """[2 cells, 129] -> [cells, 48] decibels that the ear lets pass."""
    powers = np.square(np.abs(spectrum)).astype(np.float64)
    cells = powers.reshape(-1, 2, powers.shape[1]).sum(axis=1)
    padded = np.pad(cells, ((1, 1), (0, 0)), mode="edge")
    threshold, bands = masking_threshold((padded[:-2] + padded[1:-1] + padded[2:]) / 3)
    amplitude = np.sqrt(threshold / bands)[:, _CELL_BANDS]
    return np.clip(_STRENGTH * 20 * np.log10(1 + amplitude), _SOFTEST, _FIRMEST)

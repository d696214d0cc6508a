"""Finding the mark of the sound, without the original and wherever the sound was cut.

The sound is searched in pieces of four seconds. For each speed and each shift of an eighth of a cell, the cells are
folded onto one period of the pattern, and a correlation in a circle (by FFT) with the cells that carry no message
tells at which of the 64 places a period begins. A change of speed moves frequencies as well as times; a change of
tempo that keeps the pitch moves times alone: both are searched, to 5 % either way and at speeds that players offer.
Where a piece is found, its folded cells are added to those of the others, and the code is decoded from the sum; a
piece that is not sure of itself is read where the last sure one says. Most sounds are played as fast as they were
made: all pieces folded together at that speed are searched too, which finds what is too faint in each of them.

Two p-values are multiplied (and what that costs is counted). That of the places counts all places that were
searched. That of the message counts all messages; it looks at the cells of the message alone, whose signs had no
part in the choice of the places and of the pieces' weights. See :mod:`~videoretalking.provenance.statistics`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.media.audio import read_resampled
from videoretalking.provenance.audio_cells import (
    BANDS,
    CELL,
    HOP,
    PERIOD,
    RATE,
    SYNC_CELLS,
    TINY,
    band_powers,
    group_signs,
    make_pattern,
    mix_down,
    spectra,
    without_common,
)
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import (
    CHECK_BITS,
    CODE_BITS,
    OUR_BITS,
    PAYLOAD_BITS,
    Decoded,
    Payload,
    decode,
)
from videoretalking.provenance.statistics import LOG_FOUND, after_search, either, log_p_signs, p_value

PIECE = (
    4.0  # seconds that are searched at once: long enough to be found, short enough for coarse steps of speed
)
SHORTEST = 0.5  # seconds; less is not searched
_STEP = 32  # samples between windows: a quarter of a hop
_PHASES = CELL // _STEP
_QUARTERS = HOP // _STEP
_PLAYED = (0.8, 0.9, 1.1, 1.25, 1.5)  # speeds that players offer
_SPEEDS = np.array([*(np.round(np.arange(-5, 6) * 0.01, 4) + 1.0), *_PLAYED])  # of pitch and time together
_FINE = np.arange(-2, 3) * 0.002  # of time, around each of them
_TEMPOS = np.array([*(np.round(np.arange(-25, 26) * 0.002, 4) + 1.0), *_PLAYED])  # of time alone
_HYPOTHESES = (len(_SPEEDS) * len(_FINE) + len(_TEMPOS)) * _PHASES * PERIOD
_STRAIGHT = _PHASES * PERIOD  # hypotheses for the whole sound at its own speed
_JOINED = math.log(1e-2)  # pieces whose beginning is this sure are added up
_LISTED = LOG_FOUND  # p-value of a message down to which it is looked for near the likeliest one
_FOLLOWED = 3  # pieces that are read where the last sure one says
_QUIET = 25.0  # percent of the time that is taken for background noise, band by band
_LEAST_WEIGHT = 0.2  # of cells that do not stand out of it


@dataclass(frozen=True)
class AudioDetection:
    """What was found in a sound.

    Attributes:
        found: whether the p-value is below one in a million.
        payload: what the mark says; None where nothing was found or the checksum does not fit.
        log_p: natural logarithm of the p-value: a bound of the chance that a key drawn at random would fit as well
            as this one, with everything that was searched counted.
        offset: seconds from the start of the surest piece's sound, or of the whole sound, to the first period that
            begins in it.
        speed: how many times faster than made the surest piece is played.
        pieces: [pieces, 3] start in seconds, duration in seconds and log_p of each piece that was searched.
    """

    found: bool
    payload: Payload | None
    log_p: float
    offset: float
    speed: float
    pieces: tuple[tuple[float, float, float], ...]

    @property
    def p_value(self) -> float:
        """0 where a float cannot hold it."""
        return p_value(self.log_p)


@dataclass(frozen=True)
class _Place:
    """One hypothesis for one piece.

    Attributes:
        log_p: before the search is counted.
        pitch: speed of what is heard.
        tempo: speed of time.
        offset: seconds from the piece's start to the first period.
        cells: [64, 48] folded cells, the pattern's first cell first.
        weight: of the cells among those of other pieces: the mark's mean over the rest's power.
    """

    log_p: float
    pitch: float
    tempo: float
    offset: float
    cells: Floats64
    weight: float

    @property
    def sure(self) -> bool:
        """Whether nothing needs to be tried any more."""
        return after_search(self.log_p, math.log(_HYPOTHESES)) < 2 * LOG_FOUND


def detect_audio(source: str | Path | Floats32, key: Key, rate: int = RATE) -> AudioDetection:
    """Look for the mark of a key.

    Args:
        source: any file with sound in it, read in flat memory; or [channels, n] or [n] samples.
        key: the mark's.
        rate: samples a second of an array; files know theirs.

    Raises:
        UserError: unreadable file or no audio stream.
    """
    search = AudioSearch(key)
    for wave in _resampled(source, rate) if isinstance(source, np.ndarray) else read_resampled(source, RATE):
        search.add(wave)
    return search.finish()


class AudioSearch:
    """The detector for sound that arrives bit by bit.

    Args:
        key: the mark's.
    """

    def __init__(self, key: Key) -> None:
        self._pattern = make_pattern(key)
        self._sync = np.conj(np.fft.rfft(self._pattern.sync, axis=0))
        self._members = np.conj(np.fft.rfft(np.abs(self._pattern.sync), axis=0))
        self._held: list[Floats32] = []
        self._length = 0
        self._start = 0.0
        self._pieces: list[tuple[float, float, float]] = []
        self._best: _Place | None = None  # of the surest piece
        self._track: tuple[float, _Place] | None = (
            None  # when the last piece that was found began, and its place
        )
        self._sum = np.zeros((PERIOD, BANDS))
        self._joined = 0
        self._straight = np.zeros((_PHASES, PERIOD, BANDS))  # the whole sound, folded at its own speed

    def add(self, wave: Floats32) -> None:
        """Take in [channels, n] samples at 16 kHz."""
        self._held.append(wave)
        self._length += wave.shape[1]
        size = round(PIECE * RATE)
        while self._length >= 2 * size:  # the rest is never shorter than a piece, unless the whole sound is
            held = np.concatenate(self._held, axis=1)
            self._search(held[:, :size])
            self._held, self._length = [held[:, size:]], self._length - size

    def finish(self) -> AudioDetection:
        """Search what is left, and decode."""
        if self._length >= SHORTEST * RATE:
            self._search(np.concatenate(self._held, axis=1))
        self._held, self._length = [], 0
        best, count = self._best, len(self._pieces)
        if best is None:
            return AudioDetection(False, None, 0.0, 0.0, 1.0, ())
        straight = self._best_shift(self._straight, 1.0, 1.0)
        candidates = [self._decode(best.cells), self._decode(straight.cells)]
        if self._joined:
            candidates.append(self._decode(self._sum))
        searched = (best.log_p + math.log(count * _HYPOTHESES), straight.log_p + math.log(_STRAIGHT))
        place = either(*(min(0.0, log_p) for log_p in searched))
        if searched[1] < searched[0]:
            best = straight
        log_p = _both(place, either(*(value for value, _ in candidates)))
        found = log_p < LOG_FOUND
        read = [payload for _, payload in sorted(candidates, key=lambda item: item[0]) if payload is not None]
        payload = read[0] if found and read else None
        return AudioDetection(found, payload, log_p, best.offset, best.tempo, tuple(self._pieces))

    def _decode(self, cells: Floats64) -> tuple[float, Payload | None]:
        """log_p of the most likely message, and that message if its checksum fits.

        All messages are counted: those whose checksum fits if it does, else all that the decoder chose from.
        """
        soft = self.soft_bits(cells)
        energy = float(np.square(cells[self._pattern.groups < CODE_BITS]).sum())
        least = math.sqrt(2 * energy * (OUR_BITS * math.log(2) - _LISTED))
        attempts = []
        for ours, bits in ((True, OUR_BITS), (False, PAYLOAD_BITS)):
            decoded = decode(soft, ours, least if ours else math.inf)
            attempts.append((self._log_p(cells, decoded, bits), decoded.payload))
        return min(attempts, key=lambda attempt: (attempt[1] is None, attempt[0]))

    def _log_p(self, cells: Floats64, decoded: Decoded, bits: int) -> float:
        """For a message out of 2^bits; where the checksum does not fit, any of its values would have done."""
        carriers = self._pattern.groups < CODE_BITS
        signs = self._pattern.signs * group_signs(decoded.code)[self._pattern.groups]
        score = float((cells * signs)[carriers].sum())
        counted = bits + (CHECK_BITS if decoded.payload is None else 0) + 1  # two ways to decode
        return after_search(log_p_signs(score, cells[carriers]), counted * math.log(2.0))

    def soft_bits(self, cells: Floats64) -> Floats64:
        """[64, 48] folded cells -> [264] votes for each bit of the code."""
        votes = np.bincount(self._pattern.groups.ravel(), (cells * self._pattern.signs).ravel())
        return np.asarray(votes[:CODE_BITS], dtype=np.float64)

    def _search(self, wave: Floats32) -> None:
        mixed, duration = mix_down(wave), wave.shape[1] / RATE
        cells = round(self._start * RATE) // CELL  # a piece is a whole number of cells
        self._straight += np.roll(_fold(_shares(mixed), 1.0), cells % PERIOD, axis=1)
        place = self._find(mixed)
        log_p = after_search(place.log_p, math.log(_HYPOTHESES))
        if self._best is None or place.log_p < self._best.log_p:
            self._best = place
        if log_p < _JOINED:
            self._track, self._unsure = (self._start, place), 0
        elif self._track is not None and self._unsure <= _FOLLOWED:
            place = self._follow(mixed, *self._track)
            self._unsure += 1
        if self._track is not None and self._unsure <= _FOLLOWED:
            self._sum += place.weight * place.cells
            self._joined += 1
        self._pieces.append((self._start, duration, log_p))
        self._start += duration

    def _find(self, wave: Floats32) -> _Place:
        """The best speed and shift for one piece, or the first that is sure."""
        places: list[_Place] = []
        for pitch in sorted(_SPEEDS.tolist(), key=lambda value: abs(value - 1.0)):
            shares = _shares(_stretch(wave, pitch))
            tempos = (_TEMPOS if pitch == 1.0 else pitch + _FINE).tolist()
            for tempo in sorted(tempos, key=lambda value: abs(value - pitch)):
                place = self._best_shift(_fold(shares, pitch / tempo), pitch, tempo)
                if place.sure:
                    return place
                places.append(place)
        return min(places, key=lambda place: place.log_p)

    def _best_shift(self, folded: Floats64, pitch: float, tempo: float) -> _Place:
        """The best shift of [8, 64, 48] folded cells."""
        spectrum, squares = np.fft.rfft(folded, axis=1), np.fft.rfft(np.square(folded), axis=1)
        scores = np.fft.irfft((spectrum * self._sync).sum(axis=2), PERIOD, axis=1)
        energies = np.fft.irfft((squares * self._members).sum(axis=2), PERIOD, axis=1)
        fit = np.where(scores > 0, np.square(scores) / np.maximum(energies, 1e-9), 0.0)
        phase, shift = np.unravel_index(int(fit.argmax()), fit.shape)
        return self._place(folded, int(phase), int(shift), pitch, tempo)

    def _follow(self, wave: Floats32, start: float, known: _Place) -> _Place:
        """The place of a piece that continues one whose place is known; the clocks may drift by half a hop."""
        period = PERIOD * CELL / RATE / known.tempo
        offset = (known.offset - (self._start - start)) % period
        shift, rest = divmod(offset * known.tempo * RATE, CELL)
        expected = round(rest / known.tempo * known.pitch / _STEP)
        folded = _fold(_shares(_stretch(wave, known.pitch)), known.pitch / known.tempo)
        places = []
        for phase in range(expected - 2, expected + 3):
            cells, inside = divmod(phase, _PHASES)
            at = int(shift + cells) % PERIOD
            places.append(self._place(folded, inside, at, known.pitch, known.tempo))
        return min(places, key=lambda place: place.log_p)

    def _place(self, folded: Floats64, phase: int, shift: int, pitch: float, tempo: float) -> _Place:
        cells = np.roll(folded[phase], -shift, axis=0)
        sync = self._pattern.sync
        score, carriers = float((cells * sync).sum()), cells[sync != 0]
        offset = (phase * _STEP / pitch + shift * CELL / tempo) / RATE
        rest = float(np.square(carriers).sum()) - score**2 / SYNC_CELLS
        weight = max(score, 0.0) / (rest + TINY)
        return _Place(log_p_signs(score, carriers), pitch, tempo, offset, cells, weight)


def _both(first: float, second: float) -> float:
    """log_p of two independent tests together: the chance that a product of uniform draws is as small as theirs."""
    product = first + second
    return min(0.0, product + math.log1p(-product))


def _resampled(samples: Floats32, rate: int) -> Iterator[Floats32]:
    common = math.gcd(rate, RATE)
    yield resample_poly(np.atleast_2d(samples), RATE // common, rate // common, axis=1).astype(np.float32)


def _stretch(wave: Floats32, speed: float) -> Floats32:
    """Play [n] samples ``speed`` times slower."""
    if speed == 1.0:
        return wave
    length = round(len(wave) * speed)
    spectrum = np.fft.rfft(wave)
    bins = length // 2 + 1
    fitted = np.pad(spectrum, (0, max(0, bins - len(spectrum))))[:bins]
    return np.asarray(np.fft.irfft(fitted, length) * speed, dtype=np.float32)


def _shares(wave: Floats32) -> Floats32:
    """[n] samples -> [positions, 48] what is read from the cell at each quarter of a hop.

    The share ``(P1 - P2) / (P1 + P2)`` less what its neighbors have in common, which is the content's and not the
    mark's; cells at the level of the background count less, since noise that was added later fills them.
    """
    powers = band_powers(spectra(wave, _STEP))
    first, second = powers[:-_QUARTERS], powers[_QUARTERS:]
    both = first + second
    noise = np.percentile(both, _QUIET, axis=0)
    weights = np.clip(1 - 2 * noise / both, _LEAST_WEIGHT, 1.0)
    return np.asarray(without_common((first - second) / both, weights), dtype=np.float32)


def _fold(shares: Floats32, stretch: float) -> Floats64:
    """Add up the cells that lie a whole number of periods apart.

    Args:
        shares: [positions, 48].
        stretch: how much longer than made the cells are.

    Returns:
        [8 phases, 64, 48].
    """
    count = int((len(shares) - _PHASES) / (_PHASES * stretch))
    places = np.arange(_PHASES)[:, None] + np.rint(np.arange(count) * _PHASES * stretch).astype(np.int64)
    taken = shares[places]
    missing = -count % PERIOD
    padded = np.pad(taken, ((0, 0), (0, missing), (0, 0)))
    return padded.reshape(_PHASES, -1, PERIOD, BANDS).sum(axis=1, dtype=np.float64)

"""Where the tile lies in a picture, and what it says.

The placements that the magnitudes propose (:mod:`~videoretalking.provenance.placements`) are undone, the picture is
folded into one tile, and one inverse transform tries all shifts. The phases decide: those of the sync waves, and
those of the data waves as far as their bits do not matter. At the best places the message is decoded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.provenance import statistics
from videoretalking.provenance.carriers import NOMINAL_SIDE, TILE, Carriers
from videoretalking.provenance.payload import (
    CHECK_BITS,
    CODE_BITS,
    OUR_BITS,
    PAYLOAD_BITS,
    Decoded,
    Payload,
    decode,
)
from videoretalking.provenance.placements import Placement, propose, usual_places

Spectrum = npt.NDArray[np.complex128]

SHIFTS = 3  # of each placement that are kept
TRIED, MAX_TRIED = 20, 28  # placements with shifts that are decoded; more where more are clearly right
TRIED_FOREIGN = 4  # of them for payloads of other projects and formats too
RETRIED, NEAR = 3, 40  # of those without a message, how many are decoded again, and how often with each trust
_JITTER = 0.6  # of the root mean square of the votes
_GRID = 192  # shifts tried across and down: three quarters of a pixel apart
_APART = 4  # steps of that grid: shifts that are kept are no neighbors
_EVIDENCE = 0.8  # natural logarithm of a likelihood ratio a unit of agreement, where a mark is weak
_DATA_SHARE = 0.2  # what the square of a data wave tells of the shift, against a sync wave
_BUSY = 4.0  # gray levels of detail at which an area counts half
_MAX_MAGNITUDE = 1.5
TILTS = (0.0, -1.0)  # how much less the high frequencies are trusted: a codec may have taken them


@dataclass(frozen=True)
class Finding:
    """The most credible placement and message.

    Attributes:
        placement: how the picture was changed.
        upside_down: whether the picture stands on its head.
        payload: None where no message is credible.
        corrected: code bits that the decoder turned round.
        log_p: natural logarithm of the p-value, everything that was searched included.
    """

    placement: Placement
    upside_down: bool
    payload: Payload | None
    corrected: int
    log_p: float


def flatten(picture: Floats32) -> Floats32:
    """Take the content away as far as it can be told from the mark: high-passed, evened out, faded at the rim.

    What is left of the content is as strong everywhere, then busy areas count less, where the mark drowns in it.

    Args:
        picture: [H, W] gray levels, the mean of some frames.
    """
    size = max(1.0, min(picture.shape) / NOMINAL_SIDE)  # large pictures have large tiles
    detail = picture - cv2.GaussianBlur(picture, (0, 0), 2.0 * size)
    window = round(4 * size) * 2 + 1
    power = cv2.blur(cv2.multiply(detail, detail), (window, window))
    spread = np.sqrt(np.maximum(power, 0.0))  # rounding makes plain areas a little negative
    even = np.clip(detail / (spread + 0.1), -2.5, 2.5) / (1 + spread / _BUSY)
    height, width = picture.shape
    even *= _fade(height)[:, None] * _fade(width)[None, :]
    return even.astype(np.float32)


def _fade(length: int) -> Floats32:
    margin = max(2, length // 64)
    return np.minimum(1.0, (0.5 + np.minimum(np.arange(length), np.arange(length)[::-1])) / margin).astype(
        np.float32
    )


def fold(even: Floats32, placement: Placement) -> Spectrum:
    """[128, 128] spectrum of the tile: the placement undone, all tiles laid on one another, evened out.

    Magnitudes are near 1, at most 1.5.
    """
    height, width = even.shape
    matrix = placement.matrix
    if placement.scale > 1.3:
        even = np.asarray(cv2.GaussianBlur(even, (0, 0), 0.35 * placement.scale), dtype=np.float32)
    corners = np.linalg.inv(matrix) @ np.array([[width, width, 0, 0], [0, height, height, 0]])
    size = np.ceil((corners.max(axis=1) - corners.min(axis=1)) / TILE).astype(int) * TILE
    offset = np.array([width - 1, height - 1]) / 2 - matrix @ ((size - 1) / 2)
    undone = cv2.warpAffine(
        even, np.column_stack([matrix, offset]), tuple(size.tolist()),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    tile = undone.reshape(size[1] // TILE, TILE, size[0] // TILE, TILE).sum(axis=(0, 2))
    spectrum = np.asarray(scipy.fft.fft2(tile), dtype=np.complex128)
    power = np.square(np.abs(spectrum)).astype(np.float32)
    around = cv2.blur(cv2.copyMakeBorder(power, 4, 4, 4, 4, cv2.BORDER_WRAP), (9, 9))[4:-4, 4:-4]
    around = np.maximum(around, 0.0)
    spectrum /= np.sqrt(around + 1e-9)
    magnitude = np.abs(spectrum)
    return spectrum * np.minimum(1.0, _MAX_MAGNITUDE / np.maximum(magnitude, 1e-9))


def best_shifts(spectrum: Spectrum, carriers: Carriers) -> list[tuple[float, float, tuple[float, float]]]:
    """The shifts at which the waves agree best: the sync waves, and the data waves whatever their bits say.

    A data wave's bit turns its phase by half a circle, so that its square knows the shift without the bit.

    Returns:
        for each of some shifts, the best first: how well all waves agree (by which placements can be compared), the
        logarithm of the p-value of the sync waves alone (not corrected for the search), and the shift (x, y) in
        nominal pixels.
    """
    # no wave runs straight across, so half of a spectrum, its axes exchanged, holds them all
    grid = np.zeros((2, _GRID, _GRID // 2 + 1), dtype=np.complex64)
    column, row = carriers.sync.T
    sync = spectrum[row, column] * np.exp(-1j * carriers.sync_phases)
    grid[0, column, row] = sync
    column, row = carriers.data.T
    squares = np.square(spectrum[row, column] * np.exp(-1j * carriers.data_phases))
    grid[1, 2 * column, 2 * row] = _DATA_SHARE * squares
    alone, doubled = scipy.fft.irfft2(grid, (_GRID, _GRID)) * np.float32(_GRID**2 / 2)
    scores = alone + doubled
    step = TILE / _GRID
    shifts = []
    for _ in range(SHIFTS):
        x, y = np.unravel_index(int(np.argmax(scores)), scores.shape)
        log_p = statistics.log_p_phases(float(alone[x, y]), np.abs(sync))
        shifts.append((float(scores[x, y]), log_p, (float(x * step), float(y * step))))
        near = np.arange(-_APART, _APART + 1)
        scores[np.ix_((x + near) % _GRID, (y + near) % _GRID)] = -np.inf
    return shifts


@dataclass(frozen=True)
class _Votes:
    """What the waves say of each code bit, under one trust in the frequencies.

    Attributes:
        soft: [264] sums of the data waves.
        sync: sum of the sync waves.
        weights: [334] magnitudes of all.
    """

    soft: Floats64
    sync: float
    weights: Floats64

    def log_p(self, decoded: Decoded, bits: int) -> float:
        """For a message out of 2^bits; where the checksum does not fit, any of its values would have done.

        May be above 0.
        """
        score = self.sync + float((self.soft * decoded.code).sum())
        counted = bits + (0 if decoded.payload is not None else CHECK_BITS)
        return statistics.log_p_phases(score, self.weights) + counted * math.log(2) + math.log(2 * len(TILTS))


def _votes(spectrum: Spectrum, carriers: Carriers, shift: tuple[float, float]) -> list[_Votes]:
    sync = _along(spectrum, carriers.sync, carriers.sync_phases, shift)
    data = _along(spectrum, carriers.data, carriers.data_phases, shift)
    votes = []
    for tilt in TILTS:
        data_weight, sync_weight = (np.hypot(*waves.T) ** tilt for waves in (carriers.data, carriers.sync))
        soft = np.bincount(carriers.bits, data_weight * data.real, CODE_BITS).astype(np.float64)
        weights = np.concatenate([sync_weight * np.abs(sync), data_weight * np.abs(data)])
        votes.append(_Votes(soft, float((sync_weight * sync.real).sum()), weights))
    return votes


def read_message(
    spectrum: Spectrum, carriers: Carriers, shift: tuple[float, float], foreign: bool = True
) -> tuple[Decoded, float]:
    """Decode the data waves.

    Args:
        spectrum: of the tile.
        carriers: of the key.
        shift: of the tile, in nominal pixels.
        foreign: whether the payload may be of another project or format.

    Returns:
        the message, and the logarithm of the p-value of all waves given it, corrected for all messages and ways of
        decoding, not for the search of the place; may be above 0.
    """
    attempts = []
    for votes in _votes(spectrum, carriers, shift):
        for ours, bits in ((True, OUR_BITS), (False, PAYLOAD_BITS))[: 1 + foreign]:
            decoded = decode(votes.soft, ours)
            attempts.append((votes.log_p(decoded, bits), decoded))
    log_p, decoded = min(attempts, key=lambda attempt: (attempt[1].payload is None, attempt[0]))
    return decoded, log_p


def read_near(
    spectrum: Spectrum, carriers: Carriers, shift: tuple[float, float]
) -> tuple[Decoded, float] | None:
    """Look for a message whose checksum fits near the most likely one, whose checksum does not.

    The decoder is asked again with some noise added. The p-value counts all messages whose checksum fits anyway.

    Returns:
        what :func:`read_message` does, or None.
    """
    rng = np.random.default_rng(0)
    attempts = []
    for votes in _votes(spectrum, carriers, shift):
        spread = _JITTER * float(np.sqrt(np.square(votes.soft).mean()))
        for _ in range(NEAR):
            decoded = decode(votes.soft + rng.normal(0, spread, CODE_BITS), ours=True)
            if decoded.payload is not None:
                attempts.append((votes.log_p(decoded, OUR_BITS), decoded))
    if not attempts:
        return None
    log_p, decoded = min(attempts, key=lambda attempt: attempt[0])
    return decoded, log_p


def _along(spectrum: Spectrum, waves: Ints64, phases: Floats64, shift: tuple[float, float]) -> Spectrum:
    column, row = waves.T
    turn = 2 * np.pi / TILE * (waves @ np.array(shift))
    values: Spectrum = spectrum[row, column] * np.exp(1j * (turn - phases))
    return values


@dataclass(frozen=True)
class _Trial:
    """A placement and a shift to decode.

    Attributes:
        score: how well all waves agree.
        log_p: of the sync waves, the search included.
        searched: logarithm of how many hypotheses the search counts for this one.
        placement: how the picture was changed.
        upside_down: whether it stands on its head.
        shift: nominal pixels.
        spectrum: of the tile.
    """

    score: float
    log_p: float
    searched: float
    placement: Placement
    upside_down: bool
    shift: tuple[float, float]
    spectrum: Spectrum


def _weighted(even: Floats32, carriers: Carriers) -> list[tuple[Placement, bool, float]]:
    """Placements, upright and upside down, each with its share of the chance of a false alarm.

    A quarter goes to the picture as it was, a quarter to the usual sizes, the other half to all other placements.
    """
    usual = {place: number for number, place in enumerate(usual_places(*even.shape)) if not place.mirrored}
    weighted: list[tuple[Placement, bool, float]] = []
    others: list[tuple[Placement, bool]] = []
    for place in propose(even, carriers):
        for upside_down in (False, True):
            number = usual.get(place)
            if number is None or upside_down:
                others.append((place, upside_down))
            else:
                weighted.append((place, upside_down, 0.25 if number == 0 else 0.25 / (len(usual) - 1)))
    return weighted + [(*other, 0.5 / len(others)) for other in others]


def find(even: Floats32, carriers: Carriers, places: Sequence[Placement] = ()) -> Finding:
    """The most credible placement and message.

    Args:
        even: [H, W] what :func:`flatten` gives.
        carriers: of the key.
        places: the only placements to try; without them, all that the magnitudes propose.
    """
    given = [(place, flag, 0.5 / len(places)) for place in places for flag in (False, True)]
    trials = []
    for place, upside_down, share in given or _weighted(even, carriers):
        spectrum = fold(even, place)
        seen = np.conj(spectrum) if upside_down else spectrum
        searched = math.log(_GRID**2 / share)
        for score, log_p, shift in best_shifts(seen, carriers):
            log_p = statistics.after_search(log_p, searched)
            trials.append(_Trial(score, log_p, searched, place, upside_down, shift, seen))
    trials.sort(key=lambda trial: trial.searched - _EVIDENCE * trial.score)
    clear = sum(trial.log_p < statistics.LOG_FOUND for trial in trials)  # neighbors of the right placement
    findings, unread = [], []
    for number, trial in enumerate(trials[: max(TRIED, min(clear, MAX_TRIED))]):
        decoded, log_p = read_message(trial.spectrum, carriers, trial.shift, number < TRIED_FOREIGN)
        findings.append(_judge(trial, decoded, log_p))
        # no message near this one is more credible than this one would be if its checksum fitted
        if (
            decoded.payload is None
            and log_p + trial.searched - CHECK_BITS * math.log(2) < statistics.LOG_FOUND
        ):
            unread.append((log_p + trial.searched, number))
    if all(finding.payload is None for finding in findings):
        for _, number in sorted(unread)[:RETRIED]:
            near = read_near(trials[number].spectrum, carriers, trials[number].shift)
            findings += [] if near is None else [_judge(trials[number], *near)]
    return min(findings, key=lambda finding: (finding.payload is None, finding.log_p))


def _judge(trial: _Trial, decoded: Decoded, log_p: float) -> Finding:
    log_p = statistics.after_search(log_p, trial.searched)
    credible = decoded.payload is not None and log_p < statistics.LOG_FOUND
    payload = decoded.payload if credible else None
    either = statistics.either(trial.log_p, log_p)
    return Finding(trial.placement, trial.upside_down, payload, decoded.corrected, either)

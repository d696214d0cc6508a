"""Where the tile lies in a picture, and what it says.

The placements that the magnitudes propose (:mod:`~videoretalking.provenance.placements`) are undone, the picture is
folded into one tile, and one inverse transform tries all shifts. The phases decide: those of the sync waves, and
those of the data waves as far as their bits do not matter. At the best places the message is decoded.

A hypothesis is a placement with a shift. What happens to most pictures has large shares of the chance of a false
alarm, fixed beforehand: only encoded anew, resized with nothing cut off, the same cut off from opposite sides. All
else divides the rest (:mod:`~videoretalking.provenance.statistics`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import scipy.fft

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.provenance import statistics
from videoretalking.provenance.carriers import TILE, Carriers
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
from videoretalking.provenance.whitening import level

Spectrum = npt.NDArray[np.complex128]

SHIFTS = 3  # of each placement that are kept
TRIED, MAX_TRIED = 20, 28  # placements with shifts that are decoded; more where more are clearly right
TRIED_FOREIGN = 4  # of them for payloads of other projects and formats too
RETRIED = 3  # of those without a message, how many are asked for the messages near the likeliest one
_GRID = 192  # shifts tried across and down: three quarters of a pixel apart
_APART = 4  # steps of that grid: shifts that are kept are no neighbors
_EVIDENCE = 0.8  # natural logarithm of a likelihood ratio a unit of agreement, where a mark is weak
_DATA_SHARE = 0.2  # what the square of a data wave tells of the shift, against a sync wave
_MAX_MAGNITUDE = 1.5

# Shares of the chance of a false alarm; the usual sizes are those of placements.USUAL, first the picture's own
_WHOLE = (0.25, 0.05, 0.03, 0.1, 0.02, 0.02, 0.02)  # of the usual sizes, nothing cut off
_MIDDLE = 0.1  # of the picture's own size, the same share cut off from opposite sides
_ANYWHERE = (0.1, 0.01, 0.01, 0.03, 0.01, 0.01, 0.01)  # of the usual sizes, cut anyhow
_OTHER = 0.22  # all other placements together
_GIVEN_WHOLE = 0.5  # of a placement that is given: the tile begins where it would
_CUT = 0.5  # of the picture that is left: the most that is cut off from each side of the middle
_SYNC = 0.05  # share of the sync waves alone; the message has the rest
_FOREIGN = 0.05  # share of payloads of other projects and formats
_WORTH = 10.0  # a sharper bound is taken where it may decide: it lies not so much lower
_GENEROUS = (
    0.8  # messages are listed down to this share of the evidence that they need, since the bound is sharper
)


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


def _nominal(height: int, width: int, placement: Placement) -> tuple[Ints64, Floats64]:
    """Width and height of the picture with its placement undone, whole tiles; and where their pixel (0, 0) lies."""
    matrix = placement.matrix
    corners = np.linalg.inv(matrix) @ np.array([[width, width, 0, 0], [0, height, height, 0]])
    size = np.ceil((corners.max(axis=1) - corners.min(axis=1)) / TILE).astype(np.int64) * TILE
    return size, np.array([width - 1, height - 1]) / 2 - matrix @ ((size - 1) / 2)


def fold(white: Floats32, placement: Placement) -> Spectrum:
    """[140, 140] spectrum of the tile: the placement undone, all tiles laid on one another, evened out.

    Magnitudes are near 1, at most 1.5.
    """
    matrix = placement.matrix
    if placement.scale > 1.3:
        white = np.asarray(cv2.GaussianBlur(white, (0, 0), 0.35 * placement.scale), dtype=np.float32)
    height, width = white.shape
    size, offset = _nominal(height, width, placement)
    undone = cv2.warpAffine(
        white, np.column_stack([matrix, offset]), tuple(size.tolist()),
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


def shift_of_cut(
    height: int, width: int, placement: Placement, cut: npt.ArrayLike, share: float = 1.0
) -> Floats64:
    """[..., 2] the shift of the tile in a picture that was neither stretched, turned nor mirrored.

    Args:
        height: pixels.
        width: pixels.
        placement: its scale.
        cut: [..., 2] pixels of this picture that were cut off at the left and above since it was marked.
        share: size of the picture against the one that was marked.
    """
    offset = _nominal(height, width, placement)[1]
    # resizing keeps the corner of the first pixel in place, not its middle
    return (0.5 * share - 0.5 - np.asarray(cut, dtype=np.float64) - offset) / placement.scale


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


def agreements(spectrum: Spectrum, carriers: Carriers, shifts: Floats64) -> tuple[Floats64, Floats64]:
    """How well the waves agree at [n, 2] shifts: [n] all waves as :func:`best_shifts` adds them, [n] sync waves."""
    turn = 2j * np.pi / TILE
    column, row = carriers.sync.T
    sync = spectrum[row, column] * np.exp(-1j * carriers.sync_phases)
    alone = (np.exp(turn * (shifts @ carriers.sync.T)) @ sync).real
    column, row = carriers.data.T
    squares = np.square(spectrum[row, column] * np.exp(-1j * carriers.data_phases))
    doubled = (np.exp(2 * turn * (shifts @ carriers.data.T)) @ squares).real
    return alone + _DATA_SHARE * doubled, alone


def read_message(
    spectrum: Spectrum,
    carriers: Carriers,
    shift: tuple[float, float],
    searched: float = 0.0,
    foreign: bool = True,
    near: bool = False,
) -> tuple[Decoded, float]:
    """Decode the data waves.

    Args:
        spectrum: of the tile.
        carriers: of the key.
        shift: of the tile, in nominal pixels.
        searched: logarithm of one over the share of the place.
        foreign: whether the payload may be of another project or format.
        near: read messages near the likeliest one too, as far as they can be credible.

    Returns:
        the message, and the logarithm of the p-value of all waves given it, corrected for all messages, not for the
        search of the place; may be above 0. Where no checksum fits, any of its values would have done.
    """
    sync = _along(spectrum, carriers.sync, carriers.sync_phases, shift)
    data = _along(spectrum, carriers.data, carriers.data_phases, shift)
    soft = np.bincount(carriers.bits, data.real, CODE_BITS).astype(np.float64)
    agreed, weights = float(sync.real.sum()), np.abs(np.concatenate([sync, data]))
    least = math.inf
    if near:
        needed = OUR_BITS * math.log(2) + searched - statistics.LOG_FOUND
        least = math.sqrt(_GENEROUS * needed * float(np.square(weights).sum())) - agreed
    attempts = []
    for ours, bits, share in ((True, OUR_BITS, 1 - _FOREIGN), (False, PAYLOAD_BITS, _FOREIGN))[: 1 + foreign]:
        decoded = decode(soft, ours, least)
        score = agreed + float((soft * decoded.code).sum())
        counted = (bits + (0 if decoded.payload is not None else CHECK_BITS)) * math.log(2) - math.log(share)
        log_p = statistics.log_p_phases(score, weights) + counted
        if log_p + searched < statistics.LOG_FOUND + _WORTH:
            log_p = statistics.log_p_phases(score, weights, sharp=True) + counted
        attempts.append((log_p, decoded))
    log_p, decoded = min(attempts, key=lambda attempt: (attempt[1].payload is None, attempt[0]))
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
        searched: logarithm of one over the share of this one.
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


@dataclass(frozen=True)
class _Prior:
    """A placement that is tried, with its shares of the chance of a false alarm.

    Attributes:
        placement: how the picture was changed.
        upside_down: whether it stands on its head.
        anywhere: share of all shifts together.
        likely: [n, 2] shifts that have a share of their own.
        each: share of each of them.
    """

    placement: Placement
    upside_down: bool
    anywhere: float
    likely: tuple[tuple[Floats64, float], ...] = ()


def _priors(white: Floats32, carriers: Carriers) -> list[_Prior]:
    """Everything that is worth a try where nothing is known; the shares are at most 1 together."""
    height, width = white.shape
    usual = usual_places(height, width)
    priors = []
    for number, (place, size) in enumerate(usual):
        likely = [(shift_of_cut(height, width, place, [(0.0, 0.0)], size), _WHOLE[number])]
        if number == 0:
            steps = np.arange(1, math.ceil(_CUT * max(height, width)) + 1) / max(height, width)
            cuts = steps[:, None] * np.array([width, height])
            likely.append((shift_of_cut(height, width, place, cuts), _MIDDLE / len(steps)))
        priors.append(_Prior(place, False, _ANYWHERE[number], tuple(likely)))
    proposed = propose(white, carriers)
    mirrored = [Placement(place.scale, mirrored=True) for place, _ in usual]
    others = [(place, False) for place in proposed + mirrored]
    others += [(place, True) for place in proposed + mirrored + [place for place, _ in usual]]
    return priors + [_Prior(place, flag, _OTHER / len(others)) for place, flag in others]


def _given(white: Floats32, places: Sequence[Placement], cut: tuple[float, float]) -> Iterator[_Prior]:
    """Placements that are known; the tile's beginning, too, in a picture that was neither stretched nor turned."""
    height, width = white.shape
    share = 1 / len(places)
    for place in places:
        whole = shift_of_cut(height, width, place, [cut])
        yield _Prior(place, False, share * (1 - _GIVEN_WHOLE) / 2, ((whole, share * _GIVEN_WHOLE),))
        yield _Prior(place, True, share * (1 - _GIVEN_WHOLE) / 2)


def _trials(white: Floats32, carriers: Carriers, priors: Sequence[_Prior]) -> list[_Trial]:
    """Placements with their best shifts, the most promising first."""
    trials = []
    spectra: dict[Placement, Spectrum] = {}
    for prior in priors:
        if prior.placement not in spectra:
            spectra[prior.placement] = fold(white, prior.placement)
        spectrum = spectra[prior.placement]
        seen = np.conj(spectrum) if prior.upside_down else spectrum
        searched = math.log(_GRID**2 / prior.anywhere)
        found = [(*shift, searched) for shift in best_shifts(seen, carriers)]
        for shifts, share in prior.likely:
            scores, alone = agreements(seen, carriers, shifts)
            best = int(np.argmax(scores))
            column, row = carriers.sync.T
            log_p = statistics.log_p_phases(float(alone[best]), np.abs(seen[row, column]))
            place = (float(shifts[best, 0]), float(shifts[best, 1]))
            found.append((float(scores[best]), log_p, place, -math.log(share)))
        for score, log_p, shift, searched in found:
            log_p = statistics.after_search(log_p, searched)
            trials.append(_Trial(score, log_p, searched, prior.placement, prior.upside_down, shift, seen))
    trials.sort(key=lambda trial: trial.searched - _EVIDENCE * trial.score)
    return trials


def find(
    white: Floats32,
    carriers: Carriers,
    places: Sequence[Placement] = (),
    cut: tuple[float, float] = (0.0, 0.0),
) -> Finding:
    """The most credible placement and message.

    Args:
        white: [H, W] what :func:`~videoretalking.provenance.whitening.whiten` gives.
        carriers: of the key.
        places: the only placements to try; without them, all that the magnitudes propose.
        cut: pixels from the left and upper rim of the marked picture to those of this part of it, where ``places``
            are given.
    """
    white = level(white)
    trials = _trials(
        white, carriers, list(_given(white, places, cut)) if places else _priors(white, carriers)
    )
    clear = sum(trial.log_p < statistics.LOG_FOUND for trial in trials)  # neighbors of the right placement
    findings, unread = [], []
    for number, trial in enumerate(trials[: max(TRIED, min(clear, MAX_TRIED))]):
        decoded, log_p = read_message(
            trial.spectrum, carriers, trial.shift, trial.searched, number < TRIED_FOREIGN
        )
        findings.append(_judge(trial, decoded, log_p))
        # no message near this one is more credible than this one would be if its checksum fitted
        if (
            decoded.payload is None
            and log_p + trial.searched - CHECK_BITS * math.log(2) < statistics.LOG_FOUND
        ):
            unread.append((log_p + trial.searched, number))
    if all(finding.payload is None for finding in findings):
        for _, number in sorted(unread)[:RETRIED]:
            trial = trials[number]
            near = read_message(trial.spectrum, carriers, trial.shift, trial.searched, False, near=True)
            findings.append(_judge(trial, *near))
    return min(findings, key=lambda finding: (finding.payload is None, finding.log_p))


def _judge(trial: _Trial, decoded: Decoded, log_p: float) -> Finding:
    log_p = statistics.after_search(log_p, trial.searched - math.log(1 - _SYNC))
    credible = decoded.payload is not None and log_p < statistics.LOG_FOUND
    payload = decoded.payload if credible else None
    alone = statistics.after_search(trial.log_p, -math.log(_SYNC))
    return Finding(trial.placement, trial.upside_down, payload, decoded.corrected, min(alone, log_p))

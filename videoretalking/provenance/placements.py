"""How a picture may have been scaled, stretched, turned or mirrored since it was marked: what is worth a try.

A picture that was changed has the waves of the mark at other places of its spectrum, and every placement that is
worth a try is asked how much power lies there. What magnitudes propose cannot raise the chance of a false alarm:
they do not depend on the phases, which decide (:mod:`~videoretalking.provenance.search`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.provenance.carriers import TILE, Carriers, period_for

Ints32 = npt.NDArray[np.int32]

MIN_SCALE, MAX_SCALE = 0.36, 3.0  # pixels a pixel of the nominal tile
MAX_ANGLE = 6.0  # degrees
MAX_ASPECT = 1.4
SHORTLIST = 10_000  # placements by the magnitude of the sync waves, of which all waves are asked then
PROPOSALS = 24  # placements by magnitude that are tried by phase
_BLOCK = 2048  # placements asked at once
_SCALE_STEP = 0.004
_ANGLE_STEP = 0.25
_EMPTY = 0.5963  # mean of ln(1 + x) for powers x of noise, which are exponentially distributed
USUAL = (1.0, 0.75, 2 / 3, 0.5, 4 / 3, 1.5, 2.0)  # sizes tried whatever the magnitudes say


@dataclass(frozen=True)
class Placement:
    """How a picture was changed since it was marked.

    Attributes:
        scale: pixels of the picture a pixel of the nominal tile.
        aspect: width over height by which it was stretched.
        angle: degrees, counterclockwise.
        mirrored: left for right.
    """

    scale: float
    aspect: float = 1.0
    angle: float = 0.0
    mirrored: bool = False

    @property
    def matrix(self) -> Floats64:
        """[2, 2] pixels of the nominal tile to pixels of the picture."""
        turn = math.radians(self.angle)
        rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
        stretch = np.array([self.scale * math.sqrt(self.aspect), self.scale / math.sqrt(self.aspect)])
        stretch[0] *= -1 if self.mirrored else 1
        return rotation @ np.diag(stretch)


@lru_cache(maxsize=1)
def _placements() -> Floats64:
    """[N, 4] scale, aspect, angle, mirrored: everything that is asked by magnitude."""
    scales = np.exp(np.arange(math.log(MIN_SCALE), math.log(MAX_SCALE), _SCALE_STEP))
    angles = np.arange(-MAX_ANGLE, MAX_ANGLE + 1e-9, _ANGLE_STEP)
    aspects = np.exp(np.arange(-math.log(MAX_ASPECT), math.log(MAX_ASPECT), 2 * _SCALE_STEP))
    flags = np.array([0.0, 1.0])
    turned = np.stack(np.meshgrid(scales, [1.0], angles, flags, indexing="ij"), axis=-1).reshape(-1, 4)
    squeezed = np.stack(np.meshgrid(scales, aspects, [0.0], flags, indexing="ij"), axis=-1).reshape(-1, 4)
    return np.concatenate([turned, squeezed])


def _inverse_matrices(rows: Floats64) -> Floats64:
    """[N, 2, 2] inverse transposed matrices of placements: nominal frequencies to the picture's."""
    scale, aspect, angle, mirrored = rows.T
    turn = np.radians(angle)
    across = np.where(mirrored > 0, -1.0, 1.0) / (scale * np.sqrt(aspect))
    down = np.sqrt(aspect) / scale
    cosine, sine = np.cos(turn), np.sin(turn)
    return np.stack([cosine * across, sine * down, -sine * across, cosine * down], axis=1).reshape(-1, 2, 2)


def relative_power(even: Floats32) -> Floats32:
    """[n, n] logarithm of one plus the power of each frequency against its neighborhood, 0 on average in noise."""
    size = 1 << math.ceil(math.log2(1.5 * max(even.shape)))
    power = np.square(np.abs(np.fft.fft2(even, (size, size)))).astype(np.float32)
    reach = size // 32 + 1 | 1
    wrapped = cv2.copyMakeBorder(power, reach, reach, reach, reach, cv2.BORDER_WRAP)
    around = cv2.blur(wrapped, (reach, reach))[reach:-reach, reach:-reach]
    return np.log1p(power / np.maximum(around, 1e-9)) - np.float32(_EMPTY)


def ask_magnitudes(power: Floats32, waves: Ints64, rows: Floats64) -> Floats64:
    """[N] mean of the relative power at some waves, for each placement."""
    return _ask(power, _places_of(len(power), waves, rows), len(waves))


def _ask(power: Floats32, places: Ints32, num_waves: int) -> Floats64:
    flat = np.append(power.ravel(), np.float32(0))
    scores = np.empty(len(places))
    for start in range(0, len(places), _BLOCK):
        scores[start : start + _BLOCK] = flat[places[start : start + _BLOCK]].sum(axis=1)
    return scores / math.sqrt(num_waves)


def _places_of(size: int, waves: Ints64, rows: Floats64) -> Ints32:
    """[N, K] where each wave lies in a spectrum of [size, size], laid in a row; size^2 where it lies outside."""
    indices = np.empty((len(rows), len(waves)), dtype=np.int32)
    for start in range(0, len(rows), _BLOCK):
        places = _inverse_matrices(rows[start : start + _BLOCK]) @ (waves.T / TILE)  # [n, 2, K]
        index = np.rint(places * size).astype(np.int32) % size
        outside = np.abs(places).max(axis=1) >= 0.48
        indices[start : start + _BLOCK] = np.where(outside, size**2, index[:, 1] * size + index[:, 0])
    return indices


@lru_cache(maxsize=1)  # the pieces of a video have one size
def _places_of_sync(size: int, carriers: Carriers) -> Ints32:
    return _places_of(size, carriers.sync, _placements())


def usual_places(height: int, width: int) -> list[tuple[Placement, float]]:
    """Placements that are tried whatever the magnitudes say, with their sizes against the picture that was marked.

    The first is the picture as it was, the others are resized as people do. Tiles grow with large pictures, so what
    was resized bears a tile of its former size.
    """
    periods = [period_for(round(height / size), round(width / size)) for size in USUAL]
    return [(Placement(size * period / TILE), size) for size, period in zip(USUAL, periods, strict=True)]


def propose(even: Floats32, carriers: Carriers) -> list[Placement]:
    """Placements worth a look at their phases."""
    places = []
    rows = _placements()
    power = relative_power(even)
    everything = np.concatenate([carriers.sync, carriers.data])
    first = _ask(power, _places_of_sync(len(power), carriers), len(carriers.sync))
    rows = rows[np.argpartition(-first, SHORTLIST)[:SHORTLIST]]
    scores = ask_magnitudes(power, everything, rows)
    for _ in range(PROPOSALS):
        best = int(np.argmax(scores))
        row = rows[best]
        near = (np.abs(np.log(rows[:, 0] / row[0])) < 0.012) & (np.abs(rows[:, 2] - row[2]) < 0.6)
        near &= (np.abs(np.log(rows[:, 1] / row[1])) < 0.02) & (rows[:, 3] == row[3])
        scores[near] = -np.inf
        fine = _around(row)
        row = fine[int(np.argmax(ask_magnitudes(power, everything, fine)))]
        places.append(Placement(float(row[0]), float(row[1]), float(row[2]), bool(row[3])))
    return places


def _around(row: Floats64) -> Floats64:
    """[N, 4] placements within a step of one."""
    steps = np.linspace(-1, 1, 5)
    scale, aspect, angle = np.meshgrid(steps, steps, steps, indexing="ij")
    fine = np.tile(row, (scale.size, 1))
    fine[:, 0] *= np.exp(scale.ravel() * _SCALE_STEP)
    fine[:, 1] *= np.exp(aspect.ravel() * _SCALE_STEP)
    fine[:, 2] += angle.ravel() * _ANGLE_STEP
    return fine

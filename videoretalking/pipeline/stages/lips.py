"""Colors of the lips (not in the paper): a person keeps the lips that the frames show.

L-Net paints the lips that it saw most often, more orange or paler than those at hand. How far the lips of a frame
stand out from the skin around them, in color and not in brightness, is measured in the frame and in the new face
alike, and the new lips are moved by the difference.

Differs from paper: there the colors of the networks stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from videoretalking.core.arrays import Floats64
from videoretalking.core.colors import BT601_LUMA
from videoretalking.core.landmarks import OUTER_LIPS
from videoretalking.faces.masks import MOUTH_SOFTNESS, eye_distance
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Box, Pixels, Raster, Size
from videoretalking.pipeline.stages.detail import REDUCTION

_SKIN = (0.2, 0.5)  # eye distances around the lips between which is skin
_AROUND = 0.12  # eye distances around the lips of the frame within which new lips may lie
# Shares of the brightness of the skin: lips lie between the inner two, an open mouth is darker, teeth are brighter.
_DARK, _BRIGHT = (0.3, 0.5), (1.1, 1.4)
# Shares of the redness of the lips from which on and up to which a pixel is one of them.
_RED = (0.4, 0.9)
_LEAST_RED = 1e-3  # of the full range: lips that stand out less are not told from skin
_SEEN = 4e-3  # mean redness over the outline of the lips below which lips count less, since none may be there
_MOST = 0.06  # of the full range; half of all lips are within 0.02, 99 of 100 within 0.05
_MOST_LIGHT = 1.25  # brighter parts of the lips are moved further than their mean, but not further than this
_STEADY = 5  # frames over which the shift is averaged: landmarks tremble, and lips must not flicker
_STEP = 8  # reduced pixels: windows are multiples, so that a moving head brings few sizes of them
_LEAST = 1e-6


@dataclass(frozen=True)
class _Look:
    """Colors of a reduced picture of mouths.

    Attributes:
        luma: [N, s, s].
        chroma: [N, s, s, 3], what is left of the pixels.
        skin: [N, 3] mean chroma around the lips.
        redness: [N, s, s] how much redder than the skin.
        lips: [N, s, s] weights of the lips: as red as lips, and neither as dark as a mouth nor as bright as teeth.
        lit: [N, s, s] the last two of these.
    """

    luma: Pixels
    chroma: Pixels
    skin: Pixels
    redness: Pixels
    lips: Pixels
    lit: Pixels

    @classmethod
    def of(cls, pixels: Pixels, skin: Pixels, lips: Pixels) -> _Look:
        """Measured on [N, s, s, 3] with [N, s, s] weights of the skin and of the outline of the lips."""
        red, green, blue = BT601_LUMA
        luma = red * pixels[..., 0] + green * pixels[..., 1] + blue * pixels[..., 2]
        chroma = pixels - luma[..., None]
        mean = _mean(chroma, skin)
        light = luma / (_mean(luma, skin)[:, None, None] + _LEAST)
        lit = _rise(light, *_DARK) * (1.0 - _rise(light, *_BRIGHT))
        # what the red of lips adds to skin of any color is red and takes green away
        axis = chroma[..., 0] - chroma[..., 1]
        redness = (axis - (mean[:, 0] - mean[:, 1])[:, None, None]).clip(0.0, None)
        return cls(luma, chroma, mean, redness, lips * redness * lit, lit)


class LipColors:
    """Gives new lips the color that the lips of the frames have; teeth and the inside of the mouth keep theirs.

    Args:
        raster: for the pixel work.
        strength: 0 leaves the new lips as they are .. 1 gives them the color of the old ones.
    """

    def __init__(self, raster: Raster, strength: float = 1.0) -> None:
        self._raster = raster
        self.strength = strength
        # track -> first frame of the stretch, frames so far, mean shift
        self._kept: dict[int, tuple[int, int, Pixels]] = {}

    def __call__(self, faces: Sequence[FaceJob], patches: Pixels, originals: torch.Tensor) -> Pixels:
        """Move the colors of the lips.

        Args:
            faces: in the order of the frames.
            patches: [N, S, S, 3] float32 in [0, 1], the new faces in their crops; changed in place.
            originals: [N, 3, S, S] the faces of the frames in the same crops.

        Returns:
            The patches with other lips.
        """
        raster = self._raster
        outlines, units = _outlines(faces)
        left, top, right, bottom = _window(outlines[-1], patches.shape[1] // REDUCTION)
        large = np.s_[:, top * REDUCTION : bottom * REDUCTION, left * REDUCTION : right * REDUCTION]
        seen = raster.pixels(F.avg_pool2d(originals[:, :, large[1], large[2]].float(), REDUCTION))
        painted = raster.shrink(patches[large], REDUCTION)
        outline, around, skin = self._masks(outlines - (left, top), units, (right - left, bottom - top))
        old, new = (_Look.of(pixels, skin, outline) for pixels in (seen, painted))
        shift = (_mean(old.chroma, old.lips) - old.skin) - (_mean(new.chroma, new.lips) - new.skin)
        enough = _SEEN * outline.sum(axis=(1, 2)) + _LEAST
        found = [(look.lips.sum(axis=(1, 2)) / enough).clip(0.0, 1.0) for look in (old, new)]
        # a face that went wrong must not spoil those after it
        seen_shift = raster.finite((found[0] * found[1])[:, None] * shift.clip(-_MOST, _MOST))
        shift = self._steady(faces, seen_shift)
        red = (_mean(new.redness, new.lips).clip(_LEAST_RED, None))[:, None, None]
        light = new.luma / (_mean(new.luma, new.lips)[:, None, None] + _LEAST)
        share = around * _rise(new.redness / red, *_RED) * new.lit * light.clip(0.0, _MOST_LIGHT)
        moved = share[..., None] * (self.strength * shift)[:, None, None]
        patches[large] = (patches[large] + raster.enlarge(moved, REDUCTION)).clip(0.0, 1.0)
        return patches

    def _masks(self, outlines: Floats64, units: Sequence[float], size: Size) -> Pixels:
        """[N, h, w] each: the lips of the frames, where new lips may lie, and the skin around."""
        hard, soft = [0.0] * len(units), [MOUTH_SOFTNESS * unit for unit in units]
        polygons = outlines.reshape(-1, *outlines.shape[2:])
        masks = self._raster.polygons(list(polygons), size, hard + soft + hard + hard)
        outline, around, inner, outer = masks.reshape(4, len(units), *masks.shape[1:])
        return outline, around, (outer - inner).clip(0.0, 1.0)

    def _steady(self, faces: Sequence[FaceJob], shifts: Pixels) -> Pixels:
        """[N, 3] the shifts, each averaged with those of the same person before."""
        # each is a sum of these shifts and of the mean before them; all sums are taken at once
        count, before = len(faces), {track: column for column, track in enumerate(self._kept)}
        weights = np.zeros((count, count + len(before)), np.float32)
        people = {
            track: (stretch, seen, np.eye(1, weights.shape[1], count + before[track], dtype=np.float32)[0])
            for track, (stretch, seen, _) in self._kept.items()
        }
        for place, face in enumerate(faces):
            own = np.eye(1, weights.shape[1], place, dtype=np.float32)[0]
            stretch, seen, mean = people.get(face.track, (face.stretch, 0, own))
            if stretch != face.stretch:
                seen, mean = 0, own
            seen = min(seen + 1, _STEADY)
            weights[place] = mean + (own - mean) / seen
            people[face.track] = face.stretch, seen, weights[place]
        steady = self._raster.constant(weights[:, :count]) @ shifts
        if before:
            means = self._raster.stack([mean for _, _, mean in self._kept.values()])
            steady = steady + self._raster.constant(weights[:, count:]) @ means
        for place, face in enumerate(faces):
            self._kept[face.track] = (*people[face.track][:2], steady[place])
        return steady


def _outlines(faces: Sequence[FaceJob]) -> tuple[Floats64, list[float]]:
    """[4, N, K, 2] pixels of reduced crops: the lips, where new ones may lie, skin from here, skin to here.

    With them the distance of the eyes in each crop.
    """
    points = (np.stack([face.crop.to_crop(face.landmarks) for face in faces]) + 0.5) / REDUCTION - 0.5
    units = eye_distance(points)
    lips = points[:, OUTER_LIPS]
    outward = lips - lips.mean(axis=1, keepdims=True)
    outward *= units[:, None, None] / np.linalg.norm(outward, axis=2, keepdims=True).clip(_LEAST)
    return np.stack([lips + margin * outward for margin in (0.0, _AROUND, *_SKIN)]), units.tolist()


def _window(outlines: Floats64, side: int) -> Box:
    """The part of reduced crops that holds all of these outlines, in steps of :data:`_STEP`."""
    left, top = (np.floor((outlines.min(axis=(0, 1)) - 1.0) / _STEP) * _STEP).clip(0, side - _STEP)
    right, bottom = (np.ceil((outlines.max(axis=(0, 1)) + 2.0) / _STEP) * _STEP).clip(_STEP, side)
    return int(left), int(top), max(int(right), int(left) + _STEP), max(int(bottom), int(top) + _STEP)


def _mean(values: Pixels, weights: Pixels) -> Pixels:
    """[N] or [N, C] weighted means of [N, s, s] or [N, s, s, C]."""
    total = weights.sum(axis=(1, 2)) + _LEAST
    if values.ndim == 4:
        return (weights[..., None] * values).sum(axis=(1, 2)) / total[:, None]
    return (weights * values).sum(axis=(1, 2)) / total


def _rise(values: Pixels, first: float, last: float) -> Pixels:
    """Numbers that rise smoothly from 0 at ``first`` to 1 at ``last``."""
    position = ((values - first) / (last - first)).clip(0.0, 1.0)
    return position * position * (3.0 - 2.0 * position)

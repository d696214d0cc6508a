"""The mark of the picture: written into every frame, found again without the original.

Marking adds one keyed tile (:mod:`~videoretalking.provenance.carriers`), repeated over the frame, to the
brightness, stronger where the picture is busy. All frames bear the same tile, so nothing depends on the frame
rate, and a detector may add up whatever frames it has.
"""

from __future__ import annotations

import cv2
import numpy as np

from videoretalking.core.arrays import Floats32, Image8, Mask
from videoretalking.provenance.carriers import carriers_of, draw_tile, period_for
from videoretalking.provenance.keys import Key
from videoretalking.provenance.payload import Payload, encode

FLOOR = 0.9  # gray levels (root mean square) on flat areas
GAIN = 0.7  # gray levels a gray level of local activity
CEILING = 2.1
BUSY = 20.0  # gray levels of activity at which half is left: the content there drowns more
MEAN_STRENGTH = 1.8  # gray levels over the whole frame: 44.1 dB
SMALL_SIDE = 480  # pixels; smaller pictures need all of that: they are raised to it, by MOST at most
MOST = 1.33
LARGE_SIDE = 400  # pixels; larger pictures have room for a weaker mark, by the square root of their size
WEAKEST = 0.65  # times the strength, on large pictures
DARK = 64  # below this gray level the mark weakens, by half at black: the eye sees more there

# Brightness is 0.299 R + 0.587 G + 0.114 B: the least change of the three bytes that raises it by one is in
# proportion to these. Blue is left alone, since the little it would have is lost in rounding.
_RED, _GREEN = 0.689, 1.353
_COARSE = 8  # pixels of the frame a pixel of the strength
_STEPS = 10.0  # of a table a gray level
_ROWS = 64  # changed at once, so that what lies between stays in the processor's cache


class VideoMark:
    """Writes one payload into frames.

    Attributes:
        key: who may find it.
        payload: what it says.
    """

    def __init__(self, key: Key, payload: Payload) -> None:
        self.key = key
        self.payload = payload
        self._code = encode(payload)
        nothing = np.zeros((0, 0), dtype=np.float32)
        # for the last size, replaced as one: several threads mark frames
        self._drawn = (nothing, nothing)

    def apply(self, frame: Image8, mask: Mask | None = None) -> Image8:
        """A marked copy of a frame.

        Args:
            frame: [H, W, 3] uint8 RGB.
            mask: [H, W] in [0, 1], how strongly to mark; pixels at 0 keep their bytes. None marks all.

        Returns:
            [H, W, 3] uint8.
        """
        pattern, power = self._drawn
        if frame.shape[:2] != pattern.shape:
            pattern, power = self._drawn = self._draw(*frame.shape[:2])
        strength = self._strength(frame, power)
        if mask is not None:
            strength = strength * mask
        marked = np.empty_like(frame)
        for top in range(0, len(frame), _ROWS):
            rows = slice(top, top + _ROWS)
            change = np.asarray(cv2.multiply(strength[rows], pattern[rows]), dtype=np.float32)
            self._add(frame[rows], change, marked[rows])
        return marked

    def _draw(self, height: int, width: int) -> tuple[Floats32, Floats32]:
        """[H, W] the pattern, and its mean square, as coarse as the strength."""
        period = period_for(height, width)
        tile = draw_tile(carriers_of(self.key), self._code, period)
        repeated = np.tile(tile, (-(-height // period), -(-width // period)))
        pattern = np.ascontiguousarray(repeated[:height, :width])
        size = (-(-width // _COARSE), -(-height // _COARSE))
        power = cv2.resize(np.square(pattern), size, interpolation=cv2.INTER_AREA)
        return pattern, np.asarray(power, dtype=np.float32)

    @staticmethod
    def _strength(frame: Image8, power: Floats32) -> Floats32:
        """[H, W] gray levels that the eye does not see here."""
        height, width = frame.shape[:2]
        small = cv2.resize(frame, (-(-width // 2), -(-height // 2)), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        detail = cv2.absdiff(gray, cv2.blur(gray, (7, 7)))
        size = power.shape[::-1]
        busy = cv2.resize(detail, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        light = cv2.resize(gray, size, interpolation=cv2.INTER_AREA).astype(np.float32)
        activity = np.asarray(cv2.blur(busy, (3, 3)), dtype=np.float32)
        strength = np.clip(FLOOR + GAIN * activity, FLOOR, CEILING) / (1 + np.square(activity / BUSY))
        strength *= np.minimum(1.0, 0.5 + 0.5 / DARK * light)
        strength *= max(WEAKEST, min(1.0, (LARGE_SIDE / min(height, width)) ** 0.5))
        most = MOST if min(height, width) < SMALL_SIDE else 1.0
        strength *= min(most, MEAN_STRENGTH / float(np.sqrt((np.square(strength) * power).mean())))
        return cv2.resize(strength, (width, height), interpolation=cv2.INTER_LINEAR)

    @staticmethod
    def _add(frame: Image8, change: Floats32, marked: Image8) -> None:
        index = cv2.convertScaleAbs(
            change, alpha=_STEPS, beta=128
        )  # below -128 it would turn round: 12.8 levels
        index = cv2.merge([index, index, index])
        cv2.add(frame, cv2.LUT(index, _MORE), dst=marked)
        cv2.subtract(marked, cv2.LUT(index, _LESS), dst=marked)


def _changes(sign: int) -> Image8:
    """[256, 1, 3] what rises (1) or falls (-1) for each index of a change; OpenCV adds bytes to bytes fastest."""
    brightness = sign * (np.arange(256) - 128) / _STEPS
    shares = np.array([_RED, _GREEN, 0.0])
    return np.rint(np.maximum(brightness, 0)[:, None, None] * shares).astype(np.uint8)


_MORE, _LESS = _changes(1), _changes(-1)

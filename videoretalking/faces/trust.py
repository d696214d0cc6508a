"""How far a face may be painted: landmarks of a head in profile say a smaller turn than there is.

A mouth that is painted on such a face is smeared onto the background. The confidence of the bundled landmark
network tells these frames: its logit was at least 5.6 in the frames of 26 clips, heads turned by 38 degrees among
them, and below 4 where two people turned nearly into profile, but for the first frames of the turn. A poor picture
lowers it too, so that a face must also be turned.
"""

from __future__ import annotations

import math

import numpy as np

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.core.coefficients import ANGLES
from videoretalking.faces.types import FaceTrack

# Detector -> logits of its confidence below which a face is left alone, and above which it is painted again. The
# confidence of other detectors is another thing, and their faces are always painted.
LIMITS: dict[str, tuple[float, float]] = {"bundled": (4.0, 5.0)}
TURNED = math.radians(12.0)  # yaw up to which a low confidence has other reasons, such as a poor picture
FADE = 3  # frames over which the painting comes and goes
_LEAST = 1e-6


def trust(track: FaceTrack) -> Floats32:
    """How much of the painting a face gets in each frame.

    The value of a frame depends on this frame and those before it, so that a track may still grow.

    Args:
        track: of the face.

    Returns:
        [N] from 0, where the frame keeps its pixels, to 1; 1 where the face is absent.
    """
    result = np.ones(len(track), np.float32)
    if track.backend not in LIMITS:
        return result
    least, enough = LIMITS[track.backend]
    for span in track.present_slices():
        scores = track.scores[span].astype(np.float64).clip(0.0, 1.0 - _LEAST)
        logits = np.log((scores + _LEAST) / (1.0 - scores))
        seen = scores > 0.0  # a frame between two others, filled by them, says nothing
        turned = np.abs(track.rows[span, ANGLES][:, 1]) > TURNED
        lost = _last(seen & (logits < least) & turned)
        found = _last(seen & ((logits > enough) | ~turned))
        result[span] = _faded(np.where(lost > found, 0.0, 1.0))
    return result


def _last(events: np.ndarray) -> np.ndarray:
    """[N] number of the last frame so far in which something was the case, -1 before."""
    return np.asarray(np.maximum.accumulate(np.where(events, np.arange(len(events)), -1)))


def _faded(values: Floats64) -> Floats64:
    """Mean of each value and the ones before it, :data:`FADE` in all; what was before the first is like it."""
    before = np.concatenate([np.repeat(values[:1], FADE - 1), values])
    return np.convolve(before, np.full(FADE, 1.0 / FADE), "valid")

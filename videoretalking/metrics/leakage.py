"""Leakage: how much of the source's own lip motion survives in the result.

The paper's argument for D-Net (section 3, figure 4) is that frames used as references leak their lips into the
output. Two numbers show it, both 1 for a method that returns its input: the correlation of the mouth's opening
with the source's, and, under silent audio, the opening's variation relative to the source's. 0 is ideal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from videoretalking.core.landmarks import INNER_LIP_PAIRS
from videoretalking.faces.masks import eye_distance
from videoretalking.metrics.base import Chunk, Clip, Metric

SILENCE_RMS = 10.0 ** (-60 / 20)  # of full scale
MIN_FRAMES = 10
MIN_VARIATION = 1e-3  # eye distances; a source that moves less has nothing to leak


def lip_gap(landmarks: npt.NDArray[np.floating]) -> float:
    """Height of the inner mouth in eye distances.

    Args:
        landmarks: [68, 2] pixels.
    """
    heights = [np.linalg.norm(landmarks[upper] - landmarks[lower]) for upper, lower in INNER_LIP_PAIRS]
    return float(np.mean(heights) / eye_distance(landmarks))


def is_silent(speech: npt.NDArray[np.int16]) -> bool:
    """Whether a recording stays below -60 dB of full scale on average."""
    if speech.size == 0:
        return True
    return float(np.sqrt(np.mean(np.square(speech / 32768.0)))) < SILENCE_RMS


class Leakage(Metric):
    """Correlation with the source's lips; variation under silence where the sound is silent."""

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._silent = clip.speech is not None and is_silent(clip.speech)
        self._openings: list[tuple[float, float]] = []

    def update(self, chunk: Chunk) -> None:
        """Measure the mouths of a chunk."""
        for face, source in zip(chunk.faces, chunk.source_faces, strict=False):
            if face is None or source is None or face.landmarks is None or source.landmarks is None:
                continue
            self._openings.append((lip_gap(face.landmarks), lip_gap(source.landmarks)))

    def compute(self) -> dict[str, float]:
        """``leakage`` (correlation, -1..1) or, for silent sound, ``leakage_silence`` (ratio, at least 0)."""
        return leakage(self._openings, self._silent)


def leakage(openings: Sequence[tuple[float, float]], silent: bool) -> dict[str, float]:
    """The numbers of :class:`Leakage` from pairs of openings (result, source), frame by frame."""
    if len(openings) < MIN_FRAMES:
        return {}
    result, source = np.asarray(openings).T
    if source.std() < MIN_VARIATION:
        return {}
    if silent:
        return {"leakage_silence": float(result.std() / source.std())}
    if result.std() == 0.0:
        return {"leakage": 0.0}
    return {"leakage": float(np.corrcoef(result, source)[0, 1])}

"""The silence gate: where nobody speaks, the networks hear silence and the mouth comes to rest.

Spectrogram columns of faint noise make lip-sync networks move the mouth, the fifth most frequent complaint of
users. The gate replaces such columns by those of digital silence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from core.constants import MEL_HOP, SAMPLE_RATE

Floats = npt.NDArray[np.float32]

SILENT_MEL = -4.0  # value of every band in digital silence
_SPEECH_PERCENTILE = 95.0  # loudness that counts as full speech
_RANGE_DB = 38.0  # below full speech by more than this is silence
_FLOOR_DB = -66.0  # relative to full scale; fainter is silence whatever the rest
_HANG = 0.12  # seconds that stay open around speech: stops, weak consonants, the end of a word
_RAMP = 0.06  # seconds over which the gate opens and closes


def speech_gate(samples: Floats) -> Floats:
    """Gate for every mel column.

    Args:
        samples: [n] mono speech at 16 kHz in [-1, 1].

    Returns:
        [1 + n // 200] float32: 1 where the column belongs to speech, 0 in silence, soft in between.
    """
    columns = 1 + len(samples) // MEL_HOP
    padded = np.zeros((columns + 1) * MEL_HOP, np.float64)
    padded[MEL_HOP // 2 : MEL_HOP // 2 + len(samples)] = samples[: len(padded) - MEL_HOP // 2]
    power = np.square(padded).reshape(-1, MEL_HOP).mean(axis=1)[:columns]
    level = 10.0 * np.log10(power + 1e-12)
    threshold = max(_FLOOR_DB, float(np.percentile(level, _SPEECH_PERCENTILE)) - _RANGE_DB)
    speech = level > threshold
    per_second = SAMPLE_RATE / MEL_HOP
    return _soften(_widen(speech, round(_HANG * per_second)), round(_RAMP * per_second))


def apply_gate(mel: Floats, gate: Floats) -> Floats:
    """Fade the columns of a spectrogram into silence.

    Args:
        mel: [80, C] log-mel in [-4, 4].
        gate: [C] from :func:`speech_gate`.

    Returns:
        [80, C] float32.
    """
    return (SILENT_MEL + (mel - SILENT_MEL) * gate[None, : mel.shape[1]]).astype(np.float32)


def _widen(speech: npt.NDArray[np.bool_], reach: int) -> npt.NDArray[np.bool_]:
    """Columns within ``reach`` columns of speech."""
    counts = np.convolve(speech.astype(np.int64), np.ones(2 * reach + 1, np.int64), mode="same")
    return (
        np.asarray(counts > 0) if len(speech) >= 2 * reach + 1 else np.full(len(speech), bool(speech.any()))
    )


def _soften(speech: npt.NDArray[np.bool_], width: int) -> Floats:
    """Moving average over ``2 * width + 1`` columns, edges repeated."""
    padded = np.pad(speech.astype(np.float32), width, mode="edge")
    kernel = np.full(2 * width + 1, 1.0 / (2 * width + 1), np.float32)
    return np.clip(np.convolve(padded, kernel, mode="valid"), 0.0, 1.0).astype(np.float32)

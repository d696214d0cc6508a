"""The silence gate: where nobody speaks, the networks hear silence and the mouth comes to rest.

Spectrogram columns of faint noise make lip-sync networks move the mouth, the fifth most frequent complaint of
users. The gate replaces such columns by those of digital silence.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import MEL_COLUMNS_PER_SECOND
from videoretalking.media.mel import SILENCE, speech_activity

_RAMP_SECONDS = 0.06  # over which the gate opens and closes, so that the mouth does not snap


def speech_gate(wave: npt.ArrayLike) -> Floats32:
    """Gate for every mel column.

    Args:
        wave: [n] mono speech at 16 kHz in [-1, 1].

    Returns:
        [1 + n // 200] float32: 1 where the column belongs to speech, 0 in silence, soft in between.
    """
    speech = speech_activity(wave).astype(np.float32)
    reach = round(_RAMP_SECONDS * MEL_COLUMNS_PER_SECOND)
    kernel = np.full(2 * reach + 1, 1.0 / (2 * reach + 1))
    softened = np.convolve(np.pad(speech, reach, mode="edge"), kernel, mode="valid")
    return np.clip(softened, 0.0, 1.0).astype(np.float32)


def apply_gate(mel: Floats32, gate: Floats32) -> Floats32:
    """Fade the columns of a spectrogram into silence.

    Args:
        mel: [80, C] log-mel in [-4, 4].
        gate: [C] from :func:`speech_gate`.

    Returns:
        [80, C] float32.
    """
    return (SILENCE + (mel - SILENCE) * gate).astype(np.float32)

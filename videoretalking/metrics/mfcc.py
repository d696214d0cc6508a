"""Audio features of the evaluation SyncNet: 13 cepstral coefficients every 10 ms.

Equal to the features that the published LSE scripts compute (HTK mel scale, rectangular window, orthonormal
cosine transform, sinusoidal lifter), in plain NumPy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64
from videoretalking.core.constants import SAMPLE_RATE

NUM_CEPSTRA = 13
NUM_FILTERS = 26
FRAME_LENGTH = 400  # samples, 25 ms
FRAME_STEP = 160  # samples, 10 ms
FFT_SIZE = 512
PREEMPHASIS = 0.97
LIFTER = 22
COLUMNS_PER_SECOND = SAMPLE_RATE // FRAME_STEP  # 100


def num_columns(num_samples: int) -> int:
    """Columns that :func:`mfcc` gives for a recording of ``num_samples`` samples at 16 kHz."""
    return 1 + max(0, -(-(num_samples - FRAME_LENGTH) // FRAME_STEP))


def mel_filterbank() -> Floats64:
    """The 26 triangular filters [26, 257] over FFT bins, peak 1, equally spaced in HTK mel from 0 to 8 kHz."""
    top = 2595.0 * np.log10(1.0 + SAMPLE_RATE / 2 / 700.0)
    hertz = 700.0 * (10.0 ** (np.linspace(0.0, top, NUM_FILTERS + 2) / 2595.0) - 1.0)
    edges = np.floor((FFT_SIZE + 1) * hertz / SAMPLE_RATE)
    lower, peak, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.arange(FFT_SIZE // 2 + 1)[None]
    rising = (bins - lower) / (peak - lower)
    falling = (upper - bins) / (upper - peak)
    return np.clip(np.minimum(rising, falling), 0.0, None)


def mfcc(pcm: npt.NDArray[np.int16]) -> Floats64:
    """Cepstral coefficients of a recording.

    Args:
        pcm: [samples] int16 at 16 kHz, mono, not scaled.

    Returns:
        [13, columns] float64, one column every 10 ms; row 0 is the log energy of the column.

    Raises:
        ValueError: empty recording, or not 16-bit integers (scaled samples would change every coefficient).
    """
    if pcm.ndim != 1 or pcm.size == 0 or pcm.dtype != np.int16:
        raise ValueError(f"mfcc needs a non-empty mono int16 recording, got {pcm.dtype} {pcm.shape}")
    signal = pcm.astype(np.float64)
    signal[1:] -= PREEMPHASIS * pcm[:-1]
    power = _power_spectrum(signal)
    energy = np.log(_without_zeros(power.sum(axis=1)))
    filtered = np.log(_without_zeros(power @ mel_filterbank().T))
    cepstra = filtered @ _cosine_basis().T * _lifter()
    cepstra[:, 0] = energy
    return cepstra.T


def _power_spectrum(signal: Floats64) -> Floats64:
    """[columns, 257] power of overlapping frames; the last one is padded with zeros."""
    columns = num_columns(len(signal))
    padded = np.zeros((columns - 1) * FRAME_STEP + FRAME_LENGTH)
    padded[: len(signal)] = signal
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME_LENGTH)[::FRAME_STEP]
    return np.abs(np.fft.rfft(frames, FFT_SIZE)) ** 2 / FFT_SIZE


def _cosine_basis() -> Floats64:
    """[13, 26] first rows of the orthonormal DCT-II."""
    k = np.arange(NUM_CEPSTRA)[:, None]
    n = np.arange(NUM_FILTERS)[None]
    basis = np.sqrt(2.0 / NUM_FILTERS) * np.cos(np.pi * k * (2 * n + 1) / (2 * NUM_FILTERS))
    basis[0] /= np.sqrt(2.0)
    return basis


def _lifter() -> Floats64:
    return 1.0 + LIFTER / 2 * np.sin(np.pi * np.arange(NUM_CEPSTRA) / LIFTER)


def _without_zeros(values: Floats64) -> Floats64:
    return np.where(values == 0.0, np.finfo(np.float64).eps, values)

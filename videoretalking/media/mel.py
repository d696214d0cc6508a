"""Log-mel spectrograms for the lip-sync networks, their windows in time, and where somebody speaks.

librosa is imported where sound is transformed, so that prepared data trains on a machine without it. The numbers
are those of the published program (paper, appendix C.2.3; Wav2Lip): 16 kHz, FFT and window 800, hop 200, 80 bands,
80 columns a second, values in -4..4.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from videoretalking.core.arrays import Flags, Floats32, Floats64
from videoretalking.core.constants import MEL_BANDS, MEL_COLUMNS_PER_SECOND, MEL_HOP, MEL_WINDOW, SAMPLE_RATE
from videoretalking.core.errors import UserError

FFT_SIZE = 800  # samples, also the length of the Hann window
PRE_EMPHASIS = 0.97
MIN_FREQUENCY = 55.0  # Hz
MAX_FREQUENCY = 7600.0  # Hz
MIN_LEVEL = -100.0  # dB, below it everything is the floor
REFERENCE_LEVEL = 20.0  # dB
MAX_VALUE = 4.0  # the range is -MAX_VALUE .. MAX_VALUE
SILENCE = -MAX_VALUE  # every band of digital silence

# Speech activity. Levels are in dB relative to full scale, in the band where speech lies; shares are of the
# distance from the recording's own quiet to its own loud level, so that the recording level does not matter. In 30
# recordings of speech that distance was 15 dB (clipped) to 140 dB (digital silence), in steady noise below 3 dB.
_SPEECH_BAND = (100.0, 4000.0)  # Hz
_QUIET_PERCENTILE = 10.0
_SUSTAINED = 9  # columns: loud is the highest running median over them, which clicks do not reach
_INAUDIBLE = -90.0  # dB: the last bits of 16
_STEADY = 6.0  # dB: what fluctuates less is noise or hum
_STEADY_SECONDS = 1.0  # shorter pieces may be one vowel
_OPEN, _CLOSE = 0.3, 0.2  # shares of the distance above which speech starts, and below which it stops
_OPEN_DEPTH, _CLOSE_DEPTH = 40.0, 45.0  # dB below loud at most, for recordings with digital silence
_BURST_SECONDS = 0.05  # shorter sounds are clicks
_MARGIN_SECONDS = 0.1  # lips move before and after the sound; twice that closes stops and weak consonants

_BLOCK = 4096  # columns transformed at once: bounds memory for hours of audio


def mel_spectrogram(wave: npt.ArrayLike) -> Floats32:
    """Log-mel spectrogram of speech, as the published networks expect it.

    Args:
        wave: [n] mono samples at 16 kHz, nominally in [-1, 1]; zeros surround them, as published.

    Returns:
        [80, 1 + n // 200] float32 in [-4, 4]; column c is centered on sample 200 c.

    Raises:
        ValueError: not one channel, or samples that are no numbers.
    """
    samples = np.asarray(wave, dtype=np.float64)
    if samples.ndim != 1:
        raise ValueError(f"expected one channel of samples, got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("the waveform holds samples that are not finite")
    return log_mel(np.pad(preemphasis(samples), FFT_SIZE // 2))


def log_mel(samples: Floats64) -> Floats32:
    """Spectrogram of emphasized samples that are already padded by 400 on each side: [80, C] in [-4, 4]."""
    bank = mel_filter_bank()
    return np.concatenate([_scaled(bank @ magnitudes) for magnitudes in _spectra(samples)], axis=1)


def _scaled(mel: Floats64) -> Floats32:
    """Magnitudes in decibels, brought to [-4, 4]."""
    decibels = 20.0 * np.log10(np.maximum(10.0 ** (MIN_LEVEL / 20.0), mel)) - REFERENCE_LEVEL
    scaled = 2.0 * MAX_VALUE * (decibels - MIN_LEVEL) / -MIN_LEVEL - MAX_VALUE
    return scaled.clip(-MAX_VALUE, MAX_VALUE).astype(np.float32)


def preemphasis(samples: Floats64) -> Floats64:
    """High-pass ``y[n] = x[n] - 0.97 x[n-1]``, first sample kept."""
    return np.concatenate([samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1]])


def mel_filter_bank() -> Floats64:
    """[80, 401] triangles on Slaney's mel scale, each of area 1 over frequency in Hz."""
    bank: Floats64 = _librosa().filters.mel(
        sr=SAMPLE_RATE,
        n_fft=FFT_SIZE,
        n_mels=MEL_BANDS,
        fmin=MIN_FREQUENCY,
        fmax=MAX_FREQUENCY,
        dtype=np.float64,
    )
    return bank


def window_start(time: float) -> int:
    """First mel column of the window that drives the frame shown at ``time`` seconds: floor(80 t).

    Training cuts by the same rule, with ``time`` the frame's number over 25.
    """
    return int(np.floor(time * MEL_COLUMNS_PER_SECOND + 1e-6))  # 1e-6: times like 0.6 are no binary fractions


def mel_window_at(mel: Floats32, time: float, width: int = MEL_WINDOW) -> Floats32:
    """The window that drives a frame, cut at the frame's own time.

    It begins with the column of ``time`` (published inference: frame i starts at column floor(80 i / fps)), so it
    covers the next 0.2 s. Outside the audio there is silence.

    Differs from paper: the published program repeats the last whole window at the end and counts frames
    instead of reading their times (:func:`scripts.parity.published.audio.official_chunks`).

    Args:
        mel: [80, C] from :func:`mel_spectrogram`.
        time: seconds on the audio's time line; may lie outside of it.
        width: columns.

    Returns:
        [80, width] float32, a copy.
    """
    start = window_start(time)
    window = np.full((mel.shape[0], width), SILENCE, dtype=np.float32)
    first, last = max(start, 0), min(start + width, mel.shape[1])
    if first < last:
        window[:, first - start : last - start] = mel[:, first:last]
    return window


def speech_activity(wave: npt.ArrayLike) -> Flags:
    """Where somebody speaks, by level against the recording's own loud and quiet, with hysteresis.

    Meant for bringing the mouth to rest in pauses; it works at any recording level and calls silence and steady
    noise no speech. Music counts as speech.

    Args:
        wave: [n] mono samples at 16 kHz.

    Returns:
        [1 + n // 200] bool, one per mel column.
    """
    levels = _speech_levels(np.asarray(wave, dtype=np.float64))
    quiet = float(np.percentile(levels, _QUIET_PERCENTILE))
    sustained = np.pad(levels, _SUSTAINED // 2, mode="edge")
    loud = float(np.median(sliding_window_view(sustained, _SUSTAINED), axis=1).max())
    steady = loud - quiet < _STEADY and len(levels) >= _columns(_STEADY_SECONDS)
    if loud < _INAUDIBLE or steady:
        return np.zeros(len(levels), dtype=np.bool_)
    if loud - quiet < _STEADY:
        return np.ones(len(levels), dtype=np.bool_)
    opening = levels > max(quiet + _OPEN * (loud - quiet), loud - _OPEN_DEPTH)
    staying = levels > max(quiet + _CLOSE * (loud - quiet), loud - _CLOSE_DEPTH)
    active = np.zeros(len(levels), dtype=np.bool_)
    for first, last in _runs(staying):
        if last - first >= _columns(_BURST_SECONDS) and opening[first:last].any():
            active[first:last] = True
    margin = _columns(_MARGIN_SECONDS)
    for first, last in _runs(active):
        active[max(0, first - margin) : last + margin] = True
    return active


def _speech_levels(samples: Floats64) -> Floats64:
    """[columns] level around each mel column in dB relative to full scale."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1)
    band = (frequencies >= _SPEECH_BAND[0]) & (frequencies <= _SPEECH_BAND[1])
    padded = np.pad(samples, FFT_SIZE // 2)
    blocks = [np.square(magnitudes[band]).sum(axis=0) for magnitudes in _spectra(padded)]
    mean_square_window = 0.375  # of the Hann window
    power = np.concatenate(blocks) * 2.0 / (FFT_SIZE**2 * mean_square_window)
    return 10.0 * np.log10(power + 1e-14)


def _columns(seconds: float) -> int:
    return round(seconds * MEL_COLUMNS_PER_SECOND)


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """(first, past the last) index of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _spectra(samples: Floats64) -> Iterator[Floats64]:
    """Blocks of [401, columns] magnitudes of the short-time Fourier transform of padded samples, Hann window."""
    stft = _librosa().stft
    num_columns = (len(samples) - FFT_SIZE) // MEL_HOP + 1
    for start in range(0, num_columns, _BLOCK):
        block = samples[start * MEL_HOP : (start + _BLOCK - 1) * MEL_HOP + FFT_SIZE]
        yield np.abs(stft(block, n_fft=FFT_SIZE, hop_length=MEL_HOP, center=False))


def _librosa() -> ModuleType:
    """librosa, ready to transform.

    Raises:
        UserError: librosa finds no folder for the functions that it compiles on its first use.
    """
    import librosa

    try:
        _ = librosa.filters, librosa.stft  # librosa loads its parts when they are first named
    except RuntimeError as error:
        raise UserError(
            f"librosa cannot keep the functions that it compiles ({error}): "
            "set the variable NUMBA_CACHE_DIR to a folder that can be written"
        ) from None
    return librosa

"""Log-mel spectrograms for the lip-sync networks, their windows in time, and where somebody speaks.

Needs numpy only, so that prepared data trains on a bare machine. The numbers are those of the published program
(paper, appendix C.2.3; Wav2Lip): 16 kHz, FFT and window 800, hop 200, 80 bands, 80 columns a second, values
in -4..4.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from videoretalking.core.arrays import Floats32, Floats64, Ints64
from videoretalking.core.constants import (
    MEL_BANDS,
    MEL_COLUMNS_PER_SECOND,
    MEL_HOP,
    MEL_WINDOW,
    SAMPLE_RATE,
    SYNC_FRAMES,
    TRAIN_FPS,
)

ChunkVariant = Literal["official", "lipsync_eval"]

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
_PAUSE_SECONDS = 0.2  # shorter gaps are stops and weak consonants
_MARGIN_SECONDS = 0.1  # lips move before and after the sound

_BLOCK = 4096  # columns transformed at once: bounds memory for hours of audio


def mel_spectrogram(wave: npt.ArrayLike, padding: Literal["zeros", "reflect"] = "zeros") -> Floats32:
    """Log-mel spectrogram of speech, as the published networks expect it.

    Args:
        wave: [n] mono samples at 16 kHz, nominally in [-1, 1].
        padding: what surrounds the signal. ``zeros`` is the published inference program; ``reflect`` is Wav2Lip's
            training, with an older library, and differs in two columns at each end.

    Returns:
        [80, 1 + n // 200] float32 in [-4, 4]; column c is centered on sample 200 c.

    Raises:
        ValueError: not one channel, samples that are no numbers, or too short to reflect.
    """
    samples = np.asarray(wave, dtype=np.float64)
    if samples.ndim != 1:
        raise ValueError(f"expected one channel of samples, got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("the waveform holds samples that are not finite")
    if padding == "reflect" and len(samples) <= FFT_SIZE // 2:
        raise ValueError(f"reflection needs more than {FFT_SIZE // 2} samples, got {len(samples)}")
    spectra = _spectra(preemphasis(samples), "constant" if padding == "zeros" else "reflect")
    bank = mel_filter_bank()
    mel = np.concatenate([bank @ magnitudes.T for magnitudes in spectra], axis=1)
    decibels = 20.0 * np.log10(np.maximum(10.0 ** (MIN_LEVEL / 20.0), mel)) - REFERENCE_LEVEL
    scaled = 2.0 * MAX_VALUE * (decibels - MIN_LEVEL) / -MIN_LEVEL - MAX_VALUE
    return scaled.clip(-MAX_VALUE, MAX_VALUE).astype(np.float32)


def preemphasis(samples: Floats64) -> Floats64:
    """High-pass ``y[n] = x[n] - 0.97 x[n-1]``, first sample kept."""
    return np.concatenate([samples[:1], samples[1:] - PRE_EMPHASIS * samples[:-1]])


@lru_cache(maxsize=1)
def mel_filter_bank() -> Floats64:
    """[80, 401] triangles on Slaney's mel scale, each of area 1 over frequency in Hz."""
    lowest, highest = _hertz_to_mel(np.array([MIN_FREQUENCY, MAX_FREQUENCY]))
    edges = _mel_to_hertz(lowest + (highest - lowest) * np.arange(MEL_BANDS + 2) / (MEL_BANDS + 1))
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1)
    lower, center, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (frequencies - lower) / (center - lower)
    falling = (upper - frequencies) / (upper - center)
    bank = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (upper - lower))
    bank.setflags(write=False)
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
    instead of reading their times (:func:`official_chunks`).

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


def official_chunks(num_columns: int, fps: float, variant: ChunkVariant = "official") -> Ints64:
    """Columns of each frame's window as the published programs cut them.

    Args:
        num_columns: columns of the spectrogram.
        fps: frames a second.
        variant: ``official`` (also Wav2Lip's inference) ends with one window of the last 16 columns;
            ``lipsync_eval``, the script that makes videos for scoring, drops that one.

    Returns:
        [frames, 2] int64, first column and width. With fewer than 16 columns the published slice starts at a
        negative index and so reads only the last ``16 - num_columns`` columns; reproduced here.
    """
    step = MEL_COLUMNS_PER_SECOND / fps
    starts: list[tuple[int, int]] = []
    while (start := int(len(starts) * step)) + MEL_WINDOW <= num_columns:
        starts.append((start, MEL_WINDOW))
    if variant == "official":
        start = num_columns - MEL_WINDOW
        if start < 0:
            start += num_columns
        starts.append((max(start, 0), num_columns - max(start, 0)))
    return np.array(starts, dtype=np.int64).reshape(-1, 2)


def official_pairing(num_chunks: int, num_frames: int) -> Ints64:
    """[num_chunks] frame shown with each chunk in the published programs: a hard wrap to frame 0."""
    return np.arange(num_chunks, dtype=np.int64) % num_frames


def training_window(frame: int, num_columns: int) -> tuple[int, int]:
    """First column and width of the window of a training clip that starts at ``frame`` (25 frames a second).

    A width below 16 means that the audio ends too early and the clip is rejected (Wav2Lip); a clip behind the end
    of the audio gives (-1, 0).
    """
    start = int(MEL_COLUMNS_PER_SECOND * (frame / TRAIN_FPS))
    if start >= num_columns:
        return -1, 0
    return start, min(MEL_WINDOW, num_columns - start)


def training_frame_starts(frame: int, num_columns: int) -> Ints64:
    """First columns of the windows of the five single frames of a training clip that starts at ``frame``.

    They begin one frame early, at frames ``frame - 1 .. frame + 3``, while at inference frame i's window begins
    at frame i: the published generator hears speech 40 ms later than in training (Wav2Lip).

    Returns:
        [5] int64; all -1 where training rejects the clip: frame 0, or a window that the audio does not fill.
    """
    windows = [training_window(frame - 1 + i, num_columns) for i in range(SYNC_FRAMES)]
    if frame < 1 or any(width < MEL_WINDOW for _, width in windows):
        return np.full(SYNC_FRAMES, -1, dtype=np.int64)
    return np.array([start for start, _ in windows], dtype=np.int64)


def speech_activity(wave: npt.ArrayLike) -> npt.NDArray[np.bool_]:
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
    for first, last in _runs(~active):
        inside = first > 0 and last < len(active)
        if inside and last - first < _columns(_PAUSE_SECONDS):
            active[first:last] = True
    margin = _columns(_MARGIN_SECONDS)
    for first, last in _runs(active):
        active[max(0, first - margin) : last + margin] = True
    return active


def _speech_levels(samples: Floats64) -> Floats64:
    """[columns] level around each mel column in dB relative to full scale."""
    frequencies = np.linspace(0.0, SAMPLE_RATE / 2, FFT_SIZE // 2 + 1)
    band = (frequencies >= _SPEECH_BAND[0]) & (frequencies <= _SPEECH_BAND[1])
    blocks = [np.square(block[:, band]).sum(axis=1) for block in _spectra(samples, "constant")]
    mean_square_window = 0.375  # of the Hann window
    power = np.concatenate(blocks) * 2.0 / (FFT_SIZE**2 * mean_square_window)
    return 10.0 * np.log10(power + 1e-14)


def _columns(seconds: float) -> int:
    return round(seconds * MEL_COLUMNS_PER_SECOND)


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """(first, past the last) index of each stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _spectra(samples: Floats64, padding: Literal["constant", "reflect"]) -> Iterator[Floats64]:
    """Blocks of [columns, 401] magnitudes of the centered short-time Fourier transform, periodic Hann window."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(FFT_SIZE) / FFT_SIZE)
    padded = np.pad(samples, FFT_SIZE // 2, mode=padding)
    frames = sliding_window_view(padded, FFT_SIZE)[::MEL_HOP]
    for start in range(0, len(frames), _BLOCK):
        yield np.abs(np.fft.rfft(frames[start : start + _BLOCK] * window, axis=1))


def _hertz_to_mel(hertz: Floats64) -> Floats64:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    return np.where(hertz < 1000.0, hertz * 3.0 / 200.0, 15.0 + 27.0 * np.log(hertz / 1000.0) / np.log(6.4))


def _mel_to_hertz(mel: Floats64) -> Floats64:
    return np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * 6.4 ** ((mel - 15.0) / 27.0))

"""Windows of speech, and Wav2Lip's padding, exactly as the published programs cut them."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Ints64
from videoretalking.core.constants import MEL_COLUMNS_PER_SECOND, MEL_WINDOW, SYNC_FRAMES, TRAIN_FPS
from videoretalking.media.mel import FFT_SIZE, log_mel, preemphasis

ChunkVariant = Literal["official", "lipsync_eval"]


def reflected_spectrogram(wave: npt.ArrayLike) -> Floats32:
    """The spectrogram of Wav2Lip's training, whose older library mirrors the signal at its ends.

    Two columns at each end differ from :func:`media.mel.mel_spectrogram`.

    Args:
        wave: [n] mono samples at 16 kHz, n > 400.

    Raises:
        ValueError: too short to mirror.
    """
    samples = np.asarray(wave, dtype=np.float64)
    if len(samples) <= FFT_SIZE // 2:
        raise ValueError(f"reflection needs more than {FFT_SIZE // 2} samples, got {len(samples)}")
    return log_mel(np.pad(preemphasis(samples), FFT_SIZE // 2, mode="reflect"))


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

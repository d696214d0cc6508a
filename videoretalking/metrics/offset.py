"""From embeddings of picture and sound to distances over shifts, the best offset and the confidence.

This is the arithmetic of LSE-D and LSE-C (Chung and Zisserman 2016, as used by Prajwal et al. 2020); the
networks and crops that make the embeddings are in :mod:`metrics.lse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32

MAX_SHIFT = 15  # windows (frames of 40 ms) that are searched to each side
DISTANCE_EPS = 1e-6  # added to every difference, as the published distance does
MEDIAN_LENGTH = 9

Real = TypeVar("Real", np.float32, np.float64)


@dataclass(frozen=True)
class SyncScore:
    """Agreement of one face track with the sound.

    Attributes:
        min_distance: LSE-D of the track: mean distance at the best shift. Lower is better.
        confidence: LSE-C of the track: median over shifts minus ``min_distance``. Higher is better.
        offset: frames (40 ms) at the best shift; positive: the matching sound comes before the picture.
        mean_distance: [2 * shift + 1] float32 mean distance of every shift, from +shift to -shift.
        frame_confidence: [windows] float32 confidence of every window, median-filtered.
    """

    min_distance: float
    confidence: float
    offset: int
    mean_distance: Floats32
    frame_confidence: Floats32

    @property
    def unshifted_distance(self) -> float:
        """Mean distance of picture and sound where they stand."""
        return float(self.mean_distance[len(self.mean_distance) // 2])

    @property
    def num_windows(self) -> int:
        """Windows of five frames that were scored."""
        return len(self.frame_confidence)


def shifted_distances(video: Floats32, audio: Floats32, max_shift: int = MAX_SHIFT) -> Floats32:
    """Euclidean distance of every video window to the audio windows around it.

    Audio windows beyond either end of the clip are zero vectors and take part, as published.

    Args:
        video: [windows, features] embeddings of consecutive picture windows.
        audio: [windows, features] embeddings of the sound at the same places.
        max_shift: windows to look to each side.

    Returns:
        [windows, 2 * max_shift + 1] float32; column j compares with the sound j - max_shift windows later.
    """
    if video.shape != audio.shape or video.ndim != 2 or len(video) == 0:
        raise ValueError(f"need equally many video and audio windows, got {video.shape} and {audio.shape}")
    padded = np.pad(audio, ((max_shift, max_shift), (0, 0)))
    distances = np.empty((len(video), 2 * max_shift + 1), dtype=np.float32)
    for column in range(2 * max_shift + 1):
        difference = video - padded[column : column + len(video)] + np.float32(DISTANCE_EPS)
        distances[:, column] = np.sqrt(np.square(difference, dtype=np.float64).sum(axis=1))
    return distances


def sync_score(video: Floats32, audio: Floats32, max_shift: int = MAX_SHIFT) -> SyncScore:
    """Score one track; arguments as in :func:`shifted_distances`."""
    distances = shifted_distances(video, audio, max_shift)
    mean = distances.mean(axis=0, dtype=np.float64).astype(np.float32)
    best = int(np.argmin(mean))
    median = np.median(mean)
    return SyncScore(
        min_distance=float(mean[best]),
        confidence=float(median - mean[best]),
        offset=max_shift - best,
        mean_distance=mean,
        frame_confidence=median_filter(median - distances[:, best], MEDIAN_LENGTH),
    )


def best_offset(video: Floats32, audio: Floats32, windows: slice, max_shift: int = MAX_SHIFT) -> int:
    """Offset of a stretch of a longer recording, found with the real sound around the stretch.

    :func:`sync_score` puts zero vectors beyond the ends of what it is given, which in a short stretch decides many
    of the larger shifts. Here every shift is judged by the pairs that exist.

    Args:
        video: [windows, features] embeddings of the whole recording.
        audio: [windows, features] likewise.
        windows: the stretch.
        max_shift: windows to look to each side.

    Returns:
        Frames; positive: the matching sound comes before the picture, as in :class:`SyncScore`.
    """
    places = np.arange(len(video))[windows]
    means = np.full(2 * max_shift + 1, np.inf)
    for column, shift in enumerate(range(-max_shift, max_shift + 1)):
        seen = places[(places + shift >= 0) & (places + shift < len(audio))]
        if len(seen):
            means[column] = np.linalg.norm(video[seen] - audio[seen + shift], axis=1).mean()
    return max_shift - int(np.argmin(means))


def pairwise_accuracy(video: Floats32, audio: Floats32, min_shift: int, length: int = 1) -> float | None:
    """How often the picture lies nearer to its own sound than to sound from elsewhere in the same recording.

    Every stretch of ``length`` windows is compared, by its mean distance, with the same stretch under every shift
    of at least ``min_shift`` windows that the recording allows; a tie counts half. Chance is 0.5.

    Args:
        video: [windows, features] embeddings.
        audio: [windows, features] embeddings of the sound at the same places.
        min_shift: windows (frames of 40 ms).
        length: windows whose distances are averaged before they are compared.

    Returns:
        Share in [0, 1]; None if the recording is too short for any comparison.
    """
    squares = (video**2).sum(axis=1)[:, None] + (audio**2).sum(axis=1) - 2.0 * (video @ audio.T)
    distances = np.sqrt(np.maximum(squares, 0.0))
    own = np.diagonal(distances)
    right, total = 0.0, 0
    for shift in range(min_shift, len(own) - length + 1):
        for sign in (-1, 1):
            shifted = _moving_mean(np.diagonal(distances, sign * shift), length)
            synced = _moving_mean(own[shift:] if sign < 0 else own[: len(own) - shift], length)
            right += float((synced < shifted).sum() + 0.5 * (synced == shifted).sum())
            total += len(synced)
    return right / total if total else None


def _moving_mean(values: npt.NDArray[np.floating], length: int) -> npt.NDArray[np.floating]:
    return np.lib.stride_tricks.sliding_window_view(values, length).mean(axis=1)


def median_filter(values: npt.NDArray[Real], length: int) -> npt.NDArray[Real]:
    """Running median of odd ``length`` with zeros beyond both ends, as the published protocol has it.

    Args:
        values: [N] numbers.
        length: odd window length.

    Returns:
        [N] of the same type.
    """
    padded = np.pad(values, length // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, length)
    return np.asarray(np.median(windows, axis=1), dtype=values.dtype)

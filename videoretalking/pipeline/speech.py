"""The driving speech: its spectrogram, silence gated, and the window that drives each frame.

Spectrogram columns of faint noise make lip-sync networks move the mouth, the fifth most frequent complaint of
users. The silence gate replaces such columns by those of digital silence, so that the mouth comes to rest where
nobody speaks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import MEL_COLUMNS_PER_SECOND, MEL_WINDOW, SAMPLE_RATE
from videoretalking.media.audio import load_waveform
from videoretalking.media.mel import SILENCE, mel_spectrogram, mel_window_at, speech_activity, window_start

_RAMP_SECONDS = 0.06  # over which the gate opens and closes, so that the mouth does not snap


@dataclass(frozen=True)
class Speech:
    """What the networks hear.

    Attributes:
        path: the audio file.
        duration: seconds.
        mel: [80, C] log-mel in [-4, 4], silence gated.
        gate: [C] 1 in speech .. 0 in silence; all 1 without the gate.
    """

    path: Path
    duration: float
    mel: Floats32
    gate: Floats32

    def windows(self, times: Sequence[float]) -> torch.Tensor:
        """[N, 80, 16] float32 window of each frame, cut at its own time."""
        return torch.from_numpy(np.stack([mel_window_at(self.mel, time) for time in times]))

    def activity(self, time: float) -> float:
        """Mean of the gate over a frame's window; 0 outside the audio."""
        start = max(0, window_start(time))
        return float(self.gate[start : start + MEL_WINDOW].sum() / MEL_WINDOW)


def load_speech(path: str | Path, gated: bool = True) -> Speech:
    """Read the driving audio.

    Args:
        path: any file with sound.
        gated: silence faint columns.

    Raises:
        UserError: unreadable file or no sound in it.
    """
    return speech_of(load_waveform(path), gated, path)


def speech_of(wave: Floats32, gated: bool = True, path: str | Path = "") -> Speech:
    """The driving audio from its samples.

    Args:
        wave: [n] mono float32 at 16 kHz in [-1, 1].
        gated: silence faint columns.
        path: where it comes from.
    """
    mel = mel_spectrogram(wave)
    gate = speech_gate(wave) if gated else np.ones(mel.shape[1], np.float32)
    return Speech(Path(path), len(wave) / SAMPLE_RATE, apply_gate(mel, gate), gate)


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

"""The driving speech: its spectrogram, silence gated, and the window that drives each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import MEL_WINDOW, SAMPLE_RATE
from videoretalking.media.audio import load_waveform
from videoretalking.media.mel import mel_spectrogram, mel_window_at, window_start
from videoretalking.pipeline.silence import apply_gate, speech_gate


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
        gated: silence faint columns, see :mod:`pipeline.silence`.

    Raises:
        UserError: unreadable file or no sound in it.
    """
    wave = load_waveform(path)
    mel = mel_spectrogram(wave)
    gate = speech_gate(wave) if gated else np.ones(mel.shape[1], np.float32)
    return Speech(Path(path), len(wave) / SAMPLE_RATE, apply_gate(mel, gate), gate)

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.media.mel import SILENCE
from videoretalking.pipeline.speech import apply_gate, speech_gate

RATE = 16_000


def _voice(seconds: float, level: float = 0.1) -> np.ndarray:
    """Noise in syllables of a quarter of a second."""
    time = np.arange(int(seconds * RATE)) / RATE
    noise = np.random.default_rng(0).standard_normal(len(time))
    return (level * noise * (0.55 + 0.45 * np.sin(2 * np.pi * 4 * time))).astype(np.float32)


def test_digital_silence_is_closed() -> None:
    assert speech_gate(np.zeros(RATE, np.float32)).max() == 0


def test_speech_is_open() -> None:
    gate = speech_gate(_voice(1.0))
    assert gate.shape == (81,)
    assert gate.min() > 0.99


def test_a_pause_with_room_noise_closes_softly() -> None:
    gate = speech_gate(np.concatenate([_voice(1.0), _voice(1.0, 2e-4), _voice(1.0)]))
    assert gate[10:75].min() > 0.99
    assert gate[110:130].max() == 0  # the middle of the pause
    assert np.abs(np.diff(gate)).max() < 0.2


@pytest.mark.parametrize("count", [1, 160, 199, 200, 201, 4000])
def test_short_inputs(count: int) -> None:
    gate = speech_gate(np.full(count, 0.1, np.float32))
    assert gate.shape == (1 + count // 200,)
    assert np.isfinite(gate).all()


def test_applying_the_gate() -> None:
    mel = np.random.default_rng(0).uniform(-4, 4, (80, 5)).astype(np.float32)
    gated = apply_gate(mel, np.array([1, 1, 0, 0, 0.5], np.float32))
    np.testing.assert_allclose(gated[:, :2], mel[:, :2], atol=1e-6)
    assert (gated[:, 2:4] == SILENCE).all()
    np.testing.assert_allclose(gated[:, 4], (mel[:, 4] + SILENCE) / 2, atol=1e-6)

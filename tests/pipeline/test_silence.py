from __future__ import annotations

import numpy as np
import pytest

from pipeline.silence import SILENT_MEL, apply_gate, speech_gate

RATE = 16_000


def _voice(seconds: float, level: float = 0.1) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(int(seconds * RATE))
    return (level * noise).astype(np.float32)


def test_digital_silence_and_faint_hiss_are_closed() -> None:
    assert speech_gate(np.zeros(RATE, np.float32)).max() == 0
    assert speech_gate(_voice(1.0, 1e-4)).max() == 0


def test_speech_is_open() -> None:
    assert speech_gate(_voice(1.0)).min() == pytest.approx(1.0)
    assert len(speech_gate(_voice(1.0))) == 81


def test_a_pause_with_room_noise_closes_softly_and_late() -> None:
    signal = np.concatenate([_voice(1.0), _voice(1.0, 2e-4), _voice(1.0)])
    gate = speech_gate(signal)
    assert gate[:80].min() == pytest.approx(1.0)
    assert gate[110:130].max() == 0  # the middle of the pause
    assert gate[84] == pytest.approx(1.0)  # the end of a word is not cut
    assert np.abs(np.diff(gate)).max() < 0.2


def test_quiet_words_within_loud_speech_stay_open() -> None:
    signal = np.concatenate([_voice(1.0, 0.2), _voice(0.5, 0.01), _voice(1.0, 0.2)])
    assert speech_gate(signal).min() == pytest.approx(1.0)


@pytest.mark.parametrize("count", [1, 160, 199, 200, 201, 4000])
def test_short_inputs(count: int) -> None:
    gate = speech_gate(np.full(count, 0.1, np.float32))
    assert gate.shape == (1 + count // 200,)
    assert np.isfinite(gate).all()


def test_applying_the_gate() -> None:
    mel = np.random.default_rng(0).uniform(-4, 4, (80, 5)).astype(np.float32)
    gated = apply_gate(mel, np.array([1, 1, 0, 0, 0.5], np.float32))
    np.testing.assert_allclose(gated[:, :2], mel[:, :2], atol=1e-6)
    assert (gated[:, 2:4] == SILENT_MEL).all()
    np.testing.assert_allclose(gated[:, 4], (mel[:, 4] + SILENT_MEL) / 2, atol=1e-6)

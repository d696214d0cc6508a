from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from media_clips import noise_bursts

from videoretalking.core.errors import UserError
from videoretalking.media.audio import load_waveform
from videoretalking.media.mel import (
    SILENCE,
    mel_filter_bank,
    mel_spectrogram,
    mel_window_at,
    speech_activity,
)
from videoretalking.scripts.parity.published.audio import official_chunks

ROOT = Path(__file__).resolve().parents[2]


def reference_mel(wave: np.ndarray) -> np.ndarray:
    """The published recipe on another library's transform."""
    emphasized = np.append(wave[0], wave[1:] - 0.97 * wave[:-1])
    spectrum = torch.stft(
        torch.from_numpy(emphasized),
        n_fft=800,
        hop_length=200,
        window=torch.hann_window(800, dtype=torch.float64),
        pad_mode="constant",
        return_complex=True,
    )
    decibels = 20 * np.log10(np.maximum(1e-5, mel_filter_bank() @ spectrum.abs().numpy())) - 20
    return np.clip(8 * (decibels + 100) / 100 - 4, -4, 4)


def test_spectrogram_follows_the_published_recipe() -> None:
    wave = noise_bursts(16000, 1.3)[0].astype(np.float64)
    mel = mel_spectrogram(wave)
    assert mel.dtype == np.float32
    assert np.abs(mel - reference_mel(wave)).max() < 2e-5
    assert mel.std() > 1


def test_filter_bank_is_that_of_the_published_program() -> None:
    bank = (
        mel_filter_bank()
    )  # figures of librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    assert bank.shape == (80, 401)
    assert bank.argmax(axis=1)[[0, 1, 2, 30, 39]].tolist() == [5, 6, 8, 60, 83]
    assert bank.sum(axis=1)[:4] == pytest.approx([0.04936409, 0.04936408, 0.0503047, 0.05156082], abs=1e-7)
    assert bank.max(axis=1)[:3] == pytest.approx([0.02081245, 0.02248531, 0.02562265], abs=1e-7)


def test_silence_lengths_and_long_audio() -> None:
    assert (mel_spectrogram(np.zeros(4000)) == SILENCE).all()
    assert [mel_spectrogram(np.zeros(n)).shape[1] for n in (0, 1, 199, 200, 400, 16000)] == [
        1,
        1,
        1,
        2,
        3,
        81,
    ]
    long = np.tile(noise_bursts(16000, 10.0)[0], 6)  # more than one block of columns
    whole, part = mel_spectrogram(long), mel_spectrogram(long[40 * 16000 :])
    assert np.abs(whole[:, 40 * 80 + 4 :] - part[:, 4:]).max() < 1e-5


def test_bad_waves_are_refused() -> None:
    with pytest.raises(ValueError, match="one channel"):
        mel_spectrogram(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="not finite"):
        mel_spectrogram(np.array([0, np.nan]))


def test_windows_follow_the_frame_s_own_time() -> None:
    mel = np.arange(200, dtype=np.float32)[None].repeat(80, axis=0)
    assert mel_window_at(mel, 0.0)[0].tolist() == list(range(16))
    assert mel_window_at(mel, 1.0)[3].tolist() == list(range(80, 96))
    assert mel_window_at(mel, 0.999)[0, 0] == 79
    assert mel_window_at(mel, 0.5, width=4)[0].tolist() == [40, 41, 42, 43]
    # times that count frames give the published columns, also where i / 25 falls a hair short
    starts = official_chunks(200, 25.0)[:-1, 0]
    assert [int(mel_window_at(mel, i / 25)[0, 0]) for i in range(len(starts))] == starts.tolist()


def test_windows_outside_the_sound_are_silent() -> None:
    mel = np.ones((80, 100), np.float32)
    early, late = mel_window_at(mel, -0.1), mel_window_at(mel, 1.2)
    assert early[0].tolist() == [SILENCE] * 8 + [1] * 8
    assert late[0].tolist() == [1] * 4 + [SILENCE] * 12
    assert (mel_window_at(mel, 99.0) == SILENCE).all()
    late[:] = 7
    assert mel.max() == 1


def test_training_machines_need_no_media_libraries() -> None:
    blocked = (
        "import sys; sys.modules.update(dict.fromkeys(('av', 'librosa', 'scipy', 'PIL'))); "
        "import videoretalking.media.mel"
    )
    subprocess.run([sys.executable, "-c", blocked], cwd=ROOT, check=True)


def test_a_machine_where_librosa_can_keep_nothing_gets_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unwritable(ModuleType):
        def __getattr__(self, name: str) -> None:
            raise RuntimeError(
                "cannot cache function '__o_fold': no locator available for file 'notation.py'"
            )

    monkeypatch.setitem(sys.modules, "librosa", Unwritable("librosa"))
    with pytest.raises(UserError, match=r"no locator available .* NUMBA_CACHE_DIR"):
        mel_spectrogram(np.zeros(400))


def speech_with_pause() -> np.ndarray:
    """Syllables of noise in the first and third second, faint room noise throughout."""
    rng = np.random.default_rng(0)
    wave = rng.normal(0, 1e-3, 48000)
    syllables = noise_bursts(16000, 1.0)[0]
    wave[:16000] += syllables
    wave[32000:] += syllables
    return wave


@pytest.mark.parametrize("decibels", [0, -20, -50])
def test_speech_and_pause_are_told_apart_at_any_level(decibels: int) -> None:
    quantized = np.round(speech_with_pause() * 10 ** (decibels / 20) * 32768) / 32768
    active = speech_activity(quantized)
    assert active.shape == (mel_spectrogram(quantized).shape[1],)
    assert active[:60].mean() > 0.9
    assert not active[105:150].any()
    assert active[175:230].mean() > 0.9


def test_short_silence_is_closed_inside_speech_but_not_before_and_after_it() -> None:
    lead = np.zeros(2880)  # 0.18 s, shorter than the pauses that are closed inside speech
    syllables = noise_bursts(16000, 1.0)[0]
    active = speech_activity(np.concatenate([lead, syllables, lead]))
    assert not active[:4].any() and not active[-4:].any()
    inside = speech_activity(np.concatenate([syllables, lead, syllables]))
    assert inside[70:110].all()


def test_silence_and_steady_noise_are_no_speech() -> None:
    rng = np.random.default_rng(0)
    hum = 0.05 * np.sin(2 * np.pi * 150 * np.arange(32000) / 16000)
    for wave in (
        np.zeros(32000),
        rng.integers(-1, 2, 32000) / 32768,
        rng.normal(0, 0.01, 32000),
        hum,
        np.zeros(0),
    ):
        assert not speech_activity(wave).any()


def test_a_few_words_in_a_long_recording_are_found() -> None:
    wave = np.random.default_rng(0).normal(0, 1e-3, 16000 * 60)
    wave[16000 * 30 : 16000 * 31] += noise_bursts(16000, 1.0)[0]
    active = np.flatnonzero(speech_activity(wave)) / 80
    assert 29.8 < active.min() < 30.1
    assert 30.6 < active.max() < 31.2


def test_clicks_are_no_speech_and_short_sounds_are() -> None:
    wave = speech_with_pause()
    wave[24000:24020] = 0.9
    assert not speech_activity(wave)[105:150].any()
    assert speech_activity(noise_bursts(16000, 0.1)[0][:1600]).any()


def test_activity_of_real_recordings(media_dir: Path) -> None:
    quiet, silent = (
        load_waveform(media_dir / "hostile" / f"a_{name}.wav") for name in ("very_quiet", "silent")
    )
    assert speech_activity(quiet).mean() > 0.8
    assert not speech_activity(silent).any()
    reading = speech_activity(load_waveform(media_dir / "audio" / "en_f0132_24s_16k.wav"))
    assert 0.8 < reading.mean() < 0.95
    assert not reading[10:70].any()  # the reader starts after one second

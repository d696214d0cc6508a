from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from media_clips import delay, noise_bursts, picture, write_clip, write_float_wav, write_wav

from videoretalking.core.errors import UserError
from videoretalking.media.audio import audio_info, load_waveform, read_audio


def tone(rate: int, frequency: float = 440.0, seconds: float = 0.5) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate))[None].astype(
        np.float32
    )


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
def test_any_rate_becomes_16_khz_in_place(tmp_path: Path, rate: int) -> None:
    wave = load_waveform(write_wav(tmp_path / "a.wav", tone(rate), rate))
    assert wave.dtype == np.float32
    assert abs(len(wave) - 8000) <= 1
    inner = slice(200, 7800)
    assert np.abs(wave[inner] - tone(16000)[0][inner]).max() < 2e-3


def test_another_rate_can_be_asked_for(tmp_path: Path) -> None:
    assert len(load_waveform(write_wav(tmp_path / "a.wav", tone(16000), 16000), sample_rate=24000)) == 12000


def test_stereo_is_averaged_and_canceling_channels_are_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left, right = noise_bursts(16000, 0.5, seed=1)[0], noise_bursts(16000, 0.5, seed=2)[0]
    mixed = load_waveform(write_wav(tmp_path / "a.wav", np.stack([left, right]), 16000))
    assert np.abs(mixed - (left + right) / 2).max() < 1e-4
    with caplog.at_level(logging.WARNING, "media"):
        alone = load_waveform(write_wav(tmp_path / "b.wav", np.stack([0.5 * left, -0.52 * left]), 16000))
    assert np.abs(alone + 0.52 * left).max() < 1e-4
    assert "channel 2 alone" in caplog.text


def test_six_channels_are_mixed_with_the_center_in_front(tmp_path: Path) -> None:
    channels = np.zeros((6, 8000), np.float32)
    channels[2] = noise_bursts(16000, 0.5)[0]  # center: where films speak
    wav = write_wav(tmp_path / "a.wav", channels, 16000)
    mixed = load_waveform(wav)
    assert np.corrcoef(mixed, channels[2])[0, 1] > 0.999
    assert np.abs(mixed).max() > 0.3 * np.abs(channels).max()
    assert {block.shape[0] for block, _ in read_audio(wav)} == {6}


def test_samples_that_are_no_numbers_become_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    samples = tone(16000)
    samples[0, 1000:1010] = (np.nan, np.inf, -np.inf, *[np.nan] * 7)
    with caplog.at_level(logging.WARNING, "media"):
        wave = load_waveform(write_float_wav(tmp_path / "a.wav", samples, 16000))
    assert np.isfinite(wave).all()
    assert (wave[1000:1010] == 0).all()
    assert np.abs(np.delete(wave - tone(16000)[0], np.arange(1000, 1010))).max() < 1e-6
    assert "10 samples were not numbers" in caplog.text


def test_float_files_far_above_full_scale_are_scaled_and_others_are_not(tmp_path: Path) -> None:
    loud = load_waveform(write_float_wav(tmp_path / "a.wav", 16 * tone(16000), 16000))
    assert np.abs(loud).max() == pytest.approx(1.0)
    slightly = load_waveform(write_float_wav(tmp_path / "b.wav", 3 * tone(16000), 16000))
    assert np.abs(slightly).max() == pytest.approx(1.5, abs=1e-3)


def test_header_sizes_that_lie(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", tone(16000), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4  # as streaming writers leave them
    path.write_bytes(data)
    assert len(load_waveform(path)) == 8000
    path.write_bytes(data[: 44 + 2 * 4000 + 1])  # and cut in the middle of a sample
    assert 3000 < len(load_waveform(path)) <= 4000  # PyAV 17 drops the whole last block


def test_no_sound_is_said(tmp_path: Path) -> None:
    silent = tmp_path / "silent.mp4"
    write_clip(silent, [picture(64, 48)], [0.0])
    empty = write_wav(tmp_path / "empty.wav", np.zeros((1, 0), np.float32), 16000)
    text = tmp_path / "text.wav"
    text.write_text("no sound\n" * 20)
    for path, says in ((silent, "no audio stream"), (empty, "without samples"), (text, "cannot be read")):
        with pytest.raises(UserError, match=says) as raised:
            load_waveform(path)
        assert path.name in str(raised.value)


def test_the_sound_of_a_video_lies_on_the_video_s_time_line(tmp_path: Path) -> None:
    sound = noise_bursts(16000, 1.0)
    wav = write_wav(tmp_path / "a.wav", sound, 16000)
    path = tmp_path / "a.mp4"
    write_clip(path, [picture(64, 48)] * 2, [0.5, 1.0], audio=wav)
    assert delay(sound[0], load_waveform(path)) == 0


def test_facts(tmp_path: Path) -> None:
    info = audio_info(write_wav(tmp_path / "a.wav", np.tile(tone(22050), (2, 1)), 22050))
    assert (info.codec, info.sample_rate, info.channels) == ("pcm_s16le", 22050, 2)
    assert info.duration == pytest.approx(0.5)


# seconds, and the range that the loudest sample must lie in
HOSTILE = {
    "a_silent.wav": (3.0, 0.0, 0.0),
    "a_clipped.wav": (3.0, 0.9, 1.1),
    "a_very_quiet.wav": (3.0, 1e-4, 1e-2),
    "a_stereo_48k.wav": (0.8, 0.3, 1.0),
    "a_stereo_antiphase_44k1.wav": (0.8, 0.3, 1.0),
    "a_8k_mono.wav": (3.0, 0.3, 1.1),
    "a_u8.wav": (3.0, 0.3, 1.1),
    "a_24bit_48k.wav": (0.8, 0.3, 1.1),
    "a_speech.mp3": (3.0, 0.3, 1.1),
    "a_speech.m4a": (3.0, 0.3, 1.1),
    "a_streamed_sizes.wav": (3.0, 0.3, 1.1),
    "a_truncated.wav": (1.5, 0.3, 1.1),
    "a_nan_float.wav": (1.5, 0.3, 1.1),
    "a_float_over_range.wav": (1.5, 0.99, 1.01),
    "a_10ms.wav": (0.01, 0.1, 1.0),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_sounds_that_should_load(media_dir: Path, name: str) -> None:
    wave = load_waveform(media_dir / "hostile" / name)
    seconds, low, high = HOSTILE[name]
    assert len(wave) / 16000 == pytest.approx(seconds, abs=0.02)
    assert np.isfinite(wave).all()
    assert low <= np.abs(wave).max() <= high


@pytest.mark.parametrize(
    "name", ["a_corrupt_header.wav", "a_zero_length.wav", "a_zero_byte.wav", "a_text.wav", "v_1frame.mp4"]
)
def test_hostile_sounds_that_should_be_refused(media_dir: Path, name: str) -> None:
    with pytest.raises(UserError, match=name):
        load_waveform(media_dir / "hostile" / name)

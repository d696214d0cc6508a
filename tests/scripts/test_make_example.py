from __future__ import annotations

from pathlib import Path

import numpy as np

from videoretalking.media.audio import audio_info, load_waveform
from videoretalking.media.images import load_image
from videoretalking.media.mel import speech_activity
from videoretalking.scripts import make_example

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_the_committed_example_is_small_and_what_its_readme_says() -> None:
    portrait, speech = EXAMPLES / make_example.PORTRAIT, EXAMPLES / make_example.SPEECH
    assert portrait.stat().st_size < 300 * 1024
    assert speech.stat().st_size < 250 * 1024
    assert load_image(portrait).shape == (384, 384, 3)
    info = audio_info(speech)
    assert (info.sample_rate, info.channels) == (16000, 1)
    assert 5.5 < info.duration < 7.0
    active = speech_activity(load_waveform(speech))
    assert 0.8 < active.mean() < 0.95
    assert not active[215:235].any()  # the pause between the sentences


def test_the_portrait_is_the_one_that_the_script_cuts() -> None:
    difference = load_image(EXAMPLES / make_example.PORTRAIT) - make_example.portrait().astype(float)
    assert np.abs(difference).mean() < 3  # JPEG


def test_wav_keeps_the_samples(tmp_path: Path) -> None:
    samples = np.linspace(-1, 1, 500, dtype=np.float32)
    make_example.write_wav(tmp_path / "a.wav", samples)
    assert np.abs(load_waveform(tmp_path / "a.wav") - samples).max() < 1e-4

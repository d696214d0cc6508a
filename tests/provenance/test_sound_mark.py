"""The mark of the sound: inaudible by measure, found after what sounds go through, never found where it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile
from scipy.signal import butter, lfilter, resample_poly

from videoretalking.core.arrays import Floats32
from videoretalking.core.errors import UserError
from videoretalking.provenance.audio import AudioMark
from videoretalking.provenance.audio_cells import CELL, GROUPS, PERIOD, RATE, make_pattern
from videoretalking.provenance.audio_search import AudioSearch, detect_audio
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload

PAYLOAD = Payload(0x123456789ABC)
OTHER_KEY = Key(b"another key of tests, 32 bytes..", "other")


def speech(seconds: float, seed: int = 0, rate: int = RATE) -> Floats32:
    """Made-up speech: a gliding pulse train and hiss in turns, through resonances, in syllables with pauses."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    pitch = 130 + 30 * np.sin(2 * np.pi * 0.7 * np.arange(count) / rate)
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0.0)
    parts = []
    for start in range(0, count, rate // 6):
        source = pulses[start : start + rate // 6] + 0.02 * rng.normal(
            size=len(pulses[start : start + rate // 6])
        )
        if rng.random() < 0.25:
            source = 0.2 * rng.normal(size=len(source))
        sound = source
        for low, high in ((300, 900), (1000, 2600), (2400, 4500)):
            center = rng.uniform(low, high)
            sound = sound + 3 * lfilter(*butter(1, [0.9 * center, 1.1 * center], "band", fs=rate), source)
        parts.append(sound * np.hanning(len(source)) * rng.choice([0.05, 1.0, 0.6]))
    wave = np.concatenate(parts) + 1e-4 * rng.normal(size=count)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.fixture(scope="module")
def plain() -> Floats32:
    return speech(6.0)


@pytest.fixture(scope="module")
def marked(plain: Floats32) -> Floats32:
    return AudioMark(PUBLIC_KEY, PAYLOAD).apply(plain, RATE)


def test_pattern_gives_every_bit_its_share_and_no_cell_twice() -> None:
    pattern = make_pattern(PUBLIC_KEY)
    counts = np.bincount(pattern.groups.ravel(), minlength=GROUPS)
    assert counts.min() >= 8
    assert counts.max() <= 9
    assert np.count_nonzero(pattern.sync) == pattern.signs.size // 4
    assert (make_pattern(OTHER_KEY).signs == pattern.signs).mean() == pytest.approx(0.5, abs=0.05)


def test_mark_is_found_in_full_with_its_place(plain: Floats32, marked: Floats32) -> None:
    found = detect_audio(marked, PUBLIC_KEY)
    assert found.found
    assert found.payload == PAYLOAD
    assert found.speed == 1.0
    assert found.log_p < -100
    late = detect_audio(marked[4321:], PUBLIC_KEY)
    assert late.payload == PAYLOAD
    assert late.offset == pytest.approx((PERIOD * CELL - 4321) / RATE, abs=0.003)


def test_mark_is_not_found_where_it_is_not(plain: Floats32, marked: Floats32) -> None:
    for wave, key in ((plain, PUBLIC_KEY), (marked, OTHER_KEY)):
        found = detect_audio(wave, key)
        assert not found.found
        assert found.payload is None
        assert found.log_p > np.log(1e-3)


def test_mark_lies_well_below_the_sound_and_leaves_silence_alone(plain: Floats32, marked: Floats32) -> None:
    difference = marked - plain
    assert 10 * np.log10(np.square(plain).sum() / np.square(difference).sum()) > 13
    quiet = plain.copy()
    quiet[2 * RATE : 3 * RATE] = 0
    written = AudioMark(PUBLIC_KEY, PAYLOAD).apply(quiet, RATE)
    assert np.abs(written[2 * RATE + 512 : 3 * RATE - 512]).max() < 1e-7
    power = np.square(np.abs(np.fft.rfft(difference)))
    frequency = np.fft.rfftfreq(len(plain), 1 / RATE)
    assert power[(frequency < 350) | (frequency > 6700)].sum() < 1e-3 * power.sum()


@pytest.mark.parametrize("start", [0.0, 1.3, 3.77])
def test_two_seconds_hold_the_whole_message(marked: Floats32, start: float) -> None:
    first = round(start * RATE)
    assert detect_audio(marked[first : first + 2 * RATE], PUBLIC_KEY).payload == PAYLOAD


def test_attacks_of_a_studio(marked: Floats32) -> None:
    rng = np.random.default_rng(1)
    level = np.sqrt(np.square(marked).mean())
    attacks = {
        "louder": 3.16 * marked,
        "softer": 0.316 * marked,
        "turned over": -marked,
        "noise": marked + 0.1 * level * rng.normal(size=len(marked)),
        "faster": resample_poly(marked, 100, 103),
        "slower": resample_poly(marked, 103, 100),
        "16 bits, clipped": np.clip(np.round(marked * 65536) / 32768, -0.5, 0.5),
        "telephone": lfilter(*butter(4, [300, 3400], "band", fs=RATE), marked),
    }
    lost = [
        name
        for name, wave in attacks.items()
        if detect_audio(wave.astype(np.float32), PUBLIC_KEY).payload != PAYLOAD
    ]
    assert not lost


def test_speed_is_told(marked: Floats32) -> None:
    found = detect_audio(resample_poly(marked, 100, 103).astype(np.float32), PUBLIC_KEY)
    assert found.speed == pytest.approx(1.03, abs=0.002)


@pytest.mark.parametrize("rate", [44_100, 48_000, 11_025])
def test_mark_is_written_at_any_rate_into_all_channels(rate: int) -> None:
    left = speech(4.0, rate=rate)
    stereo = np.stack([left, 0.5 * np.roll(left, 40)])
    written = AudioMark(PUBLIC_KEY, PAYLOAD).apply(stereo, rate)
    assert written.shape == stereo.shape
    assert written.dtype == np.float32
    for wave in (written, written[:1], written[1:], written * [[1], [-1]]):
        assert detect_audio(wave.astype(np.float32), PUBLIC_KEY, rate).payload == PAYLOAD


def test_stream_is_the_same_however_it_is_cut() -> None:
    wave = np.stack([speech(37.0, rate=11_025)] * 2)
    mark = AudioMark(PUBLIC_KEY, PAYLOAD)
    whole = mark.apply(wave, 11_025)
    cuts = np.split(wave, [1, 5000, 5001, 200_000, 390_000], axis=1)
    streamed = np.concatenate(list(mark.stream(cuts, 11_025)), axis=1)
    np.testing.assert_array_equal(streamed, whole)
    assert whole.shape == wave.shape
    for second in (15.0, 31.0):  # where chunks meet
        first = round(second * 11_025)
        assert detect_audio(whole[:, first : first + 22_050], PUBLIC_KEY, 11_025).payload == PAYLOAD


def test_file_is_found_through_its_container(tmp_path: Path, marked: Floats32) -> None:
    path = tmp_path / "marked.wav"
    wavfile.write(path, RATE, np.round(marked * 32767).astype(np.int16))
    found = detect_audio(path, PUBLIC_KEY)
    assert found.payload == PAYLOAD
    assert sum(duration for _, duration, _ in found.pieces) == pytest.approx(6.0, abs=0.01)


def test_marked_stretch_is_found_within_a_long_sound(marked: Floats32) -> None:
    wave = np.concatenate([speech(9.0, seed=3), marked, speech(9.0, seed=4)])
    found = detect_audio(wave, PUBLIC_KEY)
    assert found.payload == PAYLOAD
    surest = min(found.pieces, key=lambda piece: piece[2])
    assert 8.0 <= surest[0] <= 13.0


def test_pieces_are_added_by_how_sure_they_are_and_weak_ones_follow() -> None:
    wave = AudioMark(PUBLIC_KEY, PAYLOAD).apply(speech(12.0, seed=5), RATE)
    level = np.sqrt(np.square(wave).mean())
    noise = level * np.random.default_rng(2).normal(size=len(wave))
    noise[4 * RATE : 8 * RATE] *= 4.0
    noise[: 4 * RATE] *= 0.7
    noise[8 * RATE :] *= 0.7
    log_ps = []
    for end in (4, 12):
        search = AudioSearch(PUBLIC_KEY)
        search.add((wave + noise)[None, : end * RATE].astype(np.float32))
        found = search.finish()
        assert found.payload == PAYLOAD
        log_ps.append(found.log_p)
    assert search._joined == 3  # the piece in the middle is not sure by itself
    assert found.pieces[1][2] > np.log(0.1)
    assert log_ps[1] < 1.3 * log_ps[0]


def test_chance_gives_no_smaller_p_values_than_it_may(plain: Floats32, marked: Floats32) -> None:
    log_ps = []
    for number in range(30):
        key = Key(b"a key of a test, number " + bytes([number]))
        wave = (plain, marked)[number % 2][2000 * number :][: 2 * RATE]
        log_ps.append(detect_audio(wave, key).log_p)
    assert np.mean(np.array(log_ps) < np.log(0.1)) <= 0.1
    assert min(log_ps) > np.log(1e-3)


def test_search_holds_a_few_pieces_at_most() -> None:
    search = AudioSearch(PUBLIC_KEY)
    block = np.zeros((1, RATE), np.float32)
    for _ in range(60):
        search.add(block)
        assert sum(wave.shape[1] for wave in search._held) <= 9 * RATE
    assert not search.finish().found


@pytest.mark.parametrize(
    "wave",
    [np.zeros(0), np.zeros(100), np.zeros(3 * RATE), np.ones(RATE), np.full(3 * RATE, 1e-20)],
    ids=["nothing", "short", "silence", "constant", "faint"],
)
def test_sounds_without_content_are_no_trouble(wave: np.ndarray) -> None:
    given = wave.astype(np.float32)
    written = AudioMark(PUBLIC_KEY, PAYLOAD).apply(given, RATE)
    assert written.shape == given.shape
    assert np.isfinite(written).all()
    assert not detect_audio(given, PUBLIC_KEY).found


def test_impossible_rates_are_refused() -> None:
    with pytest.raises(UserError, match="4000 to 384000"):
        AudioMark(PUBLIC_KEY, PAYLOAD).apply(np.zeros(10, np.float32), 0)

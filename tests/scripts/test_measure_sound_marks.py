"""The measure of the sound's mark: what it counts, and that the encoders it sends sounds through leave the mark."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.provenance.audio import AudioMark
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload
from videoretalking.scripts.measure_sound_marks import audibility, measure_attack, to_markdown
from videoretalking.scripts.sound_attacks import ATTACKS, Sound, cut, made_up_speech, with_music

PAYLOAD = Payload(77)


@pytest.fixture(scope="module")
def plain() -> Sound:
    return made_up_speech(4.0, 24_000, 3)[None], 24_000


@pytest.fixture(scope="module")
def marked(plain: Sound) -> Sound:
    return AudioMark(PUBLIC_KEY, PAYLOAD).apply(*plain), 24_000


@pytest.mark.parametrize("name", ["AAC 64k", "MP3 128k", "Opus 32k", "tempo 3 % faster, pitch kept"])
def test_mark_survives_what_players_and_editors_do(marked: Sound, name: str) -> None:
    attack = next(attack for attack in ATTACKS if attack.name == name)
    row = measure_attack(attack, [marked], PAYLOAD, PUBLIC_KEY)
    assert (row.sounds, row.bits, row.decoded, row.found) == (1, 100.0, 100.0, 100.0)


def test_sound_that_is_not_decoded_counts_half(plain: Sound, marked: Sound) -> None:
    row = measure_attack(ATTACKS[0], [plain, marked], PAYLOAD, PUBLIC_KEY)
    assert (row.bits, row.decoded, row.found) == (75.0, 50.0, 50.0)
    assert measure_attack(ATTACKS[0], [marked], PAYLOAD, Key(b"somebody else's key")).found == 0


def test_audibility_grows_with_the_change(plain: Sound, marked: Sound) -> None:
    wave, rate = plain
    twice = (wave + 2 * (marked[0] - wave), rate)
    once, more = audibility(plain, marked), audibility(plain, twice)
    assert once.segmental_snr - more.segmental_snr == pytest.approx(6.02, abs=0.1)
    assert more.noise_to_mask - once.noise_to_mask == pytest.approx(6.02, abs=0.1)
    assert once.segmental_snr > 12
    assert once.noise_to_mask < 0


def test_music_lies_six_decibels_below(plain: Sound) -> None:
    added = with_music(plain)[0] - plain[0]
    assert 10 * np.log10(np.square(plain[0]).mean() / np.square(added).mean()) == pytest.approx(6.0, abs=0.1)


def test_cut_takes_the_loudest_stretch() -> None:
    wave = np.zeros((1, 5000), np.float32)
    wave[0, 3000:4000] = 1
    assert cut((wave, 1000), 1.0)[0].sum() == 1000


def test_table_holds_every_attack(marked: Sound) -> None:
    row = {"attack": "none", "sounds": 1, "bits": 100.0, "decoded": 100.0, "found": 100.0}
    row |= {"worst_p": -12.5, "median_p": -20.0}
    figures = {
        "attacks": {"recordings": [row]},
        "audibility": {
            "a": {"segmental_snr": 14, "noise_to_mask": -3, "above_mask": 5, "spectral_distance": 1}
        },
        "false alarms": {"pieces": 8, "false_alarms": 0, "lowest_log10_p": -0.5},
    }
    text = to_markdown(figures)
    assert "| none | 100.0 | 100.0 | 100.0 | 1e-20 | 1e-12 |" in text
    assert "8 pieces of 2 s without mark: 0 found" in text

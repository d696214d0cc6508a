"""Keys, payloads and p-values of the marks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.provenance import statistics
from videoretalking.provenance.keys import PUBLIC_KEY, Key, load_key, new_key_text
from videoretalking.provenance.payload import CODE_BITS, Payload, decode, encode


def test_fields_of_a_payload_come_back() -> None:
    payload = Payload(job=0x123456789ABC, project=0xABC, version=7)
    assert payload.text == "abc7123456789abc"
    assert Payload.from_number(payload.number) == payload
    assert Payload.new() != Payload.new()
    with pytest.raises(UserError, match="48 bits"):
        Payload(job=1 << 48)


def test_code_corrects_what_noise_turned_round() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        payload = Payload(int(rng.integers(1 << 48)))
        soft = encode(payload) + rng.normal(0, 0.8, CODE_BITS)
        decoded = decode(soft)
        assert decoded.payload == payload
        assert decoded.corrected == np.count_nonzero(np.sign(soft) != encode(payload)) > 10


def test_code_bears_that_a_third_was_not_received() -> None:
    payload = Payload(42)
    soft = encode(payload)
    soft[np.random.default_rng(1).permutation(CODE_BITS)[:88]] = 0
    assert decode(soft).payload == payload


def test_taking_the_project_for_granted_bears_more_noise() -> None:
    rng = np.random.default_rng(4)
    right = {True: 0, False: 0}
    for _ in range(30):
        payload = Payload(int(rng.integers(1 << 48)))
        soft = encode(payload) + rng.normal(0, 1.3, CODE_BITS)
        for ours in right:
            right[ours] += decode(soft, ours).payload == payload
    assert 0 < right[False] < right[True], right
    other = decode(encode(Payload(42, project=1)), ours=True)
    assert other.payload is None


def test_noise_and_negated_words_are_no_payload() -> None:
    rng = np.random.default_rng(2)
    assert all(decode(rng.normal(size=CODE_BITS)).payload is None for _ in range(50))
    assert decode(-encode(Payload(42))).payload is None


def test_keys_differ_in_all_they_give() -> None:
    other = Key(b"sixteen bytes are enough")
    assert np.array_equal(PUBLIC_KEY.uniform("video", 9), PUBLIC_KEY.uniform("video", 9))
    assert not np.array_equal(PUBLIC_KEY.uniform("video", 9), other.uniform("video", 9))
    assert not np.array_equal(other.signs("video", 64), other.signs("audio", 64))
    assert sorted(other.order("video", 50)) == list(range(50))
    assert abs(other.uniform("video", 10_000).mean() - 0.5) < 0.02
    assert abs(other.signs("video", 10_000).mean()) < 0.05


def test_the_draws_of_the_public_key_never_change() -> None:
    assert PUBLIC_KEY.stream("video", 8).hex() == "cf4cacdd66bcafb3"


def test_key_files(tmp_path: Path) -> None:
    assert load_key(None) == PUBLIC_KEY
    path = tmp_path / "mine.key"
    path.write_text(new_key_text("studio"))
    assert load_key(path).name == "studio"
    path.write_text("00" * 16 + "\n")
    assert load_key(path) == Key(bytes(16), "mine")
    assert "00" not in repr(load_key(path))


@pytest.mark.parametrize("text", ["", "00ff", "no digits", '{"name": "x"}', '{"secret": 5}', "{"])
def test_bad_key_files_are_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.key"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bad\.key"):
        load_key(path)
    with pytest.raises(UserError, match=r"gone\.key"):
        load_key(tmp_path / "gone.key")


def test_p_values_bound_what_chance_gives() -> None:
    rng = np.random.default_rng(3)
    magnitudes = rng.exponential(1, 40)
    scores = (magnitudes * np.cos(rng.uniform(0, 2 * np.pi, (100_000, 40)))).sum(axis=1)
    for quantile in (0.9, 0.99, 0.999):
        bound = statistics.p_value(statistics.log_p_phases(float(np.quantile(scores, quantile)), magnitudes))
        assert 1 - quantile <= bound <= 30 * (1 - quantile)
    assert statistics.log_p_signs(4.0, np.ones(4)) == -2.0
    assert statistics.after_search(-5.0, math.log(10)) == pytest.approx(-5 + math.log(10))
    assert statistics.either(-5.0, -1.0) == pytest.approx(-5 + math.log(2))
    assert statistics.log_p_phases(-3.0, magnitudes) == 0.0

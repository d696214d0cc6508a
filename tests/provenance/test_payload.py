"""Keys, payloads and p-values of the marks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from videoretalking.core.errors import UserError
from videoretalking.provenance import statistics
from videoretalking.provenance.keys import PUBLIC_KEY, Key, load_key, new_key_text
from videoretalking.provenance.payload import CODE_BITS, Payload, decode, encode
from videoretalking.provenance.trellis import MEMORY, OPEN, Trellis, convolve


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


def test_messages_come_in_the_order_of_their_likelihood() -> None:
    rng = np.random.default_rng(7)
    soft = encode(Payload(42)) + rng.normal(0, 1.8, CODE_BITS)
    known = np.full(88, OPEN)
    known[-MEMORY:] = 0
    known[3] = 1
    trellis = Trellis(soft, known)
    last, seen = 0.0, set()
    for lost, number in trellis.messages(15.0):
        bits = np.array([number >> step & 1 for step in range(88)])
        assert bits[3] == 1 and not bits[-MEMORY:].any()
        assert convolve(bits) @ soft == pytest.approx(trellis.score - lost)
        assert last - 1e-9 <= lost <= 15.0
        last = lost
        seen.add(number)
        if len(seen) == 1:
            assert np.array_equal(bits, trellis.likeliest())
    brute = 0  # every message that differs from the best in four bits or fewer in a row
    best = trellis.likeliest()
    for start in range(77):
        for pattern in range(1, 16, 2):
            other = best.copy()
            other[start : start + 4] ^= np.array([pattern >> bit & 1 for bit in range(4)])
            if other[3] == 1 and convolve(other) @ soft >= trellis.score - 15.0:
                brute += 1
                assert sum(int(bit) << step for step, bit in enumerate(other)) in seen
    assert len(seen) > 50 and brute > 3


def test_a_list_of_messages_bears_more_noise_and_gives_no_wrong_one() -> None:
    rng = np.random.default_rng(8)
    right = {math.inf: 0, 0.0: 0}
    for _ in range(20):
        payload = Payload(int(rng.integers(1 << 48)))
        soft = encode(payload) + rng.normal(0, 1.5, CODE_BITS)
        for least in right:
            decoded = decode(soft, True, least)
            assert decoded.payload in (None, payload)
            right[least] += decoded.payload == payload
    assert right[math.inf] + 4 <= right[0.0], right


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
        sharp = statistics.log_p_phases(float(np.quantile(scores, quantile)), magnitudes, sharp=True)
        assert 1 - quantile <= statistics.p_value(sharp) <= bound
    assert statistics.log_p_signs(4.0, np.ones(4)) == pytest.approx(math.log(1 / 16), abs=0.01)
    assert statistics.after_search(-5.0, math.log(10)) == pytest.approx(-5 + math.log(10))
    assert statistics.either(-5.0, -1.0) == pytest.approx(-5 + math.log(2))
    assert statistics.log_p_phases(-3.0, magnitudes) == 0.0


def test_sharp_bound_is_within_a_third_of_a_normal_tail() -> None:
    sizes = np.ones(334)
    for deviations in (4.0, 6.0, 8.0):  # a sum of many waves is nearly normal, with lighter tails far out
        score = deviations * math.sqrt(334 / 2)
        tail = special.log_ndtr(-deviations)
        sharp = statistics.log_p_phases(score, sizes, sharp=True)
        assert tail - 0.01 * deviations**2 - 0.3 < sharp < tail + 0.3
        assert sharp < statistics.log_p_phases(score, sizes) - 1.5
    few = np.array([1.0, 1.0, 1.0])  # too few for a density that is bounded
    assert statistics.log_p_phases(2.5, few, sharp=True) == statistics.log_p_phases(2.5, few)


def test_signs_are_bounded_as_counting_says() -> None:
    for count, score in ((20, 12), (40, 20)):
        exact = sum(math.comb(count, up) for up in range((count + score) // 2, count + 1)) / 2**count
        bound = statistics.p_value(statistics.log_p_signs(score, np.ones(count)))
        assert exact <= bound <= 8 * exact

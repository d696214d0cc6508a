"""The measure of the picture's mark: what it counts, and the attacks that nobody asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.scripts import measure_marks
from videoretalking.scripts.mark_attacks import video as attacks
from videoretalking.scripts.measure_marks import Result, false_alarms, made_up_piece, table, unmarked_pictures

PAYLOAD = Payload(99)


@pytest.fixture(scope="module")
def marked() -> attacks.Frames:
    mark = VideoMark(PUBLIC_KEY, PAYLOAD)
    return [mark.apply(frame) for frame in made_up_piece(1, 480, 640)[:10]]


@pytest.mark.parametrize(
    "name", ["turn 5 degrees, CRF 23", "perspective of 4 %, CRF 23", "black bars, CRF 23", "110 %, CRF 28"]
)
def test_mark_survives_what_nobody_asked_for(name: str, marked: attacks.Frames, tmp_path: Path) -> None:
    attack = next(attack for attack in attacks.ATTACKS if attack.name == name)
    attacks.apply(attack, marked, tmp_path / "x.mkv")
    assert detect_video(tmp_path / "x.mkv", quiet=True).payload == PAYLOAD


def test_unmarked_pictures_differ_and_are_asked_for_many_keys() -> None:
    pieces = [("a", made_up_piece(2, 160, 240)[:12])]
    found = list(unmarked_pictures(pieces, 60))
    assert all(picture.shape == (144, 144) and picture.std() > 1 for picture, _ in found)
    assert [key == PUBLIC_KEY for _, key in found] == [True] * 25 + [False] * 25 + [True] * 10
    assert len({key.secret for _, key in found}) == 2
    rest = list(unmarked_pictures(pieces, 20, first=40))
    for (picture, key), (again, same) in zip(found[40:], rest, strict=True):
        assert np.array_equal(picture, again) and key == same


def test_chance_raises_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure_marks, "DRAWS", 400)
    (figures,) = false_alarms([("a", made_up_piece(2, 160, 240)[:12])], 2)
    assert figures["searches"] == 2 and figures["alarms"] == 0 and figures["lowest_log10_p"] > -3
    without = figures["share_below_without_search"]
    assert 0 < without["0.1"] <= 0.1 and without["0.01"] <= 0.02


def test_table_has_a_column_for_each_size() -> None:
    rows = [
        Result("a", side, "shift", right, True, -20.0, 1.0) for side, right in ((500, True), (288, False))
    ]
    rows.append(Result("b", 300, "shift", True, True, -20.0, 1.0))
    text = table(rows)
    assert "| attack | target | 480 and more | 280 to 479 | 0 to 279 | median log10 p |" in text
    assert "| shift | 98 % | 1 of 1 (100 %) | 1 of 2 (50 %) | - | -20 |" in text


def test_time_and_place_of_attacks() -> None:
    frames = [np.full((60, 80, 3), 10 * number, np.uint8) for number in range(10)]
    assert [int(frame[0, 0, 0]) for frame in attacks.quicker(frames)] == [0, 10, 20, 30, 50, 60, 70, 80]
    boxed = attacks.letterbox(frames[1:2])[0]
    assert boxed.shape == (80, 80, 3) and boxed[:10].max() == 0 and boxed[10:-10].min() == 10
    assert attacks.to_short_side(30)(frames)[0].shape == (30, 40, 3)
    assert attacks.to_short_side(90)(frames)[0].shape == (60, 80, 3)
    assert (attacks.inset(frames)[9][-30:, -40:] == 90).all()

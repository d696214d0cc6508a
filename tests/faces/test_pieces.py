"""Tracks that come in pieces against those of the whole video."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from scripted import Position, ScriptedDetector, frame_of

from videoretalking.core.arrays import Floats32
from videoretalking.faces.pieces import GrowingTracks, Piece, PieceCutter, PieceMaker
from videoretalking.faces.reconstruct import FitReconstructor, load_face_model
from videoretalking.faces.track import FaceTracker
from videoretalking.faces.types import FaceTrack
from videoretalking.media.picture import Picture

Script = list[list[Position]]


def measured(_: Picture, landmarks: Floats32) -> Future[Floats32]:
    """A row that tells where the face is."""
    row: Future[Floats32] = Future()
    row.set_result(np.full(262, landmarks[:, 0].mean(), np.float32))
    return row


def make_tracker(frontal: np.ndarray, script: Script) -> FaceTracker:
    detector = ScriptedDetector(frontal, script, noise=0.5)
    detector.score = 0.97  # sure enough for a minor face too
    return FaceTracker(detector, measure=measured)


def whole_of(
    frontal: np.ndarray, script: Script, scenes: list[int] | None = None, fps: float = 25.0
) -> list[FaceTrack]:
    tracker = make_tracker(frontal, script)
    for index in range(len(script)):
        tracker.update(frame_of(index, scenes[index] if scenes else 0), index / fps)
    return tracker.finish()


def pieces_of(
    frontal: np.ndarray, script: Script, scenes: list[int] | None = None, fps: float = 25.0
) -> tuple[list[FaceTrack], list[Piece], list[int]]:
    """Tracks, pieces, and the frames that were seen when each piece was known."""
    cutter, make, grown = PieceCutter(make_tracker(frontal, script)), PieceMaker(None), GrowingTracks()
    pieces, seen = [], []
    for index in range(len(script)):
        for cut in cutter.update(frame_of(index, scenes[index] if scenes else 0), index / fps):
            assert cut.draft.ready
            pieces.append(make(cut))
            seen.append(index + 1)
    pieces.append(make(cutter.finish()))
    seen.append(len(script))
    for piece in pieces:
        grown.add(piece)
    assert len(grown) == len(script)
    return grown.tracks, pieces, seen


def assert_same(found: list[FaceTrack], expected: list[FaceTrack]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("times", "shots", "present", "scores", "landmarks_raw", "landmarks"):
            assert np.array_equal(getattr(one, name), getattr(other, name)), name
        # sums that begin elsewhere round otherwise
        assert np.allclose(one.boxes, other.boxes, atol=1e-3)
        assert np.allclose(one.rows, other.rows, atol=1e-3)
        assert one.frame_size == other.frame_size and one.backend == other.backend


@pytest.mark.parametrize("fps", [12.0, 25.0, 30.0, 50.0, 60.0])
def test_pieces_of_a_long_shot_join_to_the_tracks_of_the_whole(frontal: np.ndarray, fps: float) -> None:
    time = np.arange(420) / 25
    script: Script = [
        [(float(x), float(y), 70.0)]
        for x, y in zip(150 + 40 * np.sin(0.7 * time), 120 + 10 * np.sin(3 * time), strict=True)
    ]
    for index in (*range(97, 100), *range(126, 130), *range(200, 230), *range(301, 306)):
        script[index] = []  # gaps, and an absence
    found, pieces, seen = pieces_of(frontal, script, fps=fps)
    assert_same(found, whole_of(frontal, script, fps=fps))
    assert not found[0].present[200:230].any() and found[0].present[126:130].all()
    assert len(pieces) > 8 and seen[0] == 75
    stops = np.cumsum([len(piece.times) for piece in pieces])
    assert [piece.whole for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    # what came back after the absence was looked at for three seconds
    assert max(count - stop for count, stop in zip(seen, stops, strict=True)) <= 75 + 2 * 25


def test_shots_end_pieces(frontal: np.ndarray) -> None:
    script: Script = [[(100.0 + index % 40, 120.0, 60.0)] for index in range(230)]
    script[60:90] = [[] for _ in range(30)]
    scenes = [0] * 60 + [1] * 30 + [2] * 130 + [0] * 10
    found, pieces, seen = pieces_of(frontal, script, scenes)
    assert_same(found, whole_of(frontal, script, scenes))
    assert [len(piece.times) for piece in pieces if piece.whole][:2] == [60, 30]
    assert seen[0] == 61 and len(pieces) == 7
    assert not any(piece.tracks and piece.tracks[0].present.any() for piece in pieces[1:2])


def test_two_large_faces_wait_until_it_is_sure_who_leads(frontal: np.ndarray) -> None:
    pair: Script = [[(80.0, 120.0, 50.0), (240.0, 120.0, 45.0)]] * 150
    script: Script = [*pair, *([[(240.0, 120.0, 90.0)]] * 250), *pair[:20]]
    scenes = [0] * 400 + [1] * 20
    found, pieces, seen = pieces_of(frontal, script, scenes)
    # the second outgrows the first, which is gone by then
    assert seen[0] > 150 and [piece.whole for piece in pieces].count(True) == 2
    whole = whole_of(frontal, script, scenes)
    assert np.allclose(whole[0].landmarks[10].mean(axis=0)[0], 240, atol=1)
    assert_same(found, whole)


def test_a_minor_face_beside_the_speaker_holds_nothing_up(frontal: np.ndarray) -> None:
    script: Script = [[(100.0, 120.0, 70.0), (260.0, 60.0, 25.0)]] * 300
    found, pieces, seen = pieces_of(frontal, script)
    assert_same(found, whole_of(frontal, script))
    assert len(found) == 2 and seen[0] == 75 and len(pieces) > 6


def test_who_spoke_alone_for_seconds_keeps_the_first_track(frontal: np.ndarray) -> None:
    script: Script = [[(80.0, 120.0, 45.0)]] * 120 + [[(80.0, 120.0, 45.0), (240.0, 120.0, 80.0)]] * 200
    found, _, seen = pieces_of(frontal, script)
    assert seen[0] == 75
    assert np.allclose(found[0].landmarks[[5, 310]].mean(axis=1)[:, 0], 80, atol=1)
    assert not found[1].present[:120].any() and found[1].present[140:].all()
    assert np.allclose(whole_of(frontal, script)[0].landmarks[310].mean(axis=0)[0], 240, atol=1)


def test_a_face_that_flickers_is_no_face_in_pieces_either(frontal: np.ndarray) -> None:
    script: Script = [[] for _ in range(250)]
    script[120:122] = [[(80.0, 120.0, 45.0)]] * 2
    found, pieces, seen = pieces_of(frontal, script)
    assert found == [] and whole_of(frontal, script) == []
    assert seen[0] <= 50 and len(pieces) > 5


def test_the_tracker_forgets_what_went_into_pieces(frontal: np.ndarray) -> None:
    script: Script = [[(100.0 + index % 40, 120.0, 60.0)] for index in range(1000)]
    tracker = make_tracker(frontal, script)
    cutter = PieceCutter(tracker)
    kept = 0
    for index in range(len(script)):
        cutter.update(frame_of(index, index // 500), index / 25)
        items = [*tracker._done, *tracker._alive, *tracker._lost]
        kept = max(kept, sum(len(item.faces) + len(item.rows) for item in items))
    assert kept < 2 * 150


def test_pieces_of_a_shot_share_the_identity_of_the_first(frontal: np.ndarray) -> None:
    script: Script = [[(100.0 + index % 40, 120.0, 60.0)] for index in range(300)]
    cutter = PieceCutter(FaceTracker(ScriptedDetector(frontal, script, noise=0.5)))
    make = PieceMaker(FitReconstructor(load_face_model()))
    cuts = [cut for index in range(300) for cut in cutter.update(frame_of(index, index // 200), index / 25)]
    tracks = [make(cut).tracks[0] for cut in (*cuts, cutter.finish())]
    people = [track.rows[0, :80] for track in tracks]
    shots = [int(track.shots[0]) for track in tracks]
    assert shots[:2] == [0, 0] and shots[-1] == 1
    for person, shot in zip(people, shots, strict=True):
        assert person.any() and np.array_equal(person, people[shots.index(shot)])
    assert not np.array_equal(people[0], people[-1])

"""Tracking: cuts, gaps, several faces, smoothing; with a detector that reads scripted positions."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from scripted import SIZE, Position, ScriptedDetector, frame_of, number_of

from videoretalking.core.errors import UserError
from videoretalking.faces.align import lipsync_box
from videoretalking.faces.detect import choose_detector
from videoretalking.faces.track import FaceTracker, ShotDetector, TrackerConfig, savgol, select_tracks
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.picture import Picture
from videoretalking.media.video import VideoReader


def run(
    shape: np.ndarray,
    script: list[list[Position]],
    scenes: list[int] | None = None,
    noise: float = 0.0,
    fps: float = 25.0,
    **settings: float,
) -> tuple[list[FaceTrack], ScriptedDetector]:
    detector = ScriptedDetector(shape, script, noise)
    tracker = FaceTracker(detector, TrackerConfig(**settings))  # type: ignore[arg-type]
    for index in range(len(script)):
        tracker.update(frame_of(index, scenes[index] if scenes else 0), index / fps)
    return tracker.finish(), detector


def test_one_search_then_following(frontal: np.ndarray) -> None:
    script = [[(100 + 2.0 * index, 120.0, 70.0)] for index in range(30)]
    tracks, detector = run(frontal, script)
    assert len(tracks) == 1 and tracks[0].present.all()
    assert detector.searches == [0, 12, 24]
    centers = tracks[0].landmarks.mean(axis=1)
    assert np.allclose(centers, [position[0][:2] for position in script], atol=0.05)  # lines stay lines
    assert tracks[0].backend == "scripted" and tracks[0].frame_size == SIZE
    assert np.allclose(tracks[0].times, np.arange(30) / 25)
    assert np.allclose(tracks[0].boxes[5:25], lipsync_box(tracks[0].landmarks)[5:25], atol=0.1)


def test_short_gaps_are_filled_and_long_ones_are_absence(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(100 + 2.0 * index, 120.0, 70.0)] for index in range(40)]
    for index in (*range(8, 12), *range(22, 32)):
        script[index] = []
    tracks, _ = run(frontal, script)
    assert len(tracks) == 1  # the same face before and after
    track = tracks[0]
    assert track.present.tolist() == [not 22 <= index < 32 for index in range(40)]
    assert (track.scores[8:12] == 0).all() and (track.scores[:8] > 0).all()
    centers = track.landmarks_raw.mean(axis=1)
    assert np.allclose(centers[8:12, 0], 100 + 2.0 * np.arange(8, 12), atol=0.1)
    assert not track.landmarks[22:32].any() and not track.boxes[22:32].any()
    assert [(span.start, span.stop) for span in track.present_slices()] == [(0, 22), (32, 40)]


def test_gap_of_exactly_the_limit(frontal: np.ndarray) -> None:
    for missing, filled in ((5, True), (6, False)):
        script: list[list[Position]] = [[(150.0, 120.0, 70.0)] for _ in range(30)]
        script[10 : 10 + missing] = [[] for _ in range(missing)]
        tracks, _ = run(frontal, script)
        assert tracks[0].present[10 : 10 + missing].all() == filled
        assert tracks[0].present[10 + missing :].all()


def test_cut_starts_a_shot_and_stops_smoothing(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(100.0, 120.0, 60.0)]] * 20 + [[(130.0, 110.0, 66.0)]] * 20
    tracks, detector = run(frontal, script, scenes=[0] * 20 + [1] * 20)
    assert detector.searches[:3] == [0, 12, 20]
    track = tracks[0]
    assert track.shots.tolist() == [0] * 20 + [1] * 20
    assert np.allclose(track.landmarks, track.landmarks_raw, atol=0.01)
    assert np.allclose(track.boxes[19], track.boxes[0], atol=0.01)
    assert not np.allclose(track.boxes[20], track.boxes[19], atol=1)


def test_smoothing_removes_jitter_but_not_motion(frontal: np.ndarray) -> None:
    time = np.arange(60) / 25
    x, y = 150 + 20 * np.sin(2 * np.pi * 0.8 * time), 120 + 5 * np.sin(2 * np.pi * 1.5 * time)
    script = [[(float(a), float(b), 70.0)] for a, b in zip(x, y, strict=True)]
    tracks, detector = run(frontal, script, noise=1.0)
    truth = detector.shape * 70 + np.stack([x, y], 1)[:, None]
    raw = np.sqrt(((tracks[0].landmarks_raw - truth) ** 2).mean())
    smooth = np.sqrt(((tracks[0].landmarks - truth) ** 2).mean())
    assert 0.9 < raw < 1.1 and smooth < 0.65 * raw
    off, _ = run(frontal, script, noise=1.0, smooth_seconds=0.0)
    assert np.array_equal(off[0].landmarks, off[0].landmarks_raw)


def test_two_faces_keep_their_tracks(frontal: np.ndarray) -> None:
    script: list[list[Position]] = []
    for index in range(40):
        large, small = (90 + 0.5 * index, 120.0, 60.0), (250 - 0.5 * index, 120.0, 40.0)
        script.append([small, large] if index % 3 else [large, small])
    for index in (10, 11):
        script[index] = [position for position in script[index] if position[2] == 60.0]
    tracks, _ = run(frontal, script)
    assert len(tracks) == 2
    assert np.allclose(tracks[0].landmarks.mean(axis=1)[:, 0], 90 + 0.5 * np.arange(40), atol=0.1)
    assert np.allclose(tracks[1].landmarks.mean(axis=1)[:, 0], 250 - 0.5 * np.arange(40), atol=0.1)
    assert select_tracks(tracks) == tracks[:1]
    assert select_tracks(tracks, "all") == tracks
    assert select_tracks(tracks, "1") == tracks[1:]
    with pytest.raises(UserError, match="face 2 does not exist: the video has 2"):
        select_tracks(tracks, 2)
    with pytest.raises(UserError, match="unknown face choice"):
        select_tracks(tracks, "biggest")
    with pytest.raises(UserError, match="no face"):
        select_tracks([])


def test_newcomers_are_found_and_the_largest_of_each_shot_comes_first(frontal: np.ndarray) -> None:
    first: list[list[Position]] = [[(90.0, 120.0, 60.0)]] * 5 + [
        [(90.0, 120.0, 60.0), (240.0, 120.0, 40.0)]
    ] * 20
    second: list[list[Position]] = [[(240.0, 120.0, 70.0), (90.0, 120.0, 40.0)]] * 20
    tracks, _ = run(frontal, first + second, scenes=[0] * 25 + [1] * 20)
    assert len(tracks) == 2
    assert np.allclose(tracks[0].landmarks.mean(axis=1)[:25, 0], 90, atol=0.1)
    assert np.allclose(tracks[0].landmarks.mean(axis=1)[25:, 0], 240, atol=0.1)
    assert tracks[1].present.tolist() == [False] * 12 + [True] * 33  # found by the search of frame 12


def test_face_that_jumps_away_in_one_shot_is_not_interpolated(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(60.0, 120.0, 40.0)]] * 15 + [[(260.0, 120.0, 40.0)]] * 15
    tracks, _ = run(frontal, script)
    assert len(tracks) == 1 and tracks[0].present.all()
    centers = tracks[0].landmarks.mean(axis=1)[:, 0]
    assert np.allclose(centers[:15], 60, atol=0.1) and np.allclose(centers[15:], 260, atol=0.1)


def test_flickers_are_dropped_but_stills_are_kept(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[] for _ in range(20)]
    script[7] = [(150.0, 120.0, 60.0)]
    assert run(frontal, script)[0] == []
    still, _ = run(frontal, [[(150.0, 120.0, 60.0)]])
    assert len(still) == 1 and still[0].present.tolist() == [True]
    tiny, _ = run(frontal, [[(150.0, 120.0, 5.0)]] * 5)
    assert tiny == []


def test_faces_of_low_score_and_faces_within_faces_are_dropped(frontal: np.ndarray) -> None:
    detector = ScriptedDetector(frontal, [[(150.0, 120.0, 60.0), (150.0, 140.0, 25.0)]] * 20)
    tracker = FaceTracker(detector)
    for index in range(20):
        assert len(tracker.update(frame_of(index), index / 25)) == 1
    assert len(tracker.finish()) == 1
    detector.score = 0.7
    tracker = FaceTracker(detector)
    for index in range(20):
        tracker.update(frame_of(index), index / 25)
    assert tracker.finish() == []


@pytest.mark.parametrize(
    ("size", "score", "kept"), [(20.0, 0.9, False), (20.0, 0.99, True), (40.0, 0.9, True)]
)
def test_small_unsure_faces_beside_a_large_one_are_texture(
    frontal: np.ndarray, size: float, score: float, kept: bool
) -> None:
    class Texture(ScriptedDetector):
        def face(self, position: Position) -> Face:
            face = super().face(position)
            return Face(face.box, score if position[2] == size else 0.99, face.landmarks)

    def tracks(script: list[list[Position]], scenes: list[int]) -> list[FaceTrack]:
        tracker = FaceTracker(Texture(frontal, script))
        for index, scene in enumerate(scenes):
            tracker.update(frame_of(index, scene), index / 25)
        return tracker.finish()

    speaker, other = (100.0, 120.0, 60.0), (250.0, 120.0, size)
    found = tracks([[speaker, other]] * 20, [0] * 20)
    assert len(found) == 1 + kept
    assert np.allclose(found[0].landmarks.mean(axis=1)[:, 0], 100, atol=0.1)
    # alone in its shot it may well be the speaker
    (track,) = tracks([[speaker]] * 20 + [[other]] * 20, [0] * 20 + [1] * 20)
    assert track.present.all()


def test_texture_of_a_painting_is_no_second_face(media_dir: Path) -> None:
    tracker = FaceTracker(choose_detector("bundled"))
    (image,) = frames_of(media_dir / "portraits" / "sadtalker_art_15.jpg")
    tracker.update(image, 0.0)  # finds two, the second in the painted background
    assert len(tracker.finish()) == 1


def test_rows_are_measured_on_the_frame_and_interpolated(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(150.0, 120.0, 60.0)] for _ in range(12)]
    script[5] = []
    seen: list[int] = []

    def measure(frame: Picture, landmarks: np.ndarray) -> Future[np.ndarray]:
        assert landmarks.shape == (68, 2)
        seen.append(number_of(frame.image))
        row: Future[np.ndarray] = Future()
        row.set_result(np.full(262, seen[-1], dtype=np.float32))
        return row

    tracker = FaceTracker(ScriptedDetector(frontal, script), measure=measure)
    for index in range(12):
        tracker.update(frame_of(index), index / 25)
    rows = tracker.finish()[0].rows
    assert seen == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert np.allclose(rows[:, 0], np.arange(12))


def test_tracks_so_far_are_those_of_the_end_but_for_the_last_frames(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(80 + index, 120.0, 60.0)] for index in range(60)]
    script[20:23] = [[], [], []]  # a gap
    whole, _ = run(frontal, script)
    detector = ScriptedDetector(frontal, script)
    tracker = FaceTracker(detector)
    for index in range(60):
        tracker.update(frame_of(index), index / 25)
        if index in (30, 50):
            (known,) = tracker.so_far(since=index - 20)
            inner = slice(index - 20 + 5, index - 5)  # smoothing reaches no further
            assert np.allclose(known.times, whole[0].times[index - 20 : index + 1])
            for name in ("present", "scores", "landmarks", "landmarks_raw", "boxes"):
                part = getattr(known, name)[5:-6]
                assert np.allclose(part, getattr(whole[0], name)[inner], atol=1e-3), name
    (end,) = tracker.finish()
    assert np.array_equal(end.landmarks, whole[0].landmarks)


def test_a_face_keeps_its_track_when_another_one_outgrows_it(frontal: np.ndarray) -> None:
    script: list[list[Position]] = [[(80.0, 120.0, 60.0), (250.0, 120.0, 40.0)]] * 10
    script += [[(250.0, 120.0, 90.0)]] * 40
    script += [[(80.0, 120.0, 60.0), (250.0, 120.0, 90.0)]] * 10
    detector = ScriptedDetector(frontal, script)
    detector.search_every = 1
    tracker = FaceTracker(detector)
    for index in range(len(script)):
        tracker.update(frame_of(index), index / 25)
        if index == 5:
            assert [track.landmarks[0].mean(axis=0)[0] < 150 for track in tracker.so_far()] == [True, False]
    first = tracker.so_far()[0]
    assert first.present[:10].all() and np.allclose(first.landmarks[:10].mean(axis=(0, 1))[0], 80, atol=1)
    assert np.allclose(run(frontal, script)[0][0].landmarks[5].mean(axis=0)[0], 250, atol=1)


def test_frames_of_another_size_are_refused(frontal: np.ndarray) -> None:
    tracker = FaceTracker(ScriptedDetector(frontal, [[], []]))
    tracker.update(frame_of(0), 0.0)
    with pytest.raises(ValueError, match="the ones before"):
        tracker.update(np.zeros((10, 10, 3), np.uint8), 0.04)


def test_savgol_keeps_quadratics_to_the_ends_and_takes_noise_away() -> None:
    time = np.arange(31.0)[:, None, None]
    parabola = (0.3 * time**2 - 5 * time + 7) * np.ones((1, 68, 2))
    assert np.abs(savgol(parabola, 7, 2) - parabola).max() < 1e-9
    impulse = np.eye(13)[:, 6]
    assert savgol(impulse, 7, 2)[3:10] == pytest.approx(np.array([-2, 3, 6, 7, 6, 3, -2]) / 21)
    single = savgol(parabola.astype(np.float32), 7, 2)
    assert single.dtype == np.float32
    assert np.array_equal(
        single, savgol(parabola.astype(np.float32).astype(np.float64), 7, 2).astype(np.float32)
    )


def test_savgol_of_short_runs_uses_the_longest_window_that_fits() -> None:
    noise = np.random.default_rng(0).normal(size=(6, 68, 2))
    assert np.array_equal(savgol(noise[:2], 7, 2), noise[:2])
    assert np.array_equal(savgol(noise, 7, 2), savgol(noise, 5, 2))
    assert np.abs(savgol(noise, 5, 2) - noise).max() > 0.1


def test_window_follows_the_frame_rate(frontal: np.ndarray) -> None:
    tracker = FaceTracker(ScriptedDetector(frontal, []))
    assert [tracker._window(np.arange(50) / fps) for fps in (12.0, 25.0, 30.0, 60.0)] == [3, 7, 9, 17]
    # 7 frames to each side but for the rounding of the times, which differs from stretch to stretch
    assert {tracker._window(np.arange(start, start + 50) / 50.0) for start in range(0, 30_000, 501)} == {15}
    assert tracker._window(np.zeros(1)) == 1


def frames_of(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as video:
        return [frame.image for frame in video]


@pytest.mark.parametrize(
    ("name", "cuts"),
    [
        ("v_cut_between_people", [35]),
        ("v_landscape_middle", [25, 50]),
        ("v_black_middle", [25, 50]),
        ("v_face_leaves", []),
        ("v_mouth_covered", []),
        ("v_face_turns", []),
    ],
)
def test_cuts_of_real_videos(name: str, cuts: list[int], media_dir: Path) -> None:
    detector = ShotDetector()
    path = media_dir / "hostile" / f"{name}.mp4"
    frames = frames_of(path)
    assert [index for index, frame in enumerate(frames) if detector.update(frame)] == cuts
    with VideoReader(path) as reader:
        detector = ShotDetector()
        assert [index for index, look in enumerate(reader.looks()) if detector.update(look.picture)] == cuts

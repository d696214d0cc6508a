from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.synthetic import write_synthetic_clip
from videoretalking.faces.align import anchor_crop, box_crop, extract, lipsync_box
from videoretalking.faces.types import FaceTrack
from videoretalking.media.mel import mel_spectrogram
from videoretalking.media.reader import Frame, VideoInfo
from videoretalking.media.writer import VideoWriter
from videoretalking.scripts.preprocess import clips as step
from videoretalking.scripts.preprocess.audio import cut_sound
from videoretalking.scripts.preprocess.runner import Rejected
from videoretalking.scripts.preprocess.sources import Source, write_sources
from videoretalking.scripts.preprocess.tracks import track_from_labels, track_path, within

SOURCE = Source("a/b", Path("b.mp4"), "anna", license="MIT", release_training=True)


def _points(count: int, face: float = 100.0) -> np.ndarray:
    """A still face of ``face`` pixels at (200, 200), borrowed from the drawn debug data."""
    from videoretalking.datasets.synthetic import SIZE, _landmarks

    points = (_landmarks(0.0, 0.2) - SIZE / 2) * (face / SIZE) + 200.0
    return np.repeat(points[None], count, axis=0).astype(np.float32)


def _track(times: np.ndarray, face: float = 200.0) -> FaceTrack:
    points = _points(len(times), face)
    return replace(
        FaceTrack.empty(times, (400, 400)),
        present=np.ones(len(times), bool),
        scores=np.ones(len(times), np.float32),
        landmarks=points,
        landmarks_raw=points,
        boxes=lipsync_box(points),
    )


def test_fast_sources_are_thinned_to_25_frames_a_second() -> None:
    (plan,) = step.make_plans(_track(0.4 + np.arange(120) / 60.0), SOURCE, step.ClipConfig())
    assert plan.start == pytest.approx(0.4) and plan.name == "a/b/000"
    assert len(plan.frames) == 50
    # 25 ticks a second over 60 frames a second: every 2.4th frame, rounded
    assert plan.frames[:6] == [0, 2, 5, 7, 10, 12]


def test_cuts_gaps_and_long_takes_end_clips() -> None:
    track = _track(np.arange(250) / 25.0)
    shots = np.repeat([0, 1], [100, 150])
    present = track.present.copy()
    present[180:185] = False
    parts = replace(track, shots=shots, present=present)
    plans = step.make_plans(parts, SOURCE, step.ClipConfig(max_seconds=3.5))
    assert [(plan.frames[0], plan.frames[-1]) for plan in plans] == [
        (0, 49),
        (50, 99),
        (100, 179),
        (185, 249),
    ]
    assert [plan.name for plan in plans] == ["a/b/000", "a/b/001", "a/b/002", "a/b/003"]


@pytest.mark.parametrize(
    ("track", "reason"),
    [
        (_track(np.arange(20) / 25.0), "shorter than 1 s"),
        (_track(np.arange(50) / 25.0, face=60.0), "face smaller than 64 pixels"),
        (_track(np.arange(30) / 12.0), "repeated frames"),
        (replace(_track(np.arange(50) / 25.0), scores=np.full(50, 0.2, np.float32)), "confidence below 0.5"),
        (FaceTrack.empty(np.arange(50) / 25.0, (400, 400)), "no face"),
    ],
)
def test_rejects_name_the_reason(track: FaceTrack, reason: str) -> None:
    with pytest.raises(Rejected, match=reason):
        step.make_plans(track, SOURCE, step.ClipConfig())


def test_stills_are_clips_of_one_frame() -> None:
    still = replace(SOURCE, path=Path("b.jpg"))
    (plan,) = step.make_plans(_track(np.zeros(1), face=30.0), still, step.ClipConfig())
    assert plan.frames == [0]


def test_stored_window_holds_view_and_margins_and_shrinks_large_faces() -> None:
    boxes = np.array([[100.0, 100.0, 300.0, 340.0], [110.0, 100.0, 310.0, 340.0]])
    view = np.array([60.0, 40.0, 420.0, 400.0])
    window, side = step.stored_window(boxes, view, max_face=384)
    assert side == window[2] - window[0] == window[3] - window[1]  # unscaled and square
    assert (window[:2] <= [50, 40]).all() and (window[2:] >= [420, 400]).all()
    _, small = step.stored_window(boxes, view, max_face=120)
    assert small == pytest.approx(side / 2, abs=1)


def test_dnet_window_is_the_anchored_crop_of_a_still_face() -> None:
    points = _points(5).astype(np.float64)
    window = step.dnet_window(points)
    expected = anchor_crop(points[0], 256)  # the drawn face is upright
    assert np.abs(box_crop(window, (256, 256)).matrix - expected.matrix).max() < 1e-6


def test_frames_at_repeats_skips_and_notices_a_short_video() -> None:
    def images() -> Iterator[Frame]:
        for value in range(4):
            yield Frame(value, value / 25.0, value, 1, np.full((1, 1, 3), value, np.uint8))

    times = np.arange(8) / 25.0
    found = step.frames_at(images(), [0, 0, 2, 3, 3], times)
    assert [int(image[0, 0, 0]) for image in found] == [0, 0, 2, 3, 3]
    with pytest.raises(UserError, match="ends after 4 frames, 6 are needed"):
        list(step.frames_at(images(), [5], times))
    with pytest.raises(UserError, match=r"frame 0 is shown at 0\.000 s, its track says 8\.000 s"):
        list(step.frames_at(images(), [2], times + 8.0))


def test_cut_sound_sees_beyond_the_clip_but_not_beyond_the_recording() -> None:
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 3 * SAMPLE_RATE).astype(np.float32)
    whole = mel_spectrogram(wave)
    samples, mel = cut_sound(wave, 1.0, num_frames=25)
    assert np.array_equal(samples, wave[SAMPLE_RATE : 2 * SAMPLE_RATE])
    assert mel.shape == (80, 81)
    # the very first column's pre-emphasis misses one sample of the past
    assert np.abs(mel - whole[:, 80:161])[:, 1:].max() < 1e-5
    late, silent = cut_sound(wave, 2.5, num_frames=25)
    assert np.array_equal(late[: SAMPLE_RATE // 2], wave[-SAMPLE_RATE // 2 :])
    assert (late[SAMPLE_RATE // 2 :] == 0).all() and (silent[:, -1] == -4.0).all()
    early, _ = cut_sound(wave, -0.5, num_frames=25)
    assert (early[: SAMPLE_RATE // 2] == 0).all() and early[SAMPLE_RATE // 2] == wave[0]


def test_labels_and_seconds(tmp_path: Path) -> None:
    points = _points(10)
    found = np.ones(10, bool)
    found[4] = False
    np.savez(
        tmp_path / "x.npz", points=points, found=found, time=np.arange(10) / 25.0, size=np.array([400, 300])
    )
    track = track_from_labels(tmp_path / "x.npz")
    assert track.frame_size == (400, 300) and track.backend == "labels"
    assert np.allclose(track.boxes[0], lipsync_box(points[0])) and (track.boxes[4] == 0).all()
    limited = within(track, replace(SOURCE, start=0.08, end=0.3))
    assert limited.times[0] == 0.08 and np.flatnonzero(limited.present).tolist() == [0, 1, 3, 4, 5]
    with pytest.raises(Rejected, match="no labels"):
        track_from_labels(tmp_path / "y.npz")


def test_a_video_becomes_clips_whose_landmarks_lie_on_the_face(tmp_path: Path) -> None:
    """A drawn video, tracked by its own labels, comes back in the stored window."""
    write_synthetic_clip(tmp_path / "drawn", seed=3, num_frames=30)
    drawn = PreparedClip(tmp_path / "drawn")
    path = tmp_path / "video.mp4"
    with VideoWriter(path, VideoInfo(128, 128)) as writer:
        for index in range(30):
            writer.write(drawn.frame(index), index / 25.0)
    source = Source("video", path, "anna")
    write_sources(tmp_path, [source])
    track = replace(_track(np.arange(30) / 25.0), landmarks=drawn.landmarks, boxes=drawn.boxes)
    track.save(track_path(tmp_path, source))
    step.cut_source(tmp_path, tmp_path / "out", step.ClipConfig(), source)
    (plan,) = step.read_plans(tmp_path, source)
    clip = PreparedClip(tmp_path / "out" / plan.name)
    assert len(clip) == 30 and clip.meta.identity == "anna"
    offset = np.array(clip.meta.source_window[:2])  # type: ignore[index]
    assert np.abs(clip.landmarks + offset - drawn.landmarks).max() < 1e-3
    x, y = np.rint(offset).astype(int)
    inside = clip.frame(7)[40 - y : 90 - y, 40 - x : 90 - x].astype(float)
    assert np.abs(inside - drawn.frame(7)[40:90, 40:90]).mean() < 6.0


def test_a_view_beyond_the_frame_repeats_its_border_as_inference_does(tmp_path: Path) -> None:
    """VoxCeleb's cut ends right at the face; D-Net's view is wider."""
    rng = np.random.default_rng(0)
    frame = np.repeat(np.repeat(rng.integers(120, 250, (32, 32, 3), dtype=np.uint8), 8, axis=0), 8, axis=1)
    path = tmp_path / "video.mp4"
    with VideoWriter(path, VideoInfo(256, 256)) as writer:
        for index in range(25):
            writer.write(frame, index / 25.0)
    source = Source("video", path, "id10001")
    points = _points(25, face=200.0) - 150.0  # the left and the upper part of D-Net's view lie outside
    track = replace(
        _track(np.arange(25) / 25.0), frame_size=(256, 256), landmarks=points, boxes=lipsync_box(points)
    )
    track.save(track_path(tmp_path, source))
    step.cut_source(tmp_path, tmp_path / "out", step.ClipConfig(), source)
    clip = PreparedClip(tmp_path / "out" / "video" / "000")
    x1, y1, _, _ = clip.meta.source_window or (0.0,) * 4
    assert x1 < -20 and y1 < -20
    assert clip.frame(3).min() > 90  # nothing is black
    trained = extract(clip.frame(3), box_crop(clip.meta.dnet_window, (256, 256)))
    used = extract(frame, anchor_crop(points[3].astype(np.float64), 256))  # what the product hands to D-Net
    assert np.abs(trained.astype(float) - used).mean() < 6.0

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from metric_samples import make_face, smooth_frame
from video_samples import write_video, write_wave

from videoretalking.evaluation.video import VideoFaces, VideoScorer, read_speech, sync_tracks, video_features
from videoretalking.faces.types import Face
from videoretalking.metrics.base import Chunk, Clip, Metric
from videoretalking.metrics.face_tracks import TrackingConfig
from videoretalking.metrics.fid import FidFeatures


class _Recorder(Metric):
    """Keeps what it is given: the level of the first pixel stands for the frame."""

    def reset(self, clip: Clip) -> None:
        self.clip = clip
        self.chunks: list[Chunk] = []

    def update(self, chunk: Chunk) -> None:
        self.chunks.append(chunk)

    def compute(self) -> dict[str, float]:
        return {"chunks": float(len(self.chunks))}

    @property
    def levels(self) -> list[tuple[int, int | None]]:
        pairs: list[tuple[int, int | None]] = []
        for chunk in self.chunks:
            sources = [None] * len(chunk) if chunk.source is None else chunk.source[:, 0, 0, 0].tolist()
            pairs += list(zip(chunk.generated[:, 0, 0, 0].tolist(), sources, strict=True))
        return pairs


def _level_video(path: Path, levels: list[int], fps: int = 25) -> Path:
    return write_video(path, [np.full((16, 16, 3), level, dtype=np.uint8) for level in levels], fps)


def _finder(count: int, fps: float = 25.0, faces: list[Face | None] | None = None) -> VideoFaces:
    return VideoFaces(
        times=np.arange(count) / fps,
        shots=np.zeros(count, dtype=np.int64),
        faces=faces or [make_face()] * count,
        detections=[np.zeros((0, 4))] * count,
    )


def test_frames_are_paired_with_the_source_in_step(tmp_path: Path) -> None:
    generated = _level_video(tmp_path / "g.mkv", list(range(100, 110)))
    source = _level_video(tmp_path / "s.mkv", list(range(10)))
    speech = write_wave(tmp_path / "a.wav", np.arange(6400, dtype=np.int16))
    recorder = _Recorder()
    scorer = VideoScorer([recorder], lambda path: _finder(10), chunk_size=4)
    assert scorer(generated, source, speech) == {"frames": 10.0, "chunks": 3.0}
    assert recorder.levels == [(100 + k, k) for k in range(10)]
    assert [chunk.start for chunk in recorder.chunks] == [0, 4, 8]
    assert [len(chunk.faces) for chunk in recorder.chunks] == [4, 4, 2]
    assert recorder.clip.speech is not None and recorder.clip.speech.tolist() == list(range(6400))


def test_other_rates_pair_by_time_and_longer_results_lose_their_source(tmp_path: Path) -> None:
    generated = _level_video(tmp_path / "g.mkv", list(range(100, 112)), fps=50)
    source = _level_video(tmp_path / "s.mkv", [1, 2, 3, 4], fps=25)
    recorder = _Recorder()

    def find(path: Path) -> VideoFaces:
        return _finder(12, 50.0) if path == generated else _finder(4)

    VideoScorer([recorder], find, chunk_size=16)(generated, source, None)
    assert recorder.clip.speech is None
    partners = [source for _, source in recorder.levels]
    # Frames halfway between two source frames go with the earlier one; the source ends half a frame after 0.12 s.
    assert partners == [1, 1, 2, 2, 3, 3, 4, 4, None, None, None, None]
    assert [chunk.source is None for chunk in recorder.chunks] == [False, True]


def test_results_of_another_size_are_not_compared(tmp_path: Path) -> None:
    generated = write_video(tmp_path / "g.mkv", [np.zeros((16, 32, 3), dtype=np.uint8)] * 3)
    source = _level_video(tmp_path / "s.mkv", [1, 2, 3])
    recorder = _Recorder()
    VideoScorer([recorder], lambda path: _finder(3))(generated, source, None)
    assert [chunk.source for chunk in recorder.chunks] == [None]
    assert recorder.chunks[0].source_faces == ()


def test_speech_is_read_as_it_is(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32767, 5000).astype(np.int16)
    read = read_speech(write_wave(tmp_path / "a.wav", samples))
    assert read is not None and np.array_equal(read, samples)
    assert read_speech(None) is None


def test_tracks_end_at_shot_cuts() -> None:
    box = np.array([[100.0, 100.0, 300.0, 300.0]])
    shots = np.repeat([0, 1], [60, 40])
    found = VideoFaces(np.arange(100) / 25, shots, [None] * 100, [box] * 100)
    tracks = sync_tracks(found, TrackingConfig(min_detections=30))
    assert [(track.start, len(track)) for track in tracks] == [(0, 60), (60, 40)]
    assert sync_tracks(found, TrackingConfig(min_detections=60)) == []


def test_tracks_live_on_the_25_fps_grid() -> None:
    box = np.array([[100.0, 100.0, 300.0, 300.0]])
    found = VideoFaces(np.arange(100) / 50, np.zeros(100, dtype=np.int64), [None] * 100, [box] * 100)
    (track,) = sync_tracks(found, TrackingConfig(min_detections=30))
    assert len(track) == 50


def test_features_of_a_real_video(tmp_path: Path) -> None:
    frames = [smooth_frame(16, 16, seed) for seed in range(5)]
    path = write_video(tmp_path / "s.mkv", frames)
    features = video_features(
        path, FidFeatures(lambda images: images.mean(dim=(2, 3)), stride=2), chunk_size=2
    )
    expected = np.stack([frames[index].mean(axis=(0, 1)) / 255 for index in (0, 2, 4)])
    assert features == pytest.approx(expected, abs=1e-5)

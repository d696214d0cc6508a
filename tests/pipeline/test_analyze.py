"""Pass 1 with a network that sees several frames at once."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_landmarks
from fakes import Colors, FakeDetector, NetworkTools

from videoretalking.faces.detect_bundled import BundledDetector
from videoretalking.faces.reconstruct import NetworkReconstructor
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.analyze import analyze
from videoretalking.pipeline.config import AnalysisConfig, WeightsConfig
from videoretalking.pipeline.weights import PretrainedFaceTools, choose_weights

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def video(make_video: Callable[..., Path]) -> Path:
    rng = np.random.default_rng(0)
    frames = [face_frame(face_landmarks(30 + index, 20, 80), 160, 128) for index in range(21)]
    return make_video(
        [np.clip(frame + rng.integers(-9, 9, frame.shape), 0, 255).astype(np.uint8) for frame in frames]
    )


def test_rows_made_in_batches_are_those_of_each_frame(video: Path) -> None:
    tools = NetworkTools(FakeDetector())
    (track,) = analyze(video, AnalysisConfig(), tools).tracks
    assert tools.network.batches == [8, 8, 5]
    alone = NetworkReconstructor(Colors())
    with VideoReader(video) as reader:
        rows = np.stack([alone(frame.image, track.landmarks_raw[frame.index]) for frame in reader])
    assert track.present.all()
    assert np.array_equal(track.rows, rows)


def test_a_failure_while_tracking_ends_the_analysis(video: Path) -> None:
    class Broken(FakeDetector):
        def detect(self, frame: np.ndarray, thorough: bool = False) -> list:
            if self.calls == 5:
                raise RuntimeError("the detector broke")
            return super().detect(frame, thorough)

    with pytest.raises(RuntimeError, match="the detector broke"):
        analyze(video, AnalysisConfig(), NetworkTools(Broken()))


def test_searches_are_prepared_while_frames_are_decoded(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoReader(EXAMPLES / "speaker.mp4") as reader:
        video = make_video([frame.image for frame, _ in zip(reader, range(55), strict=False)])
    tools = PretrainedFaceTools(choose_weights(WeightsConfig("demo")), "bundled", torch.device("cpu"))
    threads: list[str] = []
    original = BundledDetector._candidates
    monkeypatch.setattr(
        BundledDetector,
        "_candidates",
        lambda self, *rest: threads.append(threading.current_thread().name) or original(self, *rest),
    )
    expected = analyze(video, AnalysisConfig(), tools).tracks
    (decoding,) = set(threads)
    assert decoding != "MainThread" and len(threads) == 3  # one every 25 frames
    # Also when a face is lost, which the tracker looks for itself, and which moves the searches after it.
    threads.clear()
    follow, frames = BundledDetector.follow, itertools.count(1)
    monkeypatch.setattr(
        BundledDetector, "follow", lambda self, *rest: None if next(frames) == 10 else follow(self, *rest)
    )
    analyze(video, AnalysisConfig(), tools)
    decoding_now = threads[0]
    assert [name == decoding_now for name in threads] == [True, False, True]  # frames 0, 10, 35
    monkeypatch.setattr(BundledDetector, "follow", follow)
    monkeypatch.setattr(BundledDetector, "prepare", lambda self, frame: None)
    found = analyze(video, AnalysisConfig(), tools).tracks
    assert len(found) == len(expected) > 0
    for track, wanted in zip(found, expected, strict=True):
        assert np.array_equal(track.landmarks, wanted.landmarks) and np.array_equal(track.rows, wanted.rows)

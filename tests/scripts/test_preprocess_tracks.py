"""The detector route of the tracks step, with a detector that knows where the drawn face is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.synthetic import write_synthetic_clip
from videoretalking.faces.align import landmarks_box
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.picture import Picture
from videoretalking.media.reader import VideoInfo
from videoretalking.media.writer import VideoWriter
from videoretalking.scripts.preprocess.runner import Rejected
from videoretalking.scripts.preprocess.sources import Source
from videoretalking.scripts.preprocess.tracks import track_video, wanted_face


class _Oracle:
    """Finds the same landmarks in every frame."""

    name = "oracle"
    search_every = 4

    def __init__(self, landmarks: np.ndarray | None) -> None:
        self.landmarks = landmarks
        self.seen = 0

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        self.seen += 1
        if self.landmarks is None:
            return []
        return [Face(landmarks_box(self.landmarks), 0.9, self.landmarks)]

    def follow(self, frame: Picture, face: Face) -> Face | None:
        self.seen += 1
        return self.detect(frame.image)[0]


@pytest.fixture
def source(tmp_path: Path) -> Source:
    write_synthetic_clip(tmp_path / "drawn", seed=3, num_frames=20)
    clip = PreparedClip(tmp_path / "drawn")
    with VideoWriter(tmp_path / "video.mp4", VideoInfo(128, 128)) as writer:
        for index in range(20):
            writer.write(clip.frame(index), index / 25.0)
    return Source("video", tmp_path / "video.mp4", "anna")


def _landmarks() -> np.ndarray:
    from videoretalking.datasets.synthetic import _landmarks as drawn

    return drawn(0.0, 0.2)


def test_the_whole_video_is_tracked(source: Source) -> None:
    track = track_video(source, _Oracle(_landmarks()))
    assert len(track) == 20 and track.present.all() and track.backend == "oracle"
    assert np.allclose(track.times, np.arange(20) / 25.0, atol=1e-4)


def test_a_stretch_is_tracked_alone(source: Source) -> None:
    part = Source(source.name, source.path, source.identity, start=0.2, end=0.6)
    oracle = _Oracle(_landmarks())
    track = track_video(part, oracle)
    assert np.allclose(track.times, np.arange(5, 15) / 25.0, atol=1e-4) and track.present.all()
    assert oracle.seen < 30  # frames outside were not looked at
    assert np.allclose(track.landmarks[2], _landmarks(), atol=1e-3)


def test_unreadable_and_faceless_files_are_rejected(source: Source, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no face"):
        track_video(source, _Oracle(None))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(Rejected, match="is empty"):
        track_video(Source("empty", tmp_path / "empty.mp4", "anna"), _Oracle(None))


def _standing(box: list[float], frames: range, count: int = 10) -> FaceTrack:
    """A face that stands still in some frames of a video of 640 x 360."""
    track = FaceTrack.empty(np.arange(count) / 25.0, (640, 360))
    track.present[frames.start : frames.stop] = True
    track.boxes[frames.start : frames.stop] = box
    return track


def test_the_face_in_the_region_of_the_corpus_is_the_one_that_counts() -> None:
    guest = _standing([100, 50, 200, 180], range(2, 9))
    host = _standing([400, 20, 620, 300], range(10))
    source = Source("a", Path("a.mp4"), "id10001")
    assert wanted_face([host, guest], source) is host  # the largest
    named = replace(source, region="0.2 0 0.7 0.6")  # 72 0 252 216 in this frame
    track = wanted_face([host, guest], named)
    assert np.flatnonzero(track.present).tolist() == list(range(2, 9))
    assert np.array_equal(track.boxes, guest.boxes)
    guest.boxes[5:] += 200.0  # another shot shows the same face elsewhere
    assert np.flatnonzero(wanted_face([host, guest], named).present).tolist() == [2, 3, 4]
    with pytest.raises(Rejected, match="no face where the corpus says it is"):
        wanted_face([host], named)

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from metric_samples import make_landmarks, smooth_frame
from video_samples import write_video

from videoretalking.evaluation.find_faces import TrackedFaces
from videoretalking.faces.align import detector_box, landmarks_box
from videoretalking.faces.types import Face
from videoretalking.media.picture import Picture


class _Detector:
    """Finds two faces of known place; the small one is lost in frames 3 and 4."""

    name = "fake"
    search_every = 1

    def __init__(self) -> None:
        self.frames = 0

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        self.frames += 1
        return [_face((120.0, 90.0), 60.0), *([] if self.frames in (4, 5) else [_face((300.0, 90.0), 30.0)])]

    def follow(self, frame: Picture, face: Face) -> Face | None:
        return None

    def credible(self, *_: object) -> bool:
        return True


def _face(center: tuple[float, float], size: float) -> Face:
    landmarks = make_landmarks(center, size)
    return Face(landmarks_box(landmarks), 0.9, landmarks)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "v.mkv", [smooth_frame(200, 400)] * 8)


def test_largest_face_is_the_dubbed_one_and_gaps_are_no_detections(video: Path) -> None:
    found = TrackedFaces(_Detector())(video)
    assert found.times == pytest.approx(np.arange(8) / 25)
    assert all(face is not None and face.landmarks is not None for face in found.faces)
    main = found.faces[2]
    assert main is not None and main.landmarks is not None
    assert main.landmarks == pytest.approx(make_landmarks((120.0, 90.0), 60.0), abs=0.01)
    assert [len(boxes) for boxes in found.detections] == [2, 2, 2, 1, 1, 2, 2, 2]
    assert found.detections[0][0] == pytest.approx(
        detector_box(make_landmarks((120.0, 90.0), 60.0)), abs=0.01
    )


def test_videos_seen_before_are_not_searched_again(video: Path, tmp_path: Path) -> None:
    detector = _Detector()
    finder = TrackedFaces(detector, tmp_path / "cache")
    first = finder(video)
    searched = detector.frames
    copy = tmp_path / "renamed.mkv"
    copy.write_bytes(video.read_bytes())
    second = finder(copy)
    assert detector.frames == searched
    assert [len(boxes) for boxes in second.detections] == [len(boxes) for boxes in first.detections]
    assert all(
        np.array_equal(a.box, b.box) for a, b in zip(first.faces, second.faces, strict=True) if a and b
    )


def test_a_video_without_faces_keeps_its_times(video: Path, tmp_path: Path) -> None:
    class Blind(_Detector):
        def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
            return []

    for _ in range(2):  # found and fetched
        found = TrackedFaces(Blind(), tmp_path / "cache")(video)
        assert len(found.times) == 8
        assert list(found.faces) == [None] * 8
        assert all(boxes.shape == (0, 4) for boxes in found.detections)

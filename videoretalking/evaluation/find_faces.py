"""Faces of a video file for the metrics: found by the project's tracker, kept for videos seen before."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation.video import VideoFaces
from videoretalking.faces.align import detector_box
from videoretalking.faces.detect import FaceDetector
from videoretalking.faces.track import FaceTracker
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.reader import VideoReader

_COMPLETE = "complete"  # written last: the folder holds all tracks of the video


class TrackedFaces:
    """Finds the faces of a file; the dubbed one is the one with the largest boxes.

    Args:
        detector: finds and follows faces.
        cache: folder for the tracks of videos seen before, found by content; None keeps nothing.
    """

    def __init__(self, detector: FaceDetector, cache: Path | None = None) -> None:
        self.detector = detector
        self.cache = cache

    def __call__(self, path: Path) -> VideoFaces:
        """Faces of the video at ``path``.

        Raises:
            UserError: it cannot be decoded.
        """
        if self.cache is None:
            return to_video_faces(self._track(path))
        folder = self.cache / f"{file_hash(path)[:24]}-{self.detector.name}"
        if (folder / _COMPLETE).is_file():
            return to_video_faces([FaceTrack.load(track) for track in sorted(folder.glob("*.npz"))])
        tracks = self._track(path)
        for index, track in enumerate(tracks):
            track.save(folder / f"{index:03d}.npz")
        with atomic_path(folder / _COMPLETE) as temporary:
            temporary.touch()
        return to_video_faces(tracks)

    def _track(self, path: Path) -> list[FaceTrack]:
        """All tracks; an empty one where there is no face, for its times."""
        tracker = FaceTracker(self.detector)
        times = []
        with VideoReader(path) as video:
            for frame in video:
                tracker.update(frame.image, frame.time)
                times.append(frame.time)
            size = (video.info.width, video.info.height)
        return tracker.finish() or [FaceTrack.empty(times, size, self.detector.name)]


def to_video_faces(tracks: list[FaceTrack]) -> VideoFaces:
    """What the metrics need of the tracks of a video.

    Args:
        tracks: at least one, the main face first. Frames that a track only bridges (score 0) count for the main
            face but are no detections: the tracker of the sync scores bridges gaps by itself.
    """
    main = tracks[0]
    faces = [
        Face(main.boxes[index], float(main.scores[index]), main.landmarks[index]) if present else None
        for index, present in enumerate(main.present)
    ]
    detections = [
        np.stack([detector_box(track.landmarks_raw[index]) for track in tracks if track.scores[index] > 0])
        if any(track.scores[index] > 0 for track in tracks)
        else np.zeros((0, 4), dtype=np.float32)
        for index in range(len(main))
    ]
    return VideoFaces(main.times, main.shots, faces, detections)

"""Step 2: shot cuts and the track of the main face of every source, at the source's own frame times.

The landmarks come from the project's own detector (:mod:`faces.track`), or from labels that
``scripts.preprocess.label_landmarks`` made beforehand (one face a file, no cuts).

    python -m scripts.preprocess.tracks --work data/work
    python -m scripts.preprocess.tracks --work data/work --labels data/labels
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from videoretalking.core.errors import UserError, run_command
from videoretalking.faces.align import lipsync_box
from videoretalking.faces.boxes import smooth_boxes
from videoretalking.faces.detect import AUTO, FaceDetector, backend_names, choose_detector
from videoretalking.faces.track import FaceTracker
from videoretalking.faces.types import FaceTrack
from videoretalking.media.reader import VideoReader
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, run_step, work_parser
from videoretalking.scripts.preprocess.sources import Source, read_sources


def track_path(work: Path, source: Source) -> Path:
    """Where the track of a source is kept."""
    return work / "tracks" / f"{source.name}.npz"


def track_from_labels(path: Path) -> FaceTrack:
    """The labels of one file as a track of one shot.

    Raises:
        Rejected: there are no labels for the file, or no face was found in it.
    """
    if not path.is_file():
        raise Rejected("no labels")
    with np.load(path) as archive:
        points, found = archive["points"].astype(np.float32), archive["found"]
        times, size = archive["time"], archive["size"].tolist()
    if not found.any():
        raise Rejected("no face")
    track = replace(
        FaceTrack.empty(times, (size[0], size[1]), backend="labels"),
        present=found,
        scores=found.astype(np.float32),
        landmarks=points,
        landmarks_raw=points,
    )
    for span in track.present_slices():
        track.boxes[span] = smooth_boxes(lipsync_box(points[span]))
    return track


def within(track: FaceTrack, source: Source) -> FaceTrack:
    """The track with the face absent outside the source's seconds."""
    if not source.end:
        return track
    inside = (track.times >= source.start) & (track.times < source.end)
    return replace(track, present=track.present & inside)


def track_video(source: Source, detector: FaceDetector) -> FaceTrack:
    """Track the largest face of a source between its first and last second.

    Raises:
        Rejected: the file cannot be read, or no face is found.
    """
    tracker = FaceTracker(detector)
    times: list[float] = []
    skipped = 0
    try:
        with VideoReader(source.path) as video:
            for frame in video:
                if source.end and frame.time >= source.end:
                    break
                times.append(frame.time)
                if frame.time < source.start:
                    skipped += 1
                else:
                    tracker.update(frame.image, frame.time)
    except UserError as error:
        raise Rejected(str(error)) from None
    tracks = tracker.finish()
    if not tracks:
        raise Rejected("no face")
    return _after(wanted_face(tracks, source), times[:skipped])


def wanted_face(tracks: list[FaceTrack], source: Source) -> FaceTrack:
    """The face that a source is about: the one in the region that the corpus names, else the largest.

    Args:
        tracks: of :meth:`FaceTracker.finish`, the largest face first.
        source: names the region.

    Returns:
        Its track; where there is a region, the face is absent in frames in which it lies elsewhere.

    Raises:
        Rejected: no face lies in the region.
    """
    region = source.region_in(tracks[0].frame_size[1])
    if region is None:
        return tracks[0]
    inside = []
    for track in tracks:
        centers = (track.boxes[:, :2] + track.boxes[:, 2:]) / 2
        inside.append(track.present & ((centers >= region[:2]) & (centers <= region[2:])).all(axis=1))
    best = int(np.argmax([flags.sum() for flags in inside]))
    if not inside[best].any():
        raise Rejected("no face where the corpus says it is")
    return replace(tracks[best], present=inside[best])


def _after(track: FaceTrack, earlier: list[float]) -> FaceTrack:
    """The track preceded by frames without a face, so that its indices count from the start of the video."""
    if not earlier:
        return track
    lead = FaceTrack.empty(earlier, track.frame_size)
    joined: dict[str, Any] = {
        field.name: np.concatenate([getattr(lead, field.name), getattr(track, field.name)])
        for field in fields(FaceTrack)
        if isinstance(getattr(track, field.name), np.ndarray)
    }
    return replace(track, **joined)


def track_source(work: Path, labels: Path | None, backend: str, source: Source) -> None:
    """Track one source and write the result."""
    if labels is None:
        track = track_video(source, _detector(backend))
    else:
        track = within(track_from_labels(labels / f"{source.name}.npz"), source)
    track.save(track_path(work, source))


@cache
def _detector(backend: str) -> FaceDetector:
    """One for each worker process."""
    return choose_detector(backend)


def run(work: Path, labels: Path | None, backend: str, processes: int) -> Outcome:
    """Track all sources of a work folder; ``labels`` replaces the detector named ``backend``."""
    if labels is None:
        _detector(backend)  # missing weights are reported once, before any work
    return run_step(
        "tracks",
        read_sources(work),
        partial(track_source, work, labels, backend),
        lambda source: track_path(work, source).is_file(),
        work,
        processes,
    )


def main() -> None:
    """Command line of step 2."""
    parser = work_parser("Step 2: shot cuts and face tracks")
    parser.add_argument("--labels", type=Path, help="folder of label_landmarks, instead of the detector")
    parser.add_argument("--backend", choices=backend_names(), default=AUTO, help="face detector")
    arguments = parser.parse_args()
    run(arguments.work, arguments.labels, arguments.backend, arguments.processes)


if __name__ == "__main__":
    run_command(main)

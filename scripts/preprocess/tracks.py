"""Step 2: shot cuts and the track of the main face of every source, at the source's own frame times.

The landmarks come from the project's own detector (:mod:`faces.track`), or from labels that
``scripts.preprocess.label_landmarks`` made beforehand (one face a file, no cuts).

    python -m scripts.preprocess.tracks --work data/work
    python -m scripts.preprocess.tracks --work data/work --labels data/labels
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError, run_command
from videoretalking.faces.align import lipsync_box
from videoretalking.faces.boxes import smooth_boxes
from videoretalking.faces.detect import AUTO, FaceDetector, backend_names, choose_detector
from videoretalking.faces.track import FaceTracker
from videoretalking.faces.types import FaceTrack
from videoretalking.media.reader import VideoReader
from videoretalking.scripts.preprocess.changes import note_changes
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, plain, run_step, work_parser
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
    """The track of the frames between the source's first and last second, counted from the first of them."""
    if not source.end:
        return track
    inside = (track.times >= source.start) & (track.times < source.end)
    arrays: dict[str, Any] = {
        field.name: getattr(track, field.name)[inside]
        for field in fields(FaceTrack)
        if isinstance(getattr(track, field.name), np.ndarray)
    }
    return replace(track, **arrays)


def track_video(source: Source, detector: FaceDetector) -> FaceTrack:
    """Track the largest face of a source between its first and last second; frames count from the first of them.

    Raises:
        Rejected: the file cannot be read, or no face is found.
    """
    tracker = FaceTracker(detector)
    try:
        with VideoReader(source.path) as video:
            for frame in video.frames_between(source.start, source.end):
                tracker.update(frame.image, frame.time)
    except UserError as error:
        raise Rejected(str(error)) from None
    tracks = tracker.finish()
    if not tracks:
        raise Rejected("no face")
    return wanted_face(tracks, source)


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


def track_source(work: Path, detector: FaceDetector, source: Source) -> None:
    """Track one source and write the result."""
    track_video(source, detector).save(track_path(work, source))


def track_labeled(work: Path, labels: Path, source: Source) -> None:
    """Write the labels of one source as its track."""
    within(track_from_labels(labels / f"{source.name}.npz"), source).save(track_path(work, source))


def build(work: Path, backend: str, device: str) -> Callable[[Source], None]:
    """The work of one process, with its detector."""
    return partial(track_source, work, choose_detector(backend, choose_device(device)))


def run(work: Path, labels: Path | None, backend: str, crew: Crew) -> Outcome:
    """Track all sources of a work folder; ``labels`` replaces the detector named ``backend``."""
    note_changes(work)
    return run_step(
        "tracks",
        read_sources(work),
        partial(build, work, backend)
        if labels is None
        else partial(plain, partial(track_labeled, work, labels)),
        lambda source: track_path(work, source).is_file(),
        work,
        crew,
        networks=labels is None,
    )


def main() -> None:
    """Command line of step 2."""
    parser = work_parser("Step 2: shot cuts and face tracks", networks=True)
    parser.add_argument("--labels", type=Path, help="folder of label_landmarks, instead of the detector")
    parser.add_argument("--backend", choices=backend_names(), default=AUTO, help="face detector")
    arguments = parser.parse_args()
    run(arguments.work, arguments.labels, arguments.backend, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)

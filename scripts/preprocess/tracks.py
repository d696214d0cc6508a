"""Step 2: shot cuts and face tracks of every source, at the source's own frame times.

The landmarks come from the project's own detector (:mod:`faces.track`), or from labels that
``scripts.preprocess.label_landmarks`` made beforehand (one face a file, no cuts).

    python -m scripts.preprocess.tracks --work data/work
    python -m scripts.preprocess.tracks --work data/work --labels data/labels
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from core.errors import run_command
from faces.align import landmarks_box
from faces.types import FaceTrack
from scripts.preprocess.runner import Rejected, run_step, step_parser
from scripts.preprocess.sources import Source, read_sources


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
    return replace(
        FaceTrack.empty(times, (size[0], size[1]), backend="labels"),
        present=found,
        scores=found.astype(np.float32),
        landmarks=points,
        landmarks_raw=points,
        boxes=landmarks_box(points),
    )


def within(track: FaceTrack, source: Source) -> FaceTrack:
    """The track with the face absent outside the source's seconds."""
    if not source.end:
        return track
    inside = (track.times >= source.start) & (track.times < source.end)
    return replace(track, present=track.present & inside)


def track_source(work: Path, labels: Path | None, source: Source) -> None:
    """Track one source and write the result."""
    if labels is None:
        raise NotImplementedError
    track = track_from_labels(labels / f"{source.name}.npz")
    within(track, source).save(track_path(work, source))


def main() -> None:
    """Command line of step 2."""
    parser = step_parser("Step 2: shot cuts and face tracks")
    parser.add_argument("--labels", type=Path, help="folder of label_landmarks instead of the detector")
    arguments = parser.parse_args()
    run_step(
        "tracks",
        read_sources(arguments.work),
        partial(track_source, arguments.work, arguments.labels),
        lambda source: track_path(arguments.work, source).is_file(),
        arguments.work,
        arguments.processes,
    )


if __name__ == "__main__":
    run_command(main)

"""From raw clips to what trains the bundled weights: labels, face model, and two prepared data sets.

Each corpus is a folder with ``manifest.csv``, and ``manifest_faces.csv`` where stills have a list of their own,
with the columns file, identity, license, release_training and, where the corpus divides its people, split. What
trains follows from all corpora together, since some people are in several: nobody is in training and in
validation.
"""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.scripts import build_face_model
from videoretalking.scripts.preprocess import audio, clips, coefficients, sources, splits, tracks
from videoretalking.scripts.preprocess.crew import Crew
from videoretalking.scripts.preprocess.layouts.base import LayoutOptions, Source
from videoretalking.scripts.preprocess.layouts.folders import TABLE, list_table

logger = logging.getLogger(__name__)

STILLS_TABLE = "manifest_faces.csv"
# Parts of the corpora that are used: clips in sync, stills, and one video without sound but with strong turns.
PATTERNS = ("clips/*", "portraits/*", "faces/*", "inputs/noaudio*")
# People whose license lets them train, but who validate, as all do whose license does not.
VALIDATION = ("id07_may", "id32_gridH", "p_hallo_3", "p_sadtalker_art_5", "p_liveportrait_s10")
_MAX_SECONDS = 6.0  # longer takes become several clips, since an epoch takes one sample from each clip


def choose_sources(
    media: Sequence[Path], values: Collection[str], validation: Collection[str] = VALIDATION
) -> list[Source]:
    """The files of some corpora that are used, each with its split.

    A person validates who is named, whom some corpus gives to validation or test, or of whom no file may train. All
    others train, without those of their files that may not.

    Args:
        media: folders of the corpora.
        values: of ``release_training`` that let a file train; such files are marked as publishable under the terms
            that the values stand for.
        validation: people who validate whatever their files say.

    Raises:
        UserError: a corpus is no folder or has no list, or nothing in it is used.
    """
    listed: list[Source] = []
    for root in media:
        tables = [TABLE, *([STILLS_TABLE] if (root / STILLS_TABLE).is_file() else [])]
        found = [source for name in tables for source in list_table(root, LayoutOptions(), name, values)]
        used = [source for source in found if any(fnmatch(source.name, pattern) for pattern in PATTERNS)]
        if not used:
            raise UserError(f"{root / TABLE} names no video or picture in {', '.join(PATTERNS)}")
        listed += used
    may_train = {source.identity for source in listed if source.release_training}
    held_out = {source.identity for source in listed if source.split in ("val", "test")} | set(validation)
    chosen = []
    for source in listed:
        if source.identity in held_out or source.identity not in may_train:
            chosen.append(replace(source, split="val"))
        elif source.release_training:
            chosen.append(replace(source, split="train"))
    logger.info("%d of %d files of %d corpora are used", len(chosen), len(listed), len(media))
    return chosen


def make_labels(
    media: Sequence[Path], used: Sequence[Source], labels: Path, labeler: str | None, processes: int
) -> None:
    """Label every file that is used and has no labels yet.

    Args:
        media: folders of the corpora.
        used: of :func:`choose_sources`.
        labels: folder of the labels.
        labeler: Python of the environment with MediaPipe; None where the labels are there already.
        processes: at once.

    Raises:
        UserError: labels are missing and there is no labeler, or it failed.
    """
    missing = _unlabeled(used, labels)
    if missing and labeler is None:
        raise UserError(
            f"{len(missing)} files have no labels in {labels} (first: {missing[0].path}): name the Python of "
            "the environment that scripts/preprocess/label_landmarks.py describes, with --labeler"
        )
    for root in media:
        below = [source for source in missing if source.path.is_relative_to(root)]
        if below and labeler is not None:
            _run_labeler(labeler, root, below, labels, processes)
    still_missing = _unlabeled(missing, labels)
    if still_missing:
        raise UserError(
            f"{still_missing[0].path} could not be labeled: see above, or take it out of the list"
        )


def _run_labeler(labeler: str, root: Path, missing: Sequence[Source], labels: Path, processes: int) -> None:
    files = [source.path.relative_to(root).as_posix() for source in missing]
    command = [labeler, "-m", "scripts.preprocess.label_landmarks", "--root", str(root)]
    command += ["--output", str(labels), "--processes", str(processes), "--files", *files]
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UserError(f"labeling did not work: {error}") from error


def _unlabeled(used: Sequence[Source], labels: Path) -> list[Source]:
    return [source for source in used if not (labels / f"{source.name}.npz").is_file()]


def make_face_model(media: Path, labels: Path, target: Path) -> None:
    """Write the face model of the publishable people of one corpus; it takes seconds."""
    people, stills = build_face_model.read_shapes(media, labels)
    model = build_face_model.build(people, stills, build_face_model.FaceModelConfig())
    build_face_model.save(model, target, len(people), len(stills))


def prepare(used: Sequence[Source], labels: Path, root: Path, max_face: float, processes: int) -> None:
    """Prepare the data set in ``root``; what its steps hand on stays in a folder beside it.

    Args:
        used: of :func:`choose_sources`.
        labels: folder of the labels.
        root: of the data set.
        max_face: largest face as stored, in pixels.
        processes: at once.
    """
    work, crew = root.with_name(f"{root.name}.work"), Crew(processes)
    sources.write_sources(work, list(used))
    tracks.run(work, labels, "bundled", crew)
    clips.run(work, root, clips.ClipConfig(max_face=max_face, max_seconds=_MAX_SECONDS), crew)
    audio.run(work, root, crew)
    coefficients.run(work, root, "fit", crew)
    splits.run(work, root, splits.SplitConfig(release_only=True))

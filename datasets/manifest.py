"""The list of prepared clips: ``manifest.csv`` at the root of a prepared data set (docs/data.md)."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

MANIFEST = "manifest.csv"
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class ManifestEntry:
    """One line of the manifest.

    Attributes:
        clip: folder of the clip, relative to the manifest, with forward slashes; also its name in logs.
        split: ``train``, ``val`` or ``test``.
        identity: the person; one identity is in one split only.
        num_frames: frames of the clip.
        release_training: whether weights trained on this clip may be published.
    """

    clip: str
    split: str
    identity: str
    num_frames: int
    release_training: bool


_COLUMNS = [field.name for field in fields(ManifestEntry)]


def write_manifest(root: str | Path, entries: Iterable[ManifestEntry]) -> Path:
    """Write ``manifest.csv`` under ``root``, sorted by clip, atomically.

    Raises:
        UserError: an identity is in two splits, a clip is listed twice, or a split is unknown.
    """
    ordered = sorted(entries, key=lambda entry: entry.clip)
    path = Path(root) / MANIFEST
    _check(ordered, path)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        for entry in ordered:
            writer.writerow(
                [
                    entry.clip,
                    entry.split,
                    entry.identity,
                    entry.num_frames,
                    "yes" if entry.release_training else "no",
                ]
            )
    return path


def read_manifest(root: str | Path) -> list[ManifestEntry]:
    """Entries of ``root/manifest.csv`` in file order.

    Raises:
        UserError: no manifest, wrong columns or values, an identity in two splits.
    """
    path = Path(root) / MANIFEST
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if reader.fieldnames != _COLUMNS:
                raise UserError(
                    f"{path} must have the columns {','.join(_COLUMNS)}, found {reader.fieldnames}"
                )
            entries = [_parse(row, path, reader.line_num) for row in reader]
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); prepare the data first (docs/data.md)"
        ) from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path} is no table of text ({error}); run scripts.preprocess.splits again"
        ) from None
    _check(entries, path)
    return entries


def _parse(row: dict[str, str], path: Path, line: int) -> ManifestEntry:
    try:
        return ManifestEntry(
            clip=row["clip"],
            split=row["split"],
            identity=row["identity"],
            num_frames=int(row["num_frames"]),
            release_training={"yes": True, "no": False}[row["release_training"]],
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path} line {line} is malformed: {error!r}") from None


def _check(entries: list[ManifestEntry], path: Path) -> None:
    clips: set[str] = set()
    splits: dict[str, str] = {}
    for entry in entries:
        if entry.split not in SPLITS:
            raise UserError(
                f"{path}: clip {entry.clip} has split {entry.split!r}, known are {', '.join(SPLITS)}"
            )
        if entry.clip in clips:
            raise UserError(f"{path}: clip {entry.clip} is listed twice")
        clips.add(entry.clip)
        if splits.setdefault(entry.identity, entry.split) != entry.split:
            raise UserError(
                f"{path}: identity {entry.identity} is in {splits[entry.identity]} and in {entry.split}; "
                "splits must not share people"
            )

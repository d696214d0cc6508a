"""What became of the sources since the last run: results of changed ones are forgotten, so that they are made anew.

``known.csv`` in the work folder keeps every source that was ever listed, with size and time of change of its file,
as they were when its results were made.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from videoretalking.core.files import atomic_path
from videoretalking.scripts.preprocess.runner import forget_rejects
from videoretalking.scripts.preprocess.sources import Source, read_sources, source_of_row

logger = logging.getLogger(__name__)

_KNOWN = "known.csv"
_RESULTS = {
    "tracks": ".npz",
    "clips": ".json",
    "offsets": ".json",
}  # <work>/<step>/<name of the source><suffix>
_LABELS = ("identity", "license", "release_training")  # kept in the clips; they do not change the track


@dataclass(frozen=True)
class Known:
    """A source as it was.

    Attributes:
        source: as listed.
        size: bytes of its file; -1 if it was not there.
        modified: nanoseconds at which the file was last changed; 0 if it was not there.
    """

    source: Source
    size: int
    modified: int

    @classmethod
    def now(cls, source: Source) -> Known:
        """The source as it is."""
        try:
            status = source.path.stat()
        except OSError:
            return cls(source, -1, 0)
        return cls(source, status.st_size, status.st_mtime_ns)


def note_changes(work: Path) -> None:
    """Compare the list of sources, and the files themselves, with the last run, and forget what is out of date.

    A file of other size or time, one that was missing, or another stretch or crop of it is tracked again; another
    person or license is written into new clips. The clips themselves go when the clips step starts.
    """
    known = {entry.source.name: entry for entry in _read_known(work)}
    current = {source.name: Known.now(source) for source in read_sources(work)}
    pairs = [(known[name], new) for name, new in current.items() if known.get(name, new) != new]
    seen_anew = {new.source.name for old, new in pairs if _looks_changed(old, new)}
    renamed = {new.source.name for old, new in pairs if _labels(old) != _labels(new)} - seen_anew
    _forget(work, seen_anew, ("tracks", "clips", "offsets"))
    _forget(work, renamed, ("clips", "offsets"))
    forgotten = seen_anew | renamed
    if forgotten:
        for path in (work / "rejects").glob("*.csv"):
            # a step names sources, or the clips of sources
            forget_rejects(
                work, path.stem, lambda name: name in forgotten or name.rpartition("/")[0] in forgotten
            )
    if known and current != known:
        gone = [entry for name, entry in known.items() if name not in current]
        new = len(current.keys() - known.keys())
        logger.info(
            "sources: %d new, %d changed or back, %d no longer listed", new, len(forgotten), len(gone)
        )
    if current != known:
        _write_known(work, (known | current).values())


def unlisted_sources(work: Path) -> list[Source]:
    """Sources that were listed once and are no longer; their clips stay on disk, in case they come back."""
    listed = {source.name for source in read_sources(work)}
    return [entry.source for entry in _read_known(work) if entry.source.name not in listed]


def _looks_changed(old: Known, new: Known) -> bool:
    """Whether the picture that was tracked is another one now; where the data set lies does not matter."""
    same: dict[str, Any] = {"path": new.source.path, "split": new.source.split} | _labels(new)
    return (old.size, old.modified) != (new.size, new.modified) or replace(old.source, **same) != new.source


def _labels(entry: Known) -> dict[str, object]:
    return {name: getattr(entry.source, name) for name in _LABELS}


def _forget(work: Path, names: Iterable[str], steps: Iterable[str]) -> None:
    for name in names:
        for step in steps:
            (work / step / f"{name}{_RESULTS[step]}").unlink(missing_ok=True)


def _read_known(work: Path) -> list[Known]:
    path = work / _KNOWN
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        return [
            Known(source_of_row(row), int(row["size"]), int(row["modified"]))
            for row in csv.DictReader(handle)
        ]


def _write_known(work: Path, entries: Iterable[Known]) -> None:
    columns = [*(field.name for field in fields(Source)), "size", "modified"]
    with atomic_path(work / _KNOWN) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        for entry in entries:
            writer.writerow({**vars(entry.source), "size": entry.size, "modified": entry.modified})

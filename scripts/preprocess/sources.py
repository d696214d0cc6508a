"""Step 1: list the videos of a data set, with their speakers, in ``sources.csv``.

Layouts (``--layout``):

=============  ==============================================================================================
``folder``     any folder of videos; the identity is the first folder below the root, or the file's own name
``table``      a ``manifest.csv`` in the root with at least ``file`` and ``identity``; ``split``, ``license``
               and ``release_training`` (yes/no) are used when present
``voxceleb``   VoxCeleb as downloaded (``.../id10001/VIDEO/00001.mp4``) or as cut for the first-order motion
               model (``train/id10001#VIDEO#000100#000200.mp4``); folders ``train`` and ``test`` set the split
``lrs2``       LRS2 (``main/VIDEO/00001.mp4``) with its own ``train.txt``, ``val.txt`` and ``test.txt``; the
               corpus names no speakers, so the broadcast stands for the identity
``hdtf``       HDTF, cut (``WRA_AdamKinzinger0_000.mp4``) or raw (``WRA_AdamKinzinger0.mp4``) beside the lists
               ``WRA_annotion_time.txt`` ... that say which seconds to keep
=============  ==============================================================================================

::

    python -m scripts.preprocess.sources --layout folder --root VIDEOS --work data/work
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

SOURCES = "sources.csv"
ORIGIN = "origin.json"
_MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES


@dataclass(frozen=True)
class Source:
    """One stretch of one video (or a still picture) to prepare.

    Attributes:
        name: unique name with forward slashes; the folder of its results.
        path: the file.
        identity: the person.
        split: ``train``, ``val``, ``test``, or empty to be decided by identity.
        license: license of the file, one line; may be empty.
        release_training: whether weights trained on it may be published.
        start: first second to keep.
        end: second to stop at; 0 keeps everything.
    """

    name: str
    path: Path
    identity: str
    split: str = ""
    license: str = ""
    release_training: bool = False
    start: float = 0.0
    end: float = 0.0

    @property
    def is_still(self) -> bool:
        """Whether this is a picture rather than a video."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES


_COLUMNS = [field.name for field in fields(Source)]


def write_sources(work: Path, sources: list[Source]) -> Path:
    """Write ``sources.csv`` into the work folder.

    Raises:
        UserError: no source, or two of one name.
    """
    if not sources:
        raise UserError("no videos found: check --root and --layout")
    counts = Counter(source.name for source in sources)
    twice = sorted(name for name, count in counts.items() if count > 1)
    if twice:
        raise UserError(f"two files would share the name {twice[0]!r}: rename one of them")
    path = work / SOURCES
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(_COLUMNS)
        for source in sorted(sources, key=lambda item: item.name):
            writer.writerow([getattr(source, column) for column in _COLUMNS])
    return path


def read_sources(work: Path) -> list[Source]:
    """The sources of a work folder.

    Raises:
        UserError: there is no such list.
    """
    path = work / SOURCES
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            return [source_of_row(row) for row in csv.DictReader(handle)]
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({error.strerror}); run scripts.preprocess.sources first"
        ) from None


def source_of_row(row: Mapping[str, str]) -> Source:
    """The source that a line of ``sources.csv`` describes."""
    return Source(
        name=row["name"],
        path=Path(row["path"]),
        identity=row["identity"],
        split=row["split"],
        license=row["license"],
        release_training=row["release_training"] == "True",
        start=float(row["start"]),
        end=float(row["end"]),
    )


def renew_sources(work: Path, layout: str, root: Path, only: Sequence[str] = ("*",)) -> list[Source]:
    """List the sources of a data set anew and write ``sources.csv``.

    Args:
        work: the work folder; it serves one data set, named in its ``origin.json``.
        layout: a key of :data:`LAYOUTS`.
        root: root of the data set.
        only: see :func:`list_sources`.

    Raises:
        UserError: the folder serves another data set, or see :func:`list_sources` and :func:`write_sources`.
    """
    path = work / ORIGIN
    origin = {"layout": layout, "root": str(root.resolve())}
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else origin
    if before != origin:
        raise UserError(
            f"{work} was made from --layout {before['layout']} --root {before['root']}: give another folder for "
            f"this data set, or delete {path} if it is the same one in a new place"
        )
    sources = list_sources(layout, root, only)
    write_sources(work, sources)
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(origin), encoding="utf-8")
    return sources


def list_folder(root: Path) -> Iterator[Source]:
    """Any folder of videos and pictures."""
    for path in _media(root):
        relative = path.relative_to(root)
        yield Source(_name(relative), path, relative.parts[0] if len(relative.parts) > 1 else path.stem)


def list_table(root: Path) -> Iterator[Source]:
    """Files named by ``manifest.csv``; lines that are neither video nor picture are left out."""
    path = root / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}), which --layout table needs") from None
    if rows and not {"file", "identity"} <= rows[0].keys():
        raise UserError(f"{path} needs the columns file and identity")
    for row in rows:
        relative = Path(row["file"])
        if relative.suffix.lower() in _MEDIA_SUFFIXES and row["identity"]:
            yield Source(
                name=_name(relative),
                path=root / relative,
                identity=row["identity"],
                split=row["split"] if row.get("split") in {"train", "val", "test"} else "",
                license=row.get("license") or row.get("licence") or "",
                release_training=row.get("release_training", "no").lower() == "yes",
            )


def list_voxceleb(root: Path) -> Iterator[Source]:
    """VoxCeleb 1 or 2, as downloaded or cut for the first-order motion model."""
    for path in _media(root):
        relative = path.relative_to(root)
        identity = next((part.split("#")[0] for part in relative.parts if re.match(r"id\d{5}", part)), "")
        if not identity:
            raise UserError(f"{path} has no speaker (id and five digits) in its path: is this VoxCeleb?")
        split = next((part for part in relative.parts if part in {"train", "test"}), "")
        yield Source(_name(relative), path, identity, split)


def list_lrs2(root: Path) -> Iterator[Source]:
    """LRS2 with its own split files."""
    for split in ("train", "val", "test"):
        path = root / f"{split}.txt"
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise UserError(f"cannot read {path} ({error.strerror}), which --layout lrs2 needs") from None
        for line in filter(None, map(str.strip, lines)):
            clip = line.split()[0]  # the lines of test.txt carry a noise condition behind the clip
            broadcast = clip.split("/")[0]
            # one that two lists share counts as two people: the corpus' own lists are the authority
            yield Source(clip, root / "main" / f"{clip}.mp4", f"{split}_{broadcast}", split)


def list_hdtf(root: Path) -> Iterator[Source]:
    """HDTF, cut or raw."""
    times = {
        f"{path.name.split('_')[0]}_{line.split()[0]}": line.split()[1:]
        for path in sorted(root.rglob("*_annotion_time.txt"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if line.strip()
    }
    for path in _media(root):
        subset, _, rest = path.stem.partition("_")
        speaker = re.sub(r"_\d+$", "", rest)
        # politicians are numbered by video, the anonymous speakers of the radio by person
        identity = f"{subset}_{speaker if subset == 'RD' else re.sub(r'[0-9]+$', '', speaker)}"
        if path.name not in times:
            yield Source(_name(path.relative_to(root)), path, identity)
        for index, span in enumerate(times.get(path.name, ())):
            start, end = (_seconds(text) for text in span.split("-"))
            name = f"{_name(path.relative_to(root))}_{index:03d}"
            yield Source(name, path, identity, start=start, end=end)


LAYOUTS: dict[str, Callable[[Path], Iterator[Source]]] = {
    "folder": list_folder,
    "table": list_table,
    "voxceleb": list_voxceleb,
    "lrs2": list_lrs2,
    "hdtf": list_hdtf,
}


def list_sources(layout: str, root: Path, only: Sequence[str] = ("*",)) -> list[Source]:
    """The sources of a data set.

    Args:
        layout: a key of :data:`LAYOUTS`.
        root: root of the data set.
        only: shell patterns; sources whose name matches none are left out.

    Raises:
        UserError: the root is no folder, or it does not have the layout.
    """
    if not root.is_dir():
        raise UserError(f"the root of the data set, {root}, is not a folder")
    return [
        source for source in LAYOUTS[layout](root) if any(fnmatch(source.name, pattern) for pattern in only)
    ]


def _media(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in _MEDIA_SUFFIXES)


def _name(relative: Path) -> str:
    return relative.with_suffix("").as_posix()


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60.0 + float(part)
    return seconds


def main() -> None:
    """Command line of step 1."""
    parser = CommandParser(description="Step 1: list the videos of a data set")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="folder")
    parser.add_argument("--root", type=Path, required=True, help="root of the data set")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the steps hand on")
    parser.add_argument(
        "--only", nargs="*", default=["*"], help="patterns of names to keep, such as 'clips/*'"
    )
    arguments = parser.parse_args()
    sources = renew_sources(arguments.work, arguments.layout, arguments.root, arguments.only)
    people = len({source.identity for source in sources})
    logger.info("%d sources of %d people in %s", len(sources), people, arguments.work / SOURCES)


if __name__ == "__main__":
    run_command(main)

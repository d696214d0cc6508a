"""Step 1: list the videos of a data set, with their speakers, in ``sources.csv``.

Layouts (``--layout``; each a function in :mod:`scripts.preprocess.layouts`, described in docs/data.md, "Corpora"):

=============  ==============================================================================================
``folder``     any folder of videos; the identity is the first folder below the root, or the file's own name
``table``      a ``manifest.csv`` in the root with at least ``file`` and ``identity``; ``split``, ``license``
               and ``release_training`` (yes/no) are used when present
``voxceleb``   VoxCeleb by the ``vox-metadata.csv`` of the first-order motion model, cut by it already
               (``train/id10001#VIDEO#000100#000200.mp4``), or as downloaded (``.../id10001/VIDEO/00001.mp4``)
``lrs2``       LRS2 (``main/BROADCAST/00001.mp4``) with its own ``train.txt``, ``val.txt`` and ``test.txt``;
               ``--pretrain`` adds ``pretrain`` by the times of its words
``hdtf``       HDTF, cut (``WRA_AdamKinzinger0_000.mp4``) or raw (``WRA_AdamKinzinger0.mp4``) with the lists
               of times, squares and resolutions of its three subsets
=============  ==============================================================================================

::

    python -m scripts.preprocess.sources --layout folder --root VIDEOS --work data/work
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.scripts.preprocess.layouts.base import LayoutOptions, Source
from videoretalking.scripts.preprocess.layouts.folders import list_folder, list_table
from videoretalking.scripts.preprocess.layouts.hdtf import list_hdtf
from videoretalking.scripts.preprocess.layouts.lrs2 import list_lrs2
from videoretalking.scripts.preprocess.layouts.voxceleb import list_voxceleb

logger = logging.getLogger(__name__)

SOURCES = "sources.csv"
ORIGIN = "origin.json"

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
        region=row.get("region") or "",
    )


def renew_sources(
    work: Path,
    layout: str,
    root: Path,
    only: Sequence[str] = ("*",),
    options: LayoutOptions | None = None,
) -> list[Source]:
    """List the sources of a data set anew and write ``sources.csv``.

    Args:
        work: the work folder; it serves one data set, named in its ``origin.json``.
        layout: a key of :data:`LAYOUTS`.
        root: root of the data set.
        only: see :func:`list_sources`.
        options: of the layout.

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
    sources = list_sources(layout, root, only, options)
    write_sources(work, sources)
    if not path.is_file():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(origin), encoding="utf-8")
    return sources


LAYOUTS: dict[str, Callable[[Path, LayoutOptions], Iterator[Source]]] = {
    "folder": list_folder,
    "table": list_table,
    "voxceleb": list_voxceleb,
    "lrs2": list_lrs2,
    "hdtf": list_hdtf,
}


def list_sources(
    layout: str, root: Path, only: Sequence[str] = ("*",), options: LayoutOptions | None = None
) -> list[Source]:
    """The sources of a data set.

    Args:
        layout: a key of :data:`LAYOUTS`.
        root: root of the data set.
        only: shell patterns; sources whose name matches none are left out.
        options: of the layout.

    Raises:
        UserError: the root is no folder, or it does not have the layout.
    """
    if not root.is_dir():
        raise UserError(f"the root of the data set, {root}, is not a folder")
    listed = LAYOUTS[layout](root, options or LayoutOptions())
    return [source for source in listed if any(fnmatch(source.name, pattern) for pattern in only)]


def add_layout_options(parser: argparse.ArgumentParser) -> None:
    """What the layouts are told: ``--lists`` and ``--pretrain``."""
    parser.add_argument(
        "--lists", type=Path, help="folder of the corpus's own lists, if they are not at their usual places"
    )
    parser.add_argument("--pretrain", action="store_true", help="LRS2: train on its pretrain clips too")


def layout_options(arguments: argparse.Namespace) -> LayoutOptions:
    """The values of :func:`add_layout_options`.

    Raises:
        UserError: ``--lists`` does not exist.
    """
    if arguments.lists is not None and not arguments.lists.exists():
        raise UserError(f"--lists {arguments.lists} does not exist")
    return LayoutOptions(arguments.lists, arguments.pretrain)


def main() -> None:
    """Command line of step 1."""
    parser = CommandParser(description="Step 1: list the videos of a data set")
    parser.add_argument("--layout", choices=sorted(LAYOUTS), default="folder")
    parser.add_argument("--root", type=Path, required=True, help="root of the data set")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the steps hand on")
    parser.add_argument(
        "--only", nargs="*", default=["*"], help="patterns of names to keep, such as 'clips/*'"
    )
    add_layout_options(parser)
    arguments = parser.parse_args()
    options = layout_options(arguments)
    sources = renew_sources(arguments.work, arguments.layout, arguments.root, arguments.only, options)
    people = len({source.identity for source in sources})
    logger.info("%d sources of %d people in %s", len(sources), people, arguments.work / SOURCES)


if __name__ == "__main__":
    run_command(main)

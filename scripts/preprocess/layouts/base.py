"""What every layout shares: one source, the options of the listing, and the search for files."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats64
from videoretalking.core.errors import UserError
from videoretalking.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

logger = logging.getLogger(__name__)

MEDIA_SUFFIXES = VIDEO_SUFFIXES + IMAGE_SUFFIXES


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
        region: where the corpus says that the face is, ``x1 y1 x2 y2`` in heights of the frame, which hold for
            every resolution of the video; empty where the corpus says nothing.
    """

    name: str
    path: Path
    identity: str
    split: str = ""
    license: str = ""
    release_training: bool = False
    start: float = 0.0
    end: float = 0.0
    region: str = ""

    @property
    def is_still(self) -> bool:
        """Whether this is a picture rather than a video."""
        return self.path.suffix.lower() in IMAGE_SUFFIXES

    def region_in(self, frame_height: int) -> Floats64 | None:
        """The region as [4] x1, y1, x2, y2 in pixels of a frame of that height; None where there is none."""
        if not self.region:
            return None
        return np.array([float(number) for number in self.region.split()]) * frame_height


def write_region(x1: float, y1: float, x2: float, y2: float, frame_height: float) -> str:
    """``Source.region`` of a box in pixels of a frame of that height."""
    return " ".join(f"{number / frame_height:.6g}" for number in (x1, y1, x2, y2))


@dataclass(frozen=True)
class LayoutOptions:
    """What a layout is told beside the root.

    Attributes:
        lists: file or folder of the corpus's own lists, where they are not at one of their usual places.
        pretrain: LRS2: also train on ``pretrain``.
    """

    lists: Path | None = None
    pretrain: bool = False

    def list_folders(self, root: Path) -> tuple[Path, ...]:
        """Where lists are looked for: as told, else the root and the folder around it."""
        if self.lists is None:
            return root, root.parent
        return (self.lists if self.lists.is_dir() else self.lists.parent,)


class LeftOut:
    """Counts what a listing leaves out, and says so in one line a reason.

    Args:
        corpus: name for the log.
    """

    def __init__(self, corpus: str) -> None:
        self.corpus = corpus
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, reason: str, example: str) -> None:
        """Count one thing."""
        self._counts[reason] += 1
        self._examples.setdefault(reason, example)

    def report(self) -> None:
        """Write the counts to the log."""
        for reason, count in self._counts.most_common():
            logger.warning(
                "%s: %d left out, %s, such as %s", self.corpus, count, reason, self._examples[reason]
            )

    def refuse(self, nothing: str) -> UserError:
        """The error of a listing that found nothing; it names the most frequent reason."""
        reasons = [
            f"{count} {reason}, such as {self._examples[reason]}"
            for reason, count in self._counts.most_common(1)
        ]
        return UserError("; ".join([nothing, *reasons]))


@dataclass(frozen=True)
class MediaFile:
    """A video or picture below the root.

    Attributes:
        path: the file.
        name: its path relative to the root, with forward slashes, without suffix.
    """

    path: Path
    name: str

    @property
    def stem(self) -> str:
        """Name of the file without suffix."""
        return self.name.rpartition("/")[2]

    @property
    def parts(self) -> list[str]:
        """Folders below the root, and the stem."""
        return self.name.split("/")


def media_files(root: Path, suffixes: Sequence[str] = MEDIA_SUFFIXES) -> Iterator[MediaFile]:
    """Files below ``root`` whose names end like media, in the order of their names; hidden ones are passed over."""
    base = os.fspath(root)
    ends = tuple(suffixes)
    for folder, folders, files in os.walk(base):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(folder, base).replace(os.sep, "/")
        prefix = "" if below == "." else f"{below}/"
        for file in sorted(files):
            if file.lower().endswith(ends) and not file.startswith("."):
                yield MediaFile(Path(folder, file), prefix + file.rpartition(".")[0])

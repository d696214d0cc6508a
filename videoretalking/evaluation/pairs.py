"""Which video is dubbed with which sound: pair lists and their files.

The paper scores unpaired dubs (section 4.2): the sound comes from a different video. Three formats are read: our
CSV (columns ``video``, ``audio`` and optionally ``name``), Wav2Lip's lists for LRS2, LRS3 and LRW (``audio video``
on each line, without suffix) and those for ReSyncED (``video audio`` with suffixes, or one name for a video that
is dubbed with its own sound).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path

COLUMNS = ("name", "video", "audio")
SILENCE = "silence"  # in the audio column: dub with digital silence, to measure leakage
LRS_SUFFIX = ".mp4"


@dataclass(frozen=True)
class Pair:
    """One dub to make or to score.

    Attributes:
        index: position in the list, from 0; Wav2Lip's script names its outputs ``<index>.mp4``.
        name: unique name of the result, without suffix.
        video: source video.
        audio: driving sound; None for digital silence.
    """

    index: int
    name: str
    video: Path
    audio: Path | None


def read_pairs(path: str | Path, root: str | Path | None = None) -> list[Pair]:
    """Read a pair list in any of the three formats.

    Args:
        path: the list.
        root: folder that relative names refer to; None for the folder of a CSV list.

    Raises:
        UserError: missing, empty or malformed list, duplicate names, or files that do not exist.
    """
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the pair list {path}: {error}") from None
    lines = [line for line in lines if line]
    if not lines:
        raise UserError(f"the pair list {path} is empty")
    header = [column.strip() for column in lines[0].split(",")]
    if "video" in header and "audio" in header:
        pairs = _read_csv(path, lines, Path(root) if root is not None else path.parent)
    elif root is None:
        raise UserError(f"{path} is a list of Wav2Lip's kind: say with --data-root where its videos are")
    else:
        pairs = [_read_line(path, index, line.split(), Path(root)) for index, line in enumerate(lines)]
    _check(path, pairs)
    return pairs


def _read_csv(path: Path, lines: list[str], root: Path) -> list[Pair]:
    pairs = []
    for index, row in enumerate(csv.DictReader(lines)):
        if not row.get("video") or not row.get("audio") or None in row:
            raise UserError(f"{path}, line {index + 2}: needs the columns video and audio")
        audio = None if row["audio"] == SILENCE else root / row["audio"]
        pairs.append(Pair(index, row.get("name") or f"{index:05d}", root / row["video"], audio))
    return pairs


def _read_line(path: Path, index: int, words: list[str], root: Path) -> Pair:
    name = f"{index:05d}"
    if len(words) == 1:
        return Pair(index, name, root / words[0], root / words[0])
    if len(words) != 2:
        raise UserError(f"{path}, line {index + 1}: expected two names, found {len(words)}")
    if Path(words[0]).suffix and Path(words[1]).suffix:
        video, audio = words
        return Pair(index, name, root / video, root / audio)
    audio, video = (word + LRS_SUFFIX for word in words)
    return Pair(index, name, root / video, root / audio)


def _check(path: Path, pairs: Sequence[Pair]) -> None:
    names = [pair.name for pair in pairs]
    duplicates = (
        sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    )
    if duplicates:
        raise UserError(f"{path}: the name {duplicates[0]!r} occurs more than once")
    unsafe = next((name for name in names if Path(name).name != name), None)
    if unsafe is not None:
        raise UserError(f"{path}: the name {unsafe!r} cannot be a file name")
    files = (file for pair in pairs for file in (pair.video, pair.audio) if file is not None)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise UserError(f"{path}: {missing} does not exist; check --data-root")


def write_pairs(path: str | Path, pairs: Iterable[Pair], root: Path) -> None:
    """Write a CSV list, atomically, with names relative to ``root`` where they lie in it."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        for pair in pairs:
            audio = SILENCE if pair.audio is None else _relative(pair.audio, root)
            writer.writerow([pair.name, _relative(pair.video, root), audio])


def _relative(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path.resolve()).as_posix()


def shard(items: Sequence[Pair], number: int, total: int) -> list[Pair]:
    """Every ``total``-th pair beginning with the ``number``-th, both counted from 1 as in ``--shard 2/8``."""
    if not 1 <= number <= total:
        raise UserError(f"shard {number}/{total}: the first number runs from 1 to {total}")
    return list(items[number - 1 :: total])

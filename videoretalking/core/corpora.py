"""How the paper's corpora name files: who is in them, and the lists that divide LRS2 (docs/data.md, "Corpora").

Preprocessing lists a corpus with these rules, the evaluation draws from its test part and finds the people of a
pair by them, so that both speak of the same people.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePath

from videoretalking.core.errors import UserError

LRS2_SPLITS = ("train", "val", "test")
LRS2_MAIN, LRS2_PRETRAIN = "main", "pretrain"
_LRS2_FOLDER = "mvlrs_v1"  # what the archive unpacks to
_LRS2_LIST_FOLDERS = ("", "main", "filelists")

HDTF_SUBSETS = ("RD", "WDA", "WRA")  # radio, Democratic and Republican weekly addresses
HDTF_RAW_FOLDER = "_videos_raw"  # where the usual downloader keeps what it cut the clips from
_HDTF_RADIO = "RD"
_HDTF_SAME_PERSON = {"WhipJimClyburn": "JamesClyburn"}

LATER = "~later"  # behind the name of a person whose later clips validate what trains on the earlier ones

_SPEAKER = re.compile(r"id\d{5}")


def lrs2_root(root: Path) -> Path:
    """The folder that holds LRS2's ``main``: ``root`` itself, the folder around it, or ``mvlrs_v1`` in it."""
    if root.name in (LRS2_MAIN, LRS2_PRETRAIN) and not (root / LRS2_MAIN).is_dir():
        return root.parent
    if not (root / LRS2_MAIN).is_dir() and (root / _LRS2_FOLDER / LRS2_MAIN).is_dir():
        return root / _LRS2_FOLDER
    return root


def find_lrs2_list(root: Path, split: str, lists: Path | None = None) -> Path | None:
    """LRS2's list of a split, which comes as a file of its own and not in the archive.

    Args:
        root: of the corpus, as :func:`lrs2_root` takes it.
        split: ``train``, ``val``, ``test`` or ``pretrain``.
        lists: the folder of the lists; None looks beside ``main``, one level up, in ``main``, and in ``filelists``.
    """
    base = lrs2_root(root)
    parents = (lists,) if lists is not None else (base, base.parent)
    folders = [parent / name for name in _LRS2_LIST_FOLDERS for parent in parents]
    return next((path for folder in folders if (path := folder / f"{split}.txt").is_file()), None)


def read_lrs2_list(path: Path) -> list[str]:
    """The clips of a list, ``BROADCAST/NUMBER`` each, without repetitions.

    The lines of ``test.txt`` carry a mark behind the clip (NF or MV); some copies name files (``.mp4``).

    Raises:
        UserError: the list cannot be read, names nothing, or is of another kind.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read LRS2's list {path}: {error}") from None
    clips: dict[str, None] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        clip = words[0].removeprefix(f"{LRS2_MAIN}/").removeprefix(f"{LRS2_PRETRAIN}/").removesuffix(".mp4")
        if clip.count("/") != 1 or ".." in clip:
            raise UserError(f"{path}, line {number}: expected BROADCAST/NUMBER, found {words[0]!r}")
        clips[clip] = None
    if not clips:
        raise UserError(f"LRS2's list {path} names no clip")
    return list(clips)


def hdtf_person(stem: str) -> str:
    """The person in a file of HDTF, whose name is ``stem``: ``WRA_RandPaul2_001`` -> ``WRA_RandPaul``.

    The speakers of the radio are numbered, politicians are named and their videos are numbered.
    """
    subset, _, rest = stem.partition("_")
    if subset not in HDTF_SUBSETS:
        subset, rest = "", stem
    speaker = re.sub(r"_\d+$", "", rest)
    if subset != _HDTF_RADIO and not re.fullmatch(r"Radio\d+", speaker):
        speaker = speaker.rstrip("0123456789") or speaker
    speaker = _HDTF_SAME_PERSON.get(speaker, speaker)
    return f"{subset}_{speaker}" if subset else speaker


def voxceleb_speaker(path: PurePath) -> str:
    """The speaker (``id10001``) in a path of VoxCeleb, or nothing."""
    return next((found.group() for part in path.parts if (found := _SPEAKER.match(part))), "")


def plain_person(identity: str) -> str:
    """The person behind an identity of a manifest, without what tells splits of one person or broadcast apart."""
    name = identity.removesuffix(LATER)
    split, separator, rest = name.partition("_")
    return rest if separator and split in LRS2_SPLITS and rest.isdecimal() else name

"""LRS2 as the BBC gives it out: ``main``, ``pretrain``, and lists that come as files of their own.

Clips are ``main/BROADCAST/00001.mp4`` with their words in ``00001.txt``. Clips of ``pretrain`` are longer and hold
pauses; their ``.txt`` names the seconds of every word behind the line ``WORD START END ASDSCORE``, so that only
stretches with speech are taken.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from videoretalking.core.corpora import (
    LRS2_MAIN,
    LRS2_PRETRAIN,
    LRS2_SPLITS,
    find_lrs2_list,
    lrs2_root,
    read_lrs2_list,
)
from videoretalking.core.errors import UserError
from videoretalking.scripts.preprocess.layouts.base import LayoutOptions, LeftOut, Source, media_files

logger = logging.getLogger(__name__)

_WORDS = "WORD START END"  # begins the table of words
_MAX_PAUSE = 1.0  # seconds between two words; a longer one ends a stretch
_MARGIN = 0.2  # seconds kept before and after the words
_MIN_STRETCH = 1.0  # seconds, margins included: what makes a clip


def list_lrs2(root: Path, options: LayoutOptions) -> Iterator[Source]:
    """LRS2 with its own lists; the corpus names no speakers, so a broadcast counts as a person.

    Raises:
        UserError: a list is missing or damaged, or no clip of the lists is there.
    """
    base, left_out = lrs2_root(root), LeftOut("LRS2")
    splits = {split: read_lrs2_list(_find(root, split, options)) for split in LRS2_SPLITS}
    homes: dict[str, set[str]] = {}
    for split, clips in splits.items():
        for clip in clips:
            homes.setdefault(_broadcast(clip), set()).add(split)
    shared = [broadcast for broadcast, found in homes.items() if len(found) > 1]
    if shared:
        logger.warning(
            "LRS2: %d broadcasts are in more than one list, such as %s: the lists decide",
            len(shared),
            shared[0],
        )
    count = 0
    seen: set[str] = set()
    for split, clips in splits.items():
        for clip in clips:
            path = base / LRS2_MAIN / f"{clip}.mp4"
            broadcast = _broadcast(clip)
            if clip in seen:
                left_out.add("in two lists", clip)
            elif not path.is_file():
                left_out.add(f"not below {base / LRS2_MAIN}", clip)
            else:
                seen.add(clip)
                count += 1
                # one that two lists share counts as two people: the corpus' own lists are the authority
                identity = f"{split}_{broadcast}" if len(homes[broadcast]) > 1 else broadcast
                yield Source(clip, path, identity, split)
    if not count:
        raise left_out.refuse("no clip of LRS2's lists can be read: --root holds main, or is main")
    if options.pretrain:
        held_out = {broadcast for broadcast, found in homes.items() if found & {"val", "test"}}
        yield from _list_pretrain(base, _pretrain_clips(root, base, options), held_out, left_out)
    left_out.report()


def _find(root: Path, split: str, options: LayoutOptions) -> Path:
    path = find_lrs2_list(root, split, options.lists)
    if path is None:
        base = lrs2_root(root)
        places = options.lists or f"{base}, {base.parent}, {base / LRS2_MAIN} and {base / 'filelists'}"
        raise UserError(
            f"LRS2's list {split}.txt is not in {places}: it comes as a file beside the archive; put it there or "
            "name its folder with --lists"
        )
    return path


def _broadcast(clip: str) -> str:
    return clip.partition("/")[0]


def _pretrain_clips(root: Path, base: Path, options: LayoutOptions) -> list[str]:
    path = find_lrs2_list(root, LRS2_PRETRAIN, options.lists)
    if path is not None:
        return read_lrs2_list(path)
    clips = [file.name for file in media_files(base / LRS2_PRETRAIN, (".mp4",))]
    if not clips:
        raise UserError(f"--pretrain needs LRS2's clips in {base / LRS2_PRETRAIN}, and there are none")
    return clips


def _list_pretrain(base: Path, clips: list[str], held_out: set[str], left_out: LeftOut) -> Iterator[Source]:
    """Stretches of speech in ``pretrain``, none of a broadcast that validates or tests."""
    for clip in clips:
        path = base / LRS2_PRETRAIN / f"{clip}.mp4"
        if _broadcast(clip) in held_out:
            left_out.add("pretrain clips of broadcasts that validate or test", clip)
            continue
        if not path.is_file():
            left_out.add(f"not below {base / LRS2_PRETRAIN}", clip)
            continue
        try:
            stretches = speech_stretches(path.with_suffix(".txt").read_text(encoding="utf-8-sig"))
        except (OSError, ValueError):
            left_out.add("pretrain clips without readable times of words", clip)
            continue
        for index, (start, end) in enumerate(stretches):
            name = f"{LRS2_PRETRAIN}/{clip}_{index:03d}"
            yield Source(name, path, _broadcast(clip), "train", start=start, end=end)


def speech_stretches(text: str) -> list[tuple[float, float]]:
    """First and last second of every stretch of speech in a clip of ``pretrain``.

    Args:
        text: of its ``.txt`` file.

    Returns:
        Stretches of at least a second without a pause of more than a second, margins included.

    Raises:
        ValueError: the file holds no table of words, or a line of it is malformed.
    """
    lines = iter(text.splitlines())
    if not any(line.startswith(_WORDS) for line in lines):
        raise ValueError("no times of words")
    stretches: list[tuple[float, float]] = []
    for line in lines:
        words = line.split()
        if not words:
            continue
        if len(words) < 3 or not 0.0 <= float(words[1]) <= float(words[2]):
            raise ValueError(f"no word with its times: {line!r}")
        start, end = float(words[1]), float(words[2])
        if stretches and start - stretches[-1][1] <= _MAX_PAUSE:
            stretches[-1] = stretches[-1][0], max(end, stretches[-1][1])
        else:
            stretches.append((start, end))
    spans = [(round(max(0.0, start - _MARGIN), 3), round(end + _MARGIN, 3)) for start, end in stretches]
    return [(start, end) for start, end in spans if end - start >= _MIN_STRETCH]

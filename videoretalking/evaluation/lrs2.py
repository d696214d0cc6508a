"""The clips of LRS2 on which a table may be measured: those of its own test list, and no others."""

from __future__ import annotations

import logging
from pathlib import Path

from videoretalking.core.corpora import LRS2_MAIN, find_lrs2_list, lrs2_root, read_lrs2_list
from videoretalking.core.errors import UserError

logger = logging.getLogger(__name__)

_TEST = "test"


def lrs2_videos(root: Path) -> Path:
    """The folder that the names of LRS2's lists refer to: ``main``, or ``root`` where there is no such folder."""
    main = lrs2_root(root) / LRS2_MAIN
    return main if main.is_dir() else root


def lrs2_test_clips(root: Path) -> list[Path]:
    """The videos that LRS2's ``test.txt`` names.

    Args:
        root: the corpus: the folder that holds ``main``, ``main`` itself, or the folder around them.

    Raises:
        UserError: there is no such list, or no clip of it.
    """
    path = find_lrs2_list(root, _TEST)
    if path is None:
        base = lrs2_root(root)
        raise UserError(
            f"LRS2's {_TEST}.txt is neither in {base} nor beside it; without it clips that networks were trained "
            "on would be measured: put the corpus' list there, or give a pair list with --lrs2-list"
        )
    folder = lrs2_videos(root)
    listed = [folder / f"{clip}.mp4" for clip in read_lrs2_list(path)]
    clips = [clip for clip in listed if clip.is_file()]
    if not clips:
        raise UserError(f"no clip that {path} names is in {folder}")
    if len(clips) < len(listed):
        logger.warning(
            "LRS2: %d of %d clips of %s are not in %s", len(listed) - len(clips), len(listed), path, folder
        )
    return clips

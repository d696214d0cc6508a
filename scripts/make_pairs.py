"""Draw a list of unpaired dubs from a folder of videos, reproducibly from a seed.

``python -m scripts.make_pairs --videos DIR --num 100 --seconds 20 --out pairs`` cuts clips of twenty seconds into
``pairs/clips`` and writes ``pairs/pairs.csv`` (the paper's HDTF protocol); without ``--seconds`` the list refers to
the videos as they are. ``--lrs2 --videos mvlrs_v1`` draws from LRS2's test list and gives every picture the sound
of another broadcast.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.errors import run_command
from videoretalking.evaluation.draw import GROUPS, make_pair_list
from videoretalking.evaluation.lrs2 import lrs2_test_clips, lrs2_videos

logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    assert __doc__ is not None
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos with sound")
    parser.add_argument("--out", type=Path, required=True, help="folder for pairs.csv and the clips")
    parser.add_argument("--num", type=positive, required=True, help="number of pairs")
    parser.add_argument("--seconds", type=float, help="cut clips of this length; default: whole videos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", choices=sorted(GROUPS), default="file", help="what a pair never shares")
    parser.add_argument(
        "--lrs2", action="store_true", help="VIDEOS is LRS2: only clips of its test list, --group folder"
    )
    options = parser.parse_args(arguments)
    videos, group, only = options.videos, options.group, None
    if options.lrs2:
        only, videos, group = lrs2_test_clips(videos), lrs2_videos(videos), "folder"
    path = make_pair_list(videos, options.out, options.num, options.seconds, options.seed, group, only)
    logger.info("wrote %s", path)


if __name__ == "__main__":
    run_command(main)

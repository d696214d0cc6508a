"""How long a table takes on this machine, by the first pairs of each row, which stay part of the result."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair
from videoretalking.media.audio import audio_info
from videoretalking.media.reader import VideoReader

logger = logging.getLogger(__name__)

REHEARSED = 2  # pairs that are done first; the first one also pays for what happens once, such as loading
SAMPLED = 200  # pairs whose files are opened to learn their length; the others are taken for the mean


@dataclass(frozen=True)
class Work:
    """What a row has to do.

    Attributes:
        row: name of the row.
        dataset: name of the data set.
        pairs: number of pairs that are not finished.
        frames: frames of their results, about.
        seconds_per_frame: dubbing and measuring, as timed; None where nothing could be timed.
    """

    row: str
    dataset: str
    pairs: int
    frames: float
    seconds_per_frame: float | None

    @property
    def hours(self) -> float | None:
        """Hours that are left; None where nothing could be timed."""
        return None if self.seconds_per_frame is None else self.frames * self.seconds_per_frame / 3600.0


def count_frames(pairs: Sequence[Pair], sampled: int = SAMPLED) -> float:
    """Frames that the dubs of a list will have, which end with the shorter of picture and sound.

    Args:
        pairs: the list; files that cannot be read count nothing.
        sampled: at most so many pairs, evenly spread, are looked at.
    """
    if not pairs:
        return 0.0
    step = max(1, -(-len(pairs) // sampled))
    chosen = pairs[::step]
    return sum(map(_frames, chosen)) * len(pairs) / len(chosen)


def _frames(pair: Pair) -> float:
    try:
        seconds, fps = _picture(pair.video)
        if pair.audio is not None:
            seconds = min(seconds, _sound(pair.audio) or seconds)  # 0: the header does not say
    except UserError:
        return 0.0
    return seconds * fps


@lru_cache(maxsize=4096)
def _picture(path: Path) -> tuple[float, float]:
    with VideoReader(path) as video:
        return video.info.duration, float(video.info.fps)


@lru_cache(maxsize=4096)
def _sound(path: Path) -> float:
    return audio_info(path).duration


def seconds_per_frame(timings: Sequence[tuple[float, float]]) -> float | None:
    """Rate of the pairs that were timed, without the first where there are more.

    Args:
        timings: frames and seconds of each, in the order in which they were done.
    """
    counted = [(frames, seconds) for frames, seconds in timings[1:] or timings if frames > 0]
    if not counted:
        return None
    return sum(seconds for _, seconds in counted) / sum(frames for frames, _ in counted)


def total_hours(work: Sequence[Work]) -> float:
    """Hours of all rows that could be timed."""
    return sum(item.hours or 0.0 for item in work)


def describe_work(title: str, work: Sequence[Work], device: str) -> str:
    """The estimate as text, a row a line, the sum below.

    Args:
        title: of the table.
        work: its rows.
        device: where they run.
    """
    width = max(map(len, ("row", *(item.row for item in work))))
    lines = [
        f"{title}, hours of one process here ({device}):",
        f"  {'row':<{width}}  data   pairs left     frames    hours",
    ]
    for item in work:
        hours = "unknown" if item.hours is None else f"{item.hours:.2f}"
        lines.append(
            f"  {item.row:<{width}}  {item.dataset:<5}  {item.pairs:>10}  {item.frames:>9.0f}  {hours:>7}"
        )
    lines.append(
        f"  {'total':<{width}}  {total_hours(work):.2f} hours, by the rates of the first {REHEARSED} pairs of a row"
    )
    return "\n".join(lines)

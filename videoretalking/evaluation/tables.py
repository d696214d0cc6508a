"""From the values of single videos to a table: averages, and cells as Markdown and as LaTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from videoretalking.evaluation.paper import COLUMNS

PER_TRACK = ("lse_d", "lse_c")  # also averaged with every face track counting once
TRACK_COUNT = "sync_tracks"
NUM_WORST = 5

ABSENT = "-"  # no such number
UNAVAILABLE = "n/a"  # could not be measured; a note says why
_LATEX_ESCAPES = str.maketrans({"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"})


@dataclass(frozen=True)
class Table:
    """Text cells under headings.

    Attributes:
        title: caption.
        headings: one per column; the first column names the row.
        rows: cells as text.
        notes: remarks below the table.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.headings) for row in self.rows):
            raise ValueError(f"every row needs {len(self.headings)} cells")

    def markdown(self) -> str:
        """The table for Markdown."""
        lines = [f"**{self.title}**", "", _pipe(self.headings)]
        lines.append(_pipe(["---", *["---:"] * (len(self.headings) - 1)]))
        lines += [_pipe(row) for row in self.rows]
        if self.notes:
            lines += ["", *[f"- {note}" for note in self.notes]]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """The table for LaTeX with the package ``booktabs``."""
        lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_escape(self.title)}}}"]
        lines.append(rf"\begin{{tabular}}{{l{'r' * (len(self.headings) - 1)}}}")
        lines += [r"\toprule", _ampersand(self.headings), r"\midrule"]
        lines += [_ampersand(row) for row in self.rows]
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\footnotesize {_escape(note)}" for note in self.notes]
        lines.append(r"\end{table}")
        return "\n".join(lines) + "\n"


def summarize(videos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every quantity over the videos that define it, each video counting once.

    LSE-D and LSE-C come a second time as ``*_per_track``, with every face track counting once: the published
    script for whole videos lists one score per track and leaves the averaging open.

    Args:
        videos: name -> value of each video, in a fixed order (sums depend on it in the last digit).
    """
    names = sorted({name for video in videos for name in video})
    summary = {name: float(np.mean([video[name] for video in videos if name in video])) for name in names}
    scored = [video for video in videos if video.get(TRACK_COUNT, 0) > 0]
    if scored:
        weights = [video[TRACK_COUNT] for video in scored]
        for name in PER_TRACK:
            summary[per_track(name)] = float(np.average([video[name] for video in scored], weights=weights))
    return summary


def worst_videos(videos: Mapping[str, Mapping[str, float]], count: int = NUM_WORST) -> dict[str, list[str]]:
    """The videos that pull each quantity of the paper's tables down, the worst first.

    Args:
        videos: name of a video -> its values.
        count: at most so many of each.

    Returns:
        Quantity -> names; equal values in the order of ``videos``. FID has none: it belongs to the whole set.
    """
    worst = {}
    for name, (_, _, higher) in COLUMNS.items():
        sign = 1.0 if higher else -1.0
        having = {video: sign * values[name] for video, values in videos.items() if name in values}
        if having:
            worst[name] = sorted(having, key=having.__getitem__)[:count]
    return worst


def per_track(name: str) -> str:
    """Name of a quantity when every face track counts once."""
    return f"{name}_per_track"


def heading(name: str) -> str:
    """Heading of a quantity with the direction in which it is better."""
    text, _, higher = COLUMNS[name]
    return f"{text} {'↑' if higher else '↓'}"


def figure(
    name: str,
    values: Mapping[str, float] | None,
    intervals: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """A quantity of a row as text, with its interval if it has one; ``-`` where there is none."""
    if values is None or name not in values:
        return ABSENT
    decimals = COLUMNS[name][1]
    text = f"{values[name]:.{decimals}f}"
    if intervals is None or name not in intervals:
        return text
    low, high = intervals[name]
    return f"{text} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersand(cells: Sequence[str]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    escaped = text.translate(_LATEX_ESCAPES)
    return escaped.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$").replace("±", r"$\pm$")

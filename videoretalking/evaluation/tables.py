"""Tables as Markdown and as LaTeX, from the same cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from videoretalking.evaluation.paper import COLUMNS

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


def heading(name: str) -> str:
    """Heading of a quantity with the direction in which it is better."""
    text, _, higher = COLUMNS[name]
    return f"{text} {'↑' if higher else '↓'}"


def figure(name: str, values: Mapping[str, float] | None) -> str:
    """A quantity of a row as text; ``-`` where there is none."""
    if values is None or name not in values:
        return ABSENT
    return f"{values[name]:.{COLUMNS[name][1]}f}"


def _pipe(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _ampersand(cells: Sequence[str]) -> str:
    return " & ".join(_escape(cell) for cell in cells) + r" \\"


def _escape(text: str) -> str:
    escaped = text.translate(_LATEX_ESCAPES)
    return escaped.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$").replace("±", r"$\pm$")

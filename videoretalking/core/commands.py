"""What the command lines share: the name they were called by, and mistakes as one line."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

from videoretalking.core.errors import UserError

CONSOLE = "videoretalking"


def program_name() -> str:
    """How this program was started, as its help should spell it.

    ``videoretalking train`` (set by :mod:`videoretalking.cli`), ``python -m train``, or ``python inference.py``.
    """
    if sys.argv[0].startswith(f"{CONSOLE} "):
        return sys.argv[0]
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is None:
        name = Path(sys.argv[0]).name
        return f"python {name}" if name.endswith(".py") else name
    return f"python -m {spec.name.removesuffix('.__main__')}"


def near_word(word: str, known: Iterable[str]) -> str | None:
    """The known word that was probably meant; None where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return near[0] if near else None


def nearest(word: str, known: Iterable[str]) -> str:
    """``, did you mean X?`` for the nearest known word, or nothing where none is near."""
    near = near_word(word, known)
    return f", did you mean {near}?" if near is not None else ""


def positive(text: str) -> int:
    """The value of a flag that counts something, at least 1; for ``type`` of an argument."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, is {value}")
    return value


class CommandParser(argparse.ArgumentParser):
    """Parser of a command line, called as the program was, whose errors are one line like all others.

    Args:
        prog: name of the program; None for how it was started.
        advise: what to do instead of an unknown flag for which no known one is near; None for no advice.
        settings: of :class:`argparse.ArgumentParser`.
    """

    def __init__(
        self, *, prog: str | None = None, advise: Callable[[str], str] | None = None, **settings: Any
    ) -> None:
        super().__init__(prog=prog or program_name(), **settings)
        self.advise = advise

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The values.

        Raises:
            UserError: an unknown flag (with the nearest one), a missing or a wrong value.
        """
        values, unknown = self.parse_known_args(args, namespace)
        flags = [item for item in unknown if item.startswith("-")]
        if flags:
            shown = [
                name
                for action in self._actions
                if action.help != argparse.SUPPRESS and "--help" not in action.option_strings
                for name in action.option_strings
            ]
            flag = flags[0].partition("=")[0]
            advice = nearest(flag, shown)
            if not advice and self.advise is not None:
                advice = f": {self.advise(flag)}"
            self.error(f"unknown flag {flag}{advice}")
        if unknown:
            self.error(f"unexpected {' '.join(unknown)}")
        return values

    def error(self, message: str) -> NoReturn:
        """End with one line."""
        raise UserError(
            f"{message.rstrip('?')}{'?' if message.endswith('?') else ';'} see {self.prog} --help"
        )

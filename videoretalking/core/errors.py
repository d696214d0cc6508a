"""The one exception that users see, and the guard that turns it into one line and exit status 2."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend: the message is one line saying what, where, and what to do."""

    def __str__(self) -> str:
        return " ".join(super().__str__().split())


def run_command(main: Callable[[], int | None]) -> None:
    """Run a command-line entry point and end the process with its exit status.

    A :class:`UserError` becomes one line on standard error and status 2, an interrupt status 130. Any other
    exception is a defect of ours and keeps its traceback.

    Args:
        main: the entry point; returns an exit status, or None for 0.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    try:
        status = main() or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        status = 130
    sys.exit(status)

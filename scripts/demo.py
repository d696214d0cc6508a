"""Dub the bundled portrait and lay frames of the result out in one picture: ``python -m scripts.demo``.

Both go to ``./results``. Further flags are those of the main job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from videoretalking.core.errors import run_command
from videoretalking.core.locations import bundled
from videoretalking.pipeline import cli
from videoretalking.scripts import make_contact_sheet

RESULT = "results/demo.mp4"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    example = bundled("examples")
    files = [
        "--face",
        str(example / "portrait.jpg"),
        "--audio",
        str(example / "speech.wav"),
        "--outfile",
        RESULT,
    ]
    cli.main([*files, *(sys.argv[1:] if arguments is None else arguments)])
    make_contact_sheet.main([RESULT])


if __name__ == "__main__":
    run_command(main)

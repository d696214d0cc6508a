"""Dub the bundled examples, a speaker and a portrait, into ``./results``: ``python -m scripts.demo``.

For the speaker there is a video with source and result side by side too, and a sheet with frames of it. Further
flags are those of the main job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from videoretalking.core.errors import run_command
from videoretalking.core.locations import bundled
from videoretalking.pipeline import cli

RESULTS = Path("results")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    flags = list(sys.argv[1:] if arguments is None else arguments)
    for face, result in (("speaker.mp4", "demo"), ("portrait.jpg", "portrait")):
        files = {
            "--face": bundled("examples") / face,
            "--audio": bundled("examples") / "speech.wav",
            "--outfile": RESULTS / f"{result}.mp4",
            "--report": RESULTS / f"{result}.json",
        }
        cli.main([*(str(item) for pair in files.items() for item in pair), *flags])
    from videoretalking.scripts import compare, make_contact_sheet

    comparison = RESULTS / "demo_comparison.mp4"
    compare.compare(RESULTS / "demo.json", comparison)
    make_contact_sheet.main([str(comparison), "--columns", "4", "--width", "384"])


if __name__ == "__main__":
    run_command(main)

"""Source and result side by side, with the sound of the result: ``python -m scripts.compare REPORT.json``.

The report (``--report`` of the main job) names the files and says which source frame each frame of the result
shows, so the two stay together however long the speech is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import check_output
from videoretalking.media.video import VideoReader, VideoWriter
from videoretalking.pipeline.schedule import frames_in_order

logger = logging.getLogger(__name__)


def compare(report: Path, outfile: Path) -> None:
    """Write the comparison.

    Args:
        report: JSON file of a dub.
        outfile: video, twice as wide as the result.

    Raises:
        UserError: no report of a dub, or files that are not there any more.
    """
    facts = _read(report)
    check_output(
        outfile, "--outfile", {"the report": report, "source": facts["face"], "result": facts["outfile"]}
    )
    order = np.array([frame["source"] for frame in facts["frames"]], dtype=np.int64)
    with VideoReader(facts["face"]) as source, VideoReader(facts["outfile"]) as result:
        wide = replace(result.info, width=2 * result.info.width)
        with VideoWriter(outfile, wide, audio=facts["outfile"] if result.info.has_audio else None) as writer:
            pairs = zip(frames_in_order(source, order), result, strict=False)
            for original, frame in tqdm(pairs, desc="compare", total=len(order), unit="frame", delay=2.0):
                duration = float(frame.duration * result.info.time_base)
                writer.write(np.hstack([original.image, frame.image]), frame.time, duration)
    logger.info("wrote %s", outfile)


def _read(report: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        if {"face", "outfile", "frames"} <= facts.keys() and all(
            "source" in frame for frame in facts["frames"]
        ):
            return facts
    except OSError as error:
        raise UserError(f"cannot read {report}: {error.strerror or error}") from None
    except (ValueError, AttributeError, TypeError):
        pass
    raise UserError(f"{report} is no report of a dub: make one with --report")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Source and result side by side.")
    parser.add_argument("report", type=Path, help="JSON file that --report of the main job wrote")
    parser.add_argument("--outfile", type=Path, help="video; default: REPORT with _comparison.mp4 at its end")
    options = parser.parse_args(arguments)
    report: Path = options.report
    compare(report, options.outfile or report.with_name(f"{report.stem}_comparison.mp4"))


if __name__ == "__main__":
    run_command(main)

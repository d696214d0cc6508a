"""Lay frames of a video out in one picture, to look at a result at a glance.

``python -m scripts.make_contact_sheet VIDEO`` writes ``VIDEO`` with the suffix ``.png`` beside it.
``--batch JOBS.csv`` lays out the results of such a list of the main job: a line for each, and in it for each moment
source, D-Net, L-Net, E-Net, result, and the mouth of the source above that of the result.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Image8
from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.media.images import save_image
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.batch import read_jobs
from videoretalking.pipeline.config import InferenceConfig, WeightsConfig
from videoretalking.pipeline.retalker import Retalker
from videoretalking.scripts.demo_figures.stages import stage_line

logger = logging.getLogger(__name__)


def contact_sheet(video: Path, rows: int, columns: int, width: int) -> Image8:
    """Evenly spaced frames, row by row in the order of time.

    Args:
        video: any video that :class:`media.video.VideoReader` reads.
        rows: rows of the sheet.
        columns: frames in a row.
        width: pixels of one frame.

    Returns:
        [rows * height, columns * width, 3] uint8 RGB; places after the end of a short video stay black.

    Raises:
        UserError: unreadable video.
    """
    with VideoReader(video) as reader:
        num_frames = sum(1 for _ in reader)
        wanted = set(
            np.linspace(0, num_frames - 1, min(rows * columns, num_frames)).round().astype(int).tolist()
        )
        height = round(width * reader.info.height / reader.info.width)
        sheet = np.zeros((rows * height, columns * width, 3), np.uint8)
        images = (frame.image for frame in reader if frame.index in wanted)
        for place, image in enumerate(images):
            row, column = divmod(place, columns)
            small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            sheet[row * height : (row + 1) * height, column * width : (column + 1) * width] = small
    return sheet


def network_sheet(list_of_jobs: Path, weights: str, moments: int, width: int) -> Image8:
    """What each network makes of the faces of a batch, a line for each of its results.

    Args:
        list_of_jobs: CSV file of a batch that ran.
        weights: that it ran with, as for the main job.
        moments: frames of each result.
        width: pixels of a tile.

    Returns:
        [jobs * width, moments * 6 * width, 3] uint8 RGB; each line begins with the name of its result.

    Raises:
        UserError: unreadable files or no face in a video.
    """
    retalker = Retalker.from_pretrained(InferenceConfig(weights=WeightsConfig(family=weights)))
    lines = []
    for job in tqdm(read_jobs(list_of_jobs), desc="sheet", unit="video"):
        outfile = Path(job.outfile)
        line = stage_line(retalker, Path(job.face), Path(job.audio), outfile, moments, width)
        place, font = (4, 14), cv2.FONT_HERSHEY_SIMPLEX
        lines.append(cv2.putText(line, outfile.stem, place, font, 0.4, (255, 255, 255), 1, cv2.LINE_AA))
    return np.vstack(lines).astype(np.uint8)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Lay frames of a video out in one picture.")
    parser.add_argument("video", type=Path, nargs="?")
    parser.add_argument("--rows", type=positive, default=4)
    parser.add_argument(
        "--columns", type=positive, help="frames in a row (default: 6), with --batch moments (default: 2)"
    )
    parser.add_argument("--width", type=positive, default=256, help="pixels of one frame")
    parser.add_argument(
        "--batch", type=Path, metavar="FILE", help="a list of jobs that ran: show all networks"
    )
    parser.add_argument("--weights", default="auto", help="with --batch: that they ran with (default: auto)")
    options = parser.parse_args(arguments)
    if (options.video is None) == (options.batch is None):
        raise UserError("name a video, or with --batch a list of jobs")
    target = (options.video or options.batch).with_suffix(".png")
    if options.batch is None:
        sheet = contact_sheet(options.video, options.rows, options.columns or 6, options.width)
    else:
        sheet = network_sheet(options.batch, options.weights, options.columns or 2, options.width)
    with atomic_path(target) as temporary:
        save_image(temporary, sheet)
    logger.info("wrote %s", target)


if __name__ == "__main__":
    run_command(main)

"""Lay frames of a video out in one picture, to look at a result at a glance.

``python -m scripts.make_contact_sheet VIDEO`` writes ``VIDEO`` with the suffix ``.png`` beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from videoretalking.core.arrays import Image8
from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.errors import run_command
from videoretalking.core.files import atomic_path
from videoretalking.media.images import save_image
from videoretalking.media.video import VideoReader

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


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Lay frames of a video out in one picture.")
    parser.add_argument("video", type=Path)
    parser.add_argument("--rows", type=positive, default=4)
    parser.add_argument("--columns", type=positive, default=6)
    parser.add_argument("--width", type=positive, default=256, help="pixels of one frame")
    options = parser.parse_args(arguments)
    target = options.video.with_suffix(".png")
    sheet = contact_sheet(options.video, options.rows, options.columns, options.width)
    with atomic_path(target) as temporary:
        save_image(temporary, sheet)
    logger.info("wrote %s", target)


if __name__ == "__main__":
    run_command(main)

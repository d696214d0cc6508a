"""Crops of frames whose colors are worked out only where they are looked at."""

from __future__ import annotations

import cv2
import numpy as np

from videoretalking.core.arrays import Image8
from videoretalking.faces.align import MIN_SCALE, box_crop, extract, reduced_parts
from videoretalking.faces.types import Crop
from videoretalking.media.picture import Picture


def extract_part(frame: Picture, crop: Crop) -> Image8:
    """:func:`faces.align.extract` of a frame, from the pixels that the crop reads.

    Where the crop shrinks a decoded frame, it is reduced before its colors are worked out, so they may differ by a
    level or two.

    Args:
        frame: the frame.
        crop: of it.

    Returns:
        [height, width, 3] uint8 RGB.
    """
    width, height = crop.size
    if crop.scale < MIN_SCALE:
        parts = reduced_parts(crop.matrix[None], crop.size, frame.size)
        (left, top, right, bottom), (across, down) = parts.boxes[0].tolist(), parts.sizes[0].tolist()
        box, pixels = frame.reduced((left, top, right, bottom), (across, down))
        wanted = box == (left, top, right, bottom)
        matrix = parts.matrices[0] if wanted else crop.after(box_crop(box, (across, down))).matrix
        warped = cv2.warpAffine(
            pixels, matrix, crop.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(warped, dtype=np.uint8)
    size = np.array(frame.size)
    corners = crop.to_image([[-1, -1], [width, -1], [-1, height], [width, height]])
    left, top = np.clip(np.floor(corners.min(axis=0)) - 1, 0, size - 1).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)) + 2, [left + 1, top + 1], size).astype(int).tolist()
    moved = crop.matrix.copy()
    moved[:, 2] += moved[:, :2] @ [left, top]
    return extract(frame.part((left, top, right, bottom)), Crop(moved, crop.size))

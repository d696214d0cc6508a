"""A second look for marks that fill a part of the frame only, as ``--mark face`` writes them.

Looked for in the whole frame, such a mark drowns in all the pixels that do not bear it. Here the detector looks
through windows of some sizes, each for itself, and only for a mark that was neither scaled nor turned since: every
window and this second look itself are paid for in the p-value.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.provenance import statistics
from videoretalking.provenance.carriers import TILE, carriers_of, period_for
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.pieces import read_pieces
from videoretalking.provenance.search import Finding, Placement, find
from videoretalking.provenance.video_detector import PieceEvidence, VideoDetection, mean_of

_SHARES = (0.5, 0.35, 0.25)  # of the frame's short side: sides of the windows
_STEPS = 3  # windows overlap, and begin a third of their side apart
_SMALLEST = 96  # pixels; less does not hold a message


@dataclass(frozen=True)
class Box:
    """A part of the frame, in shares of its width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def cut(self, picture: Floats32) -> Floats32:
        """The part of a [H, W] picture."""
        height, width = picture.shape
        rows = slice(round(self.top * height), round(self.bottom * height))
        return picture[rows, round(self.left * width) : round(self.right * width)]

    def corner(self, picture: Floats32) -> tuple[float, float]:
        """Pixels at the left of it and above it in a [H, W] picture."""
        height, width = picture.shape
        return float(round(self.left * width)), float(round(self.top * height))


def detect_in_windows(
    path: str | Path, key: Key = PUBLIC_KEY, quiet: bool = False
) -> tuple[VideoDetection, Box] | None:
    """Look for a mark in parts of the frame.

    Args:
        path: a video or picture.
        key: whose mark.
        quiet: show no progress.

    Returns:
        what is found and where; None where nothing is. The p-value counts that this is a second look.

    Raises:
        UserError: unreadable.
    """
    pieces = list(read_pieces(path))
    white = mean_of(pieces)
    usual = Placement(period_for(*white.shape) / TILE)
    carriers = carriers_of(key)
    boxes = list(_windows(*white.shape))
    best: tuple[Finding, Box] | None = None
    progress: dict[str, Any] = {"unit": "window", "delay": 2.0, "disable": quiet, "leave": False}
    for box in tqdm(boxes, desc="searching windows", **progress):
        finding = find(box.cut(white), carriers, [usual], box.corner(white))
        if best is None or (finding.payload is None, finding.log_p) < (
            best[0].payload is None,
            best[0].log_p,
        ):
            best = finding, box
    if best is None:
        return None
    finding, box = best
    log_p = statistics.after_search(finding.log_p, math.log(2 * len(boxes)))
    if log_p >= statistics.LOG_FOUND:
        return None
    evidence = tuple(
        PieceEvidence(
            piece.start,
            piece.end,
            statistics.log10(find(box.cut(piece.white), carriers, [usual], box.corner(piece.white)).log_p),
        )
        for piece in pieces
    )
    corrected = None if finding.payload is None else finding.corrected
    return VideoDetection(
        found=True,
        payload=finding.payload,
        log10_p=statistics.log10(log_p),
        corrected=corrected,
        scale=1.0,
        aspect=1.0,
        angle=180.0 * finding.upside_down,
        mirrored=False,
        num_frames=sum(piece.num_frames for piece in pieces),
        pieces=evidence,
    ), box


def _windows(height: int, width: int) -> Iterator[Box]:
    for share in _SHARES:
        side = round(share * min(height, width))
        if side < _SMALLEST:
            return
        for top in _starts(height, side):
            for left in _starts(width, side):
                yield Box(left / width, top / height, (left + side) / width, (top + side) / height)


def _starts(length: int, side: int) -> list[int]:
    count = math.ceil((length - side) * _STEPS / side) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()

"""Finding the mark of the picture: in a whole video, in a piece of it, or in one picture.

All pieces that are looked at bear the same mark, if any, so their mean is searched first. What is found there is
looked for in each piece, which shows where the mark is. Where the mean shows nothing, as when only a part of a
video is marked, each piece is searched for itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.core.errors import UserError
from videoretalking.provenance import statistics
from videoretalking.provenance.carriers import TILE, Carriers, carriers_of, period_for
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.pieces import Piece, expected_pieces, read_pieces
from videoretalking.provenance.search import Finding, find

MIN_SIDE = 64  # pixels; less bears no mark
_TOTAL, _SIDE, _PIECES = (
    0.8,
    0.1,
    0.1,
)  # shares of the mean, of the mean laid on its side, of all pieces together


@dataclass(frozen=True)
class PieceEvidence:
    """How sure the mark is in one stretch.

    Attributes:
        start: seconds.
        end: seconds.
        log10_p: decimal logarithm of the p-value, for this stretch alone.
    """

    start: float
    end: float
    log10_p: float


@dataclass(frozen=True)
class VideoDetection:
    """What the detector says about a video.

    Attributes:
        found: whether the p-value is below 1e-6.
        payload: what the mark says; None where it is not found or cannot be read.
        log10_p: decimal logarithm of the chance that a file that knows nothing of the key gives as much, everything
            that was searched included.
        corrected: of 264 code bits, how many were turned round; None without payload.
        scale: size of the picture against the one that was marked, as far as the size tells: a crop looks alike.
        aspect: width over height by which it was stretched since.
        angle: degrees by which it was turned since, counterclockwise; 180 more where it stands on its head.
        mirrored: left for right.
        num_frames: frames that were looked at.
        pieces: stretches that were looked at.
    """

    found: bool
    payload: Payload | None
    log10_p: float
    corrected: int | None
    scale: float
    aspect: float
    angle: float
    mirrored: bool
    num_frames: int
    pieces: tuple[PieceEvidence, ...]

    @property
    def p_value(self) -> float:
        """0 where a float cannot hold it."""
        return 10.0**self.log10_p

    def as_dict(self) -> dict[str, Any]:
        """For JSON; how the picture was changed only where the mark is found."""
        result: dict[str, Any] = {
            "found": self.found,
            "p_value": self.p_value,
            "log10_p": round(self.log10_p, 2),
        }
        if self.payload is not None:
            result["payload"] = self.payload.text
            result["job"] = f"{self.payload.job:012x}"
            result["corrected_bits"] = self.corrected
        if self.found:
            result |= {
                "scale": round(self.scale, 4), "aspect": round(self.aspect, 4),
                "angle": round(self.angle, 2), "mirrored": self.mirrored,
            }  # fmt: skip
        result["frames"] = self.num_frames
        result["pieces"] = [
            {"start": round(piece.start, 2), "end": round(piece.end, 2), "log10_p": round(piece.log10_p, 2)}
            for piece in self.pieces
        ]
        return result


def detect_video(path: str | Path, key: Key = PUBLIC_KEY, quiet: bool = False) -> VideoDetection:
    """Look for a mark in a video or a picture.

    Args:
        path: any file that :class:`~videoretalking.media.reader.VideoReader` reads.
        key: whose mark.
        quiet: show no progress.

    Raises:
        UserError: unreadable, no picture that decodes, or smaller than 64 pixels.
    """
    expected = expected_pieces(path)
    show: dict[str, Any] = {"unit": "piece", "delay": 2.0, "disable": quiet, "leave": False}
    pieces = list(tqdm(read_pieces(path), desc="reading", total=expected, **show))
    if not pieces:
        raise UserError(f"{path} has a video stream, but none of its frames can be decoded")
    height, width = pieces[0].mean.shape
    if min(height, width) < MIN_SIDE:
        raise UserError(f"{path} is {width}x{height}: a picture below {MIN_SIDE} pixels bears no mark")
    return _judge(pieces, carriers_of(key), tqdm(desc="searching", total=len(pieces), **show))


def _judge(pieces: Sequence[Piece], carriers: Carriers, progress: tqdm[Any]) -> VideoDetection:
    white = mean_of(pieces)
    total, turn = find(white, carriers), 0
    # most of the chance of a false alarm goes to the mean, so that a long video does not weaken it
    log_p = statistics.after_search(total.log_p, -math.log(_TOTAL))
    clear = log_p < statistics.LOG_FOUND
    if not clear:
        side = find(np.ascontiguousarray(np.rot90(white)), carriers)
        log_p_side = statistics.after_search(side.log_p, -math.log(_SIDE))
        if log_p_side < min(log_p, statistics.LOG_FOUND):
            total, turn, log_p, clear = side, 1, log_p_side, True
    alone = []
    for piece in pieces:
        if len(pieces) == 1:
            alone.append(total)
        elif clear:
            alone.append(find(np.ascontiguousarray(np.rot90(piece.white, turn)), carriers, [total.placement]))
        else:
            alone.append(find(piece.white, carriers))
        progress.update()
    progress.close()
    best = total
    if not clear:
        best = min([total, *alone], key=lambda finding: (finding.payload is None, finding.log_p))
        log_p_pieces = min(finding.log_p for finding in alone)
        log_p = min(log_p, statistics.after_search(log_p_pieces, math.log(len(pieces) / _PIECES)))
    evidence = [
        PieceEvidence(piece.start, piece.end, statistics.log10(finding.log_p))
        for piece, finding in zip(pieces, alone, strict=True)
    ]
    return _detection(best, turn, log_p, pieces, evidence)


def _detection(
    best: Finding, turn: int, log_p: float, pieces: Sequence[Piece], evidence: list[PieceEvidence]
) -> VideoDetection:
    found = log_p < statistics.LOG_FOUND
    height, width = pieces[0].mean.shape
    place = best.placement
    usual = period_for(height, width) / TILE
    return VideoDetection(
        found=found,
        payload=best.payload if found else None,
        log10_p=statistics.log10(log_p),
        corrected=best.corrected if found and best.payload is not None else None,
        scale=place.scale / usual,
        aspect=place.aspect,
        angle=place.angle + 180.0 * best.upside_down - 90.0 * turn,
        mirrored=place.mirrored,
        num_frames=sum(piece.num_frames for piece in pieces),
        pieces=tuple(evidence),
    )


def mean_of(pieces: Sequence[Piece]) -> Floats32:
    """Mean of all whitened pieces; those of another size than the first are left out."""
    alike = [piece for piece in pieces if piece.white.shape == pieces[0].white.shape]
    weights = [piece.num_frames for piece in alike]
    return np.average([piece.white for piece in alike], axis=0, weights=weights).astype(np.float32)

"""How near the dubs of a machine's fast formats are to those in float32, one face at a time, before encoding."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.errors import UserError
from videoretalking.core.quality import MAX_PSNR
from videoretalking.faces.types import FaceTrack
from videoretalking.pipeline.analyze import Analysis
from videoretalking.pipeline.flags import parse
from videoretalking.pipeline.retalker import Retalker

logger = logging.getLogger(__name__)

PLAIN = ("--dtype", "float32", "--batch-size", "1")


def compare_dubs(
    clips: Sequence[str | Path], num_frames: int, weights: str, flags: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Dub clips with their own sound in both ways.

    Args:
        clips: videos with sound.
        num_frames: of each, from its start.
        weights: what ``--weights`` takes.
        flags: of ``inference.py`` that both ways share.

    Returns:
        A row for each clip: PSNR in dB of the whole pictures, of the box around the face, and of the worst frame,
        all of 8-bit frames; the largest difference in gray levels. A clip without a face is left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        base = ["--face", "-", "--audio", "-", "--cache-dir", folder, "--weights", weights, *flags]
        shipped, plain = (Retalker.from_pretrained(parse([*base, *more]).config) for more in ((), PLAIN))
        rows = []
        for clip in tqdm(clips, desc="dubs in both ways", unit="clip", delay=2.0):
            try:
                rows.append({"clip": Path(clip).name, **_compare(shipped, plain, Path(clip), num_frames)})
            except UserError as error:
                logger.warning("%s", error)
    return rows


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The least of each figure, and the mean of the faces."""
    least = {name: min(row[name] for row in rows) for name in ("whole", "face", "worst_frame")}
    return {**least, "mean_face": float(np.mean([row["face"] for row in rows]))}


def _compare(shipped: Retalker, plain: Retalker, clip: Path, num_frames: int) -> dict[str, Any]:
    analysis = shipped.analyze(clip)
    track = analysis.tracks[0] if analysis.tracks else None
    pairs = zip(_frames(shipped, analysis, clip), _frames(plain, analysis, clip), strict=True)
    whole, faces, largest = [], [], 0
    for index, (got, expected) in enumerate(islice(pairs, num_frames)):
        error = got.astype(np.int16) - expected
        whole.append(float(np.square(error, dtype=np.float64).mean()))
        largest = max(largest, int(np.abs(error).max()))
        if track is not None and index < len(track) and track.present[index]:
            part = error[_box(track, index)]
            faces.append(float(np.square(part, dtype=np.float64).mean()))
    return {
        "frames": len(whole),
        "whole": _decibels(float(np.mean(whole))),
        "face": _decibels(float(np.mean(faces))) if faces else MAX_PSNR,
        "worst_frame": _decibels(max(whole)),
        "largest": largest,
    }


def _frames(retalker: Retalker, analysis: Analysis, clip: Path) -> Iterator[Any]:
    return (frame.image for frame in retalker.frames(analysis, clip))


def _box(track: FaceTrack, index: int) -> tuple[slice, slice]:
    left, top = np.maximum(np.floor(track.landmarks[index].min(axis=0)).astype(int), 0)
    right, bottom = np.ceil(track.landmarks[index].max(axis=0)).astype(int) + 1
    return slice(int(top), max(int(bottom), int(top) + 1)), slice(int(left), max(int(right), int(left) + 1))


def _decibels(squared: float) -> float:
    return min(MAX_PSNR, -10.0 * math.log10(max(squared / 255.0**2, 1e-30)))

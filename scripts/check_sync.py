"""Does a sync network tell synced from shifted sound? A sanity check of LSE on clips with their own speech.

``python -m scripts.check_sync --videos DIR`` scores every clip as it is and with its sound shifted by some frames.
LSE-D searches offsets up to 15 frames, so shorter shifts are judged by the distance where picture and sound stand
(``lse_d_unshifted``), longer ones by LSE-D itself; the offset found must follow the shift.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from core.config import load_config
from core.errors import UserError, run_command
from metrics.config import EvaluationConfig, build_measures
from metrics.lse import LipSync
from metrics.offset import MAX_SHIFT, SyncScore, sync_score
from scripts.make_pairs import find_videos

logger = logging.getLogger(__name__)

ONLY_SYNC = (
    "fid.features=none",
    "cpbd_stride=0",
    "identity=none",
    "lpips=none",
    "similarity=false",
    "flicker=false",
    "seam=false",
    "leakage=false",
)
SHIFTS = (-20, -8, -5, 5, 8, 20)
OFFSET_TOLERANCE = 1  # frames


@dataclass(frozen=True)
class Verdict:
    """One clip against one shift of its sound.

    Attributes:
        clip: file name.
        shift: frames by which the sound comes too late (negative: too early).
        better: whether the clip as it is scores better.
        offset_error: by how many frames the offset found misses the shift; None beyond the search range.
    """

    clip: str
    shift: int
    better: bool
    offset_error: int | None


def shifted_score(
    video: npt.NDArray[np.float32], audio: npt.NDArray[np.float32], shift: int
) -> SyncScore | None:
    """Score of a track whose sound comes ``shift`` frames late; None if too little is left.

    Args:
        video: [windows, features].
        audio: [windows, features].
        shift: frames; negative for sound that comes early.
    """
    late, early = max(0, shift), max(0, -shift)
    count = len(video) - abs(shift)
    if count < 1:
        return None
    return sync_score(video[late : late + count], audio[early : early + count])


def judge(
    clip: str, video: npt.NDArray[np.float32], audio: npt.NDArray[np.float32], shift: int
) -> Verdict | None:
    """Compare a track with itself under a shift; None if it is too short."""
    as_is, shifted = shifted_score(video, audio, 0), shifted_score(video, audio, shift)
    if as_is is None or shifted is None:
        return None
    if abs(shift) <= MAX_SHIFT:
        better = as_is.unshifted_distance < shifted.unshifted_distance
        return Verdict(clip, shift, better, abs(shifted.offset + shift))
    return Verdict(clip, shift, as_is.min_distance < shifted.min_distance, None)


def report(verdicts: Sequence[Verdict]) -> str:
    """Shares over all clips and shifts, as text."""
    if not verdicts:
        raise UserError("no clip holds a face track that is long enough")
    better = np.mean([verdict.better for verdict in verdicts])
    errors = [verdict.offset_error for verdict in verdicts if verdict.offset_error is not None]
    lines = [f"{len({verdict.clip for verdict in verdicts})} clips, {len(verdicts)} comparisons"]
    lines.append(f"better than with shifted sound: {100 * better:.1f} %")
    if errors:
        followed = np.mean([error <= OFFSET_TOLERANCE for error in errors])
        lines.append(f"offset found within {OFFSET_TOLERANCE} frame: {100 * followed:.1f} %")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m scripts.check_sync", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--videos", type=Path, required=True, help="folder of talking clips with their own speech"
    )
    parser.add_argument("--shifts", type=int, nargs="+", default=SHIFTS, help="frames of 40 ms")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of metrics.config"
    )
    parser.add_argument(
        "--cache", type=Path, default=Path("results/cache"), help="face tracks of videos seen before"
    )
    options = parser.parse_args(arguments)
    config = load_config(EvaluationConfig, None, [*ONLY_SYNC, *options.set])
    scorer = build_measures(config, options.cache / "faces").scorer
    (metric,) = scorer.metrics
    assert isinstance(metric, LipSync)
    verdicts: list[Verdict] = []
    for path in tqdm(find_videos(options.videos), desc="clips", unit="file"):
        scorer(path, None, path)
        for video, audio in metric.embeddings():
            found = [judge(path.name, video, audio, shift) for shift in options.shifts]
            verdicts += [verdict for verdict in found if verdict is not None]
    print(report(verdicts))


if __name__ == "__main__":
    run_command(main)

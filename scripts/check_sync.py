"""Does a sync network tell synced from shifted sound? A sanity check of LSE on clips with their own speech.

``python -m scripts.check_sync --videos DIR`` scores every clip as it is and with its sound shifted by some frames.
The sound is shifted in a circle, so that both scores see the same pictures and the same sounds and only their
pairing differs; every score is the mean over the whole clip. LSE-D searches offsets up to 15 frames and is blind to
shifts within, so the comparison is made on the distance where picture and sound stand (``lse_d_unshifted``), for
shifts beyond the search on LSE-D and LSE-C too; the offset that the search finds must follow the shift.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.core.commands import CommandParser
from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError, run_command
from videoretalking.evaluation.config import EvaluationConfig, build_measures
from videoretalking.evaluation.draw import find_videos
from videoretalking.evaluation.plan import default_cache
from videoretalking.evaluation.tables import ABSENT, Table
from videoretalking.metrics.lse import LipSync
from videoretalking.metrics.offset import MAX_SHIFT, sync_score

logger = logging.getLogger(__name__)

SHIFTS = (-30, -20, -12, -8, -5, 5, 8, 12, 20, 30)
OFFSET_TOLERANCE = 1  # frames


@dataclass(frozen=True)
class Verdict:
    """One face track against one shift of its sound.

    Attributes:
        clip: file name.
        shift: frames by which the sound comes too late (negative: too early).
        nearer: whether picture and sound lie nearer where they stand than when shifted.
        better_lse_d: whether LSE-D is lower than when shifted; None where its search reaches the synced place.
        better_lse_c: whether LSE-C is higher than when shifted; None likewise.
        offset_error: frames by which the offset found misses the shift; None beyond the search.
    """

    clip: str
    shift: int
    nearer: bool
    better_lse_d: bool | None
    better_lse_c: bool | None
    offset_error: int | None


def judge(clip: str, video: Floats32, audio: Floats32, shift: int) -> Verdict | None:
    """Compare a track with itself under a shift of its sound.

    Args:
        clip: file name.
        video: [windows, features] embeddings.
        audio: [windows, features] embeddings of the sound at the same places.
        shift: frames; negative for sound that comes early.

    Returns:
        None for a track shorter than twice the shift, where the other way round the circle is nearer.
    """
    if len(video) < 2 * abs(shift):
        return None
    synced, shifted = sync_score(video, audio), sync_score(video, np.roll(audio, shift, axis=0))
    nearer = synced.unshifted_distance < shifted.unshifted_distance
    if abs(shift) <= MAX_SHIFT:
        return Verdict(clip, shift, nearer, None, None, abs(shifted.offset + shift))
    lower, higher = synced.min_distance < shifted.min_distance, synced.confidence > shifted.confidence
    return Verdict(clip, shift, nearer, lower, higher, None)


def report(verdicts: Sequence[Verdict], notes: Sequence[str] = ()) -> Table:
    """Shares in percent, a row for each clip and one for all.

    Args:
        verdicts: of all clips.
        notes: remarks, such as which network was asked.

    Raises:
        UserError: there are no verdicts.
    """
    if not verdicts:
        raise UserError("no clip holds a face track that is long enough")
    clips = dict.fromkeys(verdict.clip for verdict in verdicts)
    rows = [_row(clip, [verdict for verdict in verdicts if verdict.clip == clip]) for clip in clips]
    headings = ["clip", "cases", "nearer in sync", "LSE-D better", "LSE-C better", "offset follows"]
    rules = [
        "a case is a clip and a shift of its sound by "
        + ", ".join(str(shift) for shift in sorted({verdict.shift for verdict in verdicts}))
        + " frames",
        f"LSE-D and LSE-C only for shifts beyond their search of {MAX_SHIFT} frames, the offset (within "
        f"{OFFSET_TOLERANCE} frame) only for those it reaches",
    ]
    title = f"Synced against shifted sound, {len(clips)} clips"
    return Table(title, headings, [*rows, _row("all", verdicts)], [*notes, *rules])


def _row(name: str, verdicts: Sequence[Verdict]) -> list[str]:
    errors = [verdict.offset_error for verdict in verdicts]
    return [
        name,
        str(len(verdicts)),
        _share([verdict.nearer for verdict in verdicts]),
        _share([verdict.better_lse_d for verdict in verdicts]),
        _share([verdict.better_lse_c for verdict in verdicts]),
        _share([None if error is None else error <= OFFSET_TOLERANCE for error in errors]),
    ]


def _share(answers: Sequence[bool | None]) -> str:
    known = [answer for answer in answers if answer is not None]
    return f"{100 * np.mean(known):.1f} %" if known else ABSENT


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    assert __doc__ is not None
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--videos", type=Path, required=True, help="folder of talking clips with their own speech"
    )
    parser.add_argument("--shifts", type=int, nargs="+", default=SHIFTS, help="frames of 40 ms")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="settings of evaluation.config"
    )
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        help="face tracks of videos seen before (default: %(default)s)",
    )
    options = parser.parse_args(arguments)
    measures = build_measures(
        load_config(EvaluationConfig, None, options.set), options.cache / "faces", only=["sync"]
    )
    scorer = measures.scorer
    metric = next(iter(scorer.metrics), None)
    if not isinstance(metric, LipSync):
        raise UserError("sync.network=none leaves nothing to check")
    verdicts: list[Verdict] = []
    for path in tqdm(find_videos(options.videos), desc="clips", unit="file"):
        scorer(path, None, path)
        for video, audio in metric.embeddings():
            found = [judge(path.name, video, audio, shift) for shift in options.shifts]
            verdicts += [verdict for verdict in found if verdict is not None]
    notes = [f"sync network: {', '.join(measures.settings['networks'])}", *measures.notes.values()]
    print(report(verdicts, notes).markdown())


if __name__ == "__main__":
    run_command(main)

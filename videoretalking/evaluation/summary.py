"""From the values of single videos to the row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PER_TRACK = ("lse_d", "lse_c")  # also averaged with every face track counting once
TRACK_COUNT = "sync_tracks"


def summarize(videos: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean of every quantity over the videos that define it, each video counting once.

    LSE-D and LSE-C come a second time as ``*_per_track``, with every face track counting once: the published
    script for whole videos lists one score per track and leaves the averaging open.

    Args:
        videos: name -> value of each video, in a fixed order (sums depend on it in the last digit).
    """
    names = sorted({name for video in videos for name in video})
    summary = {name: float(np.mean([video[name] for video in videos if name in video])) for name in names}
    scored = [video for video in videos if video.get(TRACK_COUNT, 0) > 0]
    if scored:
        weights = [video[TRACK_COUNT] for video in scored]
        for name in PER_TRACK:
            summary[f"{name}_per_track"] = float(
                np.average([video[name] for video in scored], weights=weights)
            )
    return summary

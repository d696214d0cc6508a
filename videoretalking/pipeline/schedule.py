"""Which source frame is shown when: the length rule for speech that is shorter or longer than the picture."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Pad = Literal["loop", "pingpong", "hold", "cut"]


@dataclass(frozen=True)
class Schedule:
    """Frames of the output in order.

    Attributes:
        frames: [M] int64 index of the source frame.
        times: [M] float64 presentation time in seconds.
        duration: time at which the last frame ends.
    """

    frames: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    duration: float

    def __len__(self) -> int:
        return len(self.frames)


def make_schedule(
    times: npt.NDArray[np.float64], last_duration: float, audio_duration: float, pad: Pad
) -> Schedule:
    """Apply the length rule.

    ``cut`` ends the output with the shorter of picture and speech. The other rules end it with the longer
    one: after the end of the speech the mouth rests; after the end of the picture its frames come again from
    the start (``loop``), backwards and forwards (``pingpong``), or the last one stands still (``hold``). The
    source's own frames keep their exact times. The speech starts at time 0 of the file and not with its first
    frame, so a new sound track that fits the file's old one fits its picture too where the picture starts late.
    A single frame is a still image: it starts at 0 and lasts as long as the speech.

    A frame counts if at least half of it lies before the end, so rounding in containers adds none.

    Args:
        times: [N] presentation times of the source frames in seconds, increasing.
        last_duration: seconds that the last source frame is shown.
        audio_duration: seconds of speech.
        pad: the rule.
    """
    if len(times) == 1:
        times = np.zeros_like(times)
    durations = np.append(np.diff(times), last_duration)
    picture_end = float(times[-1] + last_duration)
    if len(times) == 1:
        end = audio_duration
    elif pad == "cut":
        end = min(picture_end, audio_duration)
    else:
        end = max(picture_end, audio_duration)

    frames, starts = list(range(len(times))), times.tolist()
    clock = picture_end
    for index in _extension(len(times), pad):
        step = float(durations[index])
        if clock + 0.5 * step >= end:
            break
        frames.append(index)
        starts.append(clock)
        clock += step
    shown = durations[frames]
    count = max(1, int(np.searchsorted(np.asarray(starts) + 0.5 * shown, end, side="right")))
    count = min(count, len(frames))
    return Schedule(
        frames=np.asarray(frames[:count], dtype=np.int64),
        times=np.asarray(starts[:count], dtype=np.float64),
        duration=float(starts[count - 1] + shown[count - 1]),
    )


def _extension(count: int, pad: Pad) -> Iterator[int]:
    """Source frames that follow the last one, without end; none under ``cut``, except for a still image."""
    if count == 1 or pad == "hold":
        return itertools.repeat(count - 1)
    if pad == "loop":
        return itertools.cycle(range(count))
    if pad == "pingpong":
        return itertools.cycle([*range(count - 2, -1, -1), *range(1, count)])
    return iter(())

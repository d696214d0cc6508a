"""Which source frame is shown when, and the decoded frames in that order.

The length rule decides for speech that is shorter or longer than the picture. Frames are decoded again where they
are shown again, so that memory stays flat.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from videoretalking.core.errors import UserError
from videoretalking.media.picture import Picture
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.config import Pad

_BUFFER_BYTES = 256 << 20  # frames kept to play a stretch backwards


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

    @property
    def durations(self) -> npt.NDArray[np.float64]:
        """[M] seconds that each frame is shown."""
        return np.diff(self.times, append=self.duration)

    def after(self, count: int) -> Schedule:
        """All but the first ``count`` frames."""
        return Schedule(self.frames[count:], self.times[count:], self.duration)


class GrowingSchedule:
    """A schedule that one thread makes longer while another one goes through its parts.

    Attributes:
        released: frames so far.
        complete: whether that is all.
    """

    def __init__(self) -> None:
        self.released = 0
        self.complete = False
        self._parts: queue.SimpleQueue[Schedule | None] = queue.SimpleQueue()

    def release_until(self, stop: int, times: npt.NDArray[np.float64]) -> None:
        """Show the source's own frames up to number ``stop`` at their own times.

        Args:
            stop: number of the frame behind the last; less than what was released before changes nothing.
            times: [N] seconds of the source frames, N > ``stop``.
        """
        if stop > self.released:
            span = slice(self.released, stop)
            self._parts.put(Schedule(np.arange(span.start, stop), times[span], float(times[stop])))
            self.released = stop

    def release_all(self, whole: Schedule) -> None:
        """Show what is left of the whole schedule, which begins with the source's own frames."""
        self._parts.put(whole.after(self.released))
        self.released = len(whole)
        self.close()

    def close(self) -> None:
        """Say that nothing more comes."""
        self.complete = True
        self._parts.put(None)

    def __iter__(self) -> Iterator[Schedule]:
        """The parts; waits for them."""
        return iter(self._parts.get, None)


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


def frames_in_order(source: VideoReader | Decoder, order: npt.NDArray[np.int64]) -> Iterator[Picture]:
    """Yield the frames whose numbers ``order`` lists; their colors are worked out where they are looked at.

    Numbers that rise by one or repeat cost one decoding. Backwards, a bounded stretch at a time is decoded anew,
    from the key frame before it, and played from its end. So memory stays flat, and a frame costs about as much
    as the stretch and the distance of the key frames allow, wherever in the video it lies.

    Args:
        source: the video, or a decoder of it that goes on where it is.
        order: [M] frame numbers.

    Raises:
        UserError: the video holds fewer frames than when it was analyzed.
    """
    decoder = source if isinstance(source, Decoder) else Decoder(source)
    info = decoder.reader.info
    buffered = max(2, _BUFFER_BYTES // (info.width * info.height * 3))
    for backwards, stretch in _stretches(order, decoder.number):
        if not backwards:
            for number in stretch:
                yield decoder.frame(number)
            continue
        for start in range(0, len(stretch), buffered):
            numbers = stretch[start : start + buffered]
            frames = [decoder.frame(number) for number in reversed(numbers)]
            while frames:
                yield frames.pop()


def _stretches(order: npt.NDArray[np.int64], before: int) -> Iterator[tuple[bool, list[int]]]:
    """Cut the order, which follows on frame ``before``, where it changes between forwards and backwards."""
    steps = np.diff(order, prepend=before)
    for backwards, group in itertools.groupby(range(len(order)), key=lambda place: bool(steps[place] == -1)):
        yield backwards, [int(order[place]) for place in group]


class Decoder:
    """Frame by number; decodes on from the last one where that is possible, else from the key frame before.

    Attributes:
        reader: the video.
        number: of the last frame; -1 before the first.
    """

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.number = -1
        self._looks = reader.looks()
        self._picture: Picture | None = None

    def frame(self, number: int) -> Picture:
        """The picture, whose colors are worked out where they are looked at."""
        if number < self.number:
            self.reader.close()
            self._looks = self.reader.looks_from(number)
            self.number = number - 1
        while self.number < number:
            look = next(self._looks, None)
            if look is None:
                raise UserError(
                    f"{self.reader.path} has no frame {number}, though it had when it was analyzed; "
                    "run again with --refresh"
                )
            self._picture = look.picture
            self.number += 1
        assert self._picture is not None
        return self._picture

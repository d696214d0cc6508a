"""Decoded frames in the order of the schedule, without holding the video in memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import AnyImage
from videoretalking.core.errors import UserError
from videoretalking.media.video import VideoReader

_BUFFER_BYTES = 256 << 20  # frames kept to play a stretch backwards


def frames_in_order(reader: VideoReader, order: npt.NDArray[np.int64]) -> Iterator[AnyImage]:
    """Yield the frames whose numbers ``order`` lists.

    Numbers that rise by one or repeat cost one decoding. Backwards, a bounded stretch at a time is decoded anew,
    from the key frame before it, and played from its end. So memory stays flat, and a frame costs about as much
    as the stretch and the distance of the key frames allow, wherever in the video it lies.

    Args:
        reader: the video.
        order: [M] frame numbers.

    Raises:
        UserError: the video holds fewer frames than when it was analyzed.
    """
    decoder = _Decoder(reader)
    buffered = max(2, _BUFFER_BYTES // (reader.info.width * reader.info.height * 3))
    for backwards, stretch in _stretches(order):
        if not backwards:
            for number in stretch:
                yield decoder.frame(number)
            continue
        for start in range(0, len(stretch), buffered):
            numbers = stretch[start : start + buffered]
            frames = [decoder.frame(number) for number in reversed(numbers)]
            while frames:
                yield frames.pop()


def _stretches(order: npt.NDArray[np.int64]) -> Iterator[tuple[bool, list[int]]]:
    """Cut the order where it changes between forwards and backwards."""
    steps = np.diff(order, prepend=order[:1])
    for backwards, group in itertools.groupby(range(len(order)), key=lambda place: bool(steps[place] == -1)):
        yield backwards, [int(order[place]) for place in group]


class _Decoder:
    """Frame by number; decodes on from the last one where that is possible, else from the key frame before."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self._frames = iter(reader)
        self._number = -1
        self._image: AnyImage | None = None

    def frame(self, number: int) -> AnyImage:
        if number < self._number:
            self.reader.close()
            self._frames = self.reader.frames_from(number)
            self._number = number - 1
        while self._number < number:
            frame = next(self._frames, None)
            if frame is None:
                raise UserError(
                    f"{self.reader.path} has no frame {number}, though it had when it was analyzed; "
                    "run again with --refresh"
                )
            self._image = frame.image
            self._number += 1
        assert self._image is not None
        return self._image

"""What the detector looks at: stretches of a video, whitened and averaged, so that memory stays flat.

A few frames at a time are averaged and whitened (:mod:`~videoretalking.provenance.whitening`): what moves is
another content in each such group, and the mark is the same in all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition

from videoretalking.core.arrays import AnyImage, Floats32, Image8
from videoretalking.media.container import open_media, read_packets, timeline_origin
from videoretalking.media.reader import VideoInfo, VideoReader
from videoretalking.provenance.carriers import NOMINAL_SIDE
from videoretalking.provenance.whitening import whiten

SECONDS = 2.0  # of a piece
MAX_PIECES = 24  # longer videos are sampled, evenly
FRAMES = 25  # of a piece, about; the mark is the same in all
GROUP = 6  # frames that are averaged before they are whitened
_DARKEST, _BRIGHTER = np.float32(16), np.float32(255 / 219)  # from the brightness of videos to gray levels
MAX_SIDE = NOMINAL_SIDE  # pixels of the short side of what is looked at; larger pictures have larger tiles


@dataclass(frozen=True)
class Planes:
    """A frame as the detector looks at it.

    Attributes:
        gray: [H, W] brightness as videos store it, 16 to 235.
        color: [h, w] sum of both color differences in levels, of half the size; None where there are no colors.
    """

    gray: AnyImage
    color: AnyImage | None

    @classmethod
    def from_image(cls, image: Image8) -> Planes:
        """From [H, W, 3] uint8 RGB."""
        gray, red, blue = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb))
        size = (max(1, gray.shape[1] // 2), max(1, gray.shape[0] // 2))
        color = (red.astype(np.float32) + blue) * np.float32(224 / 255)
        return cls(
            _DARKEST + gray * np.float32(1 / _BRIGHTER), cv2.resize(color, size, interpolation=cv2.INTER_AREA)
        )

    @classmethod
    def from_frame(cls, frame: av.VideoFrame, turns: int) -> Planes:
        """From a decoded frame that is shown after so many quarter turns."""
        planes = frame.to_ndarray(format="yuv420p")
        height, width = frame.height, frame.width
        small = (-(-height // 2), -(-width // 2))
        colors = planes[height:].reshape(-1)[: 2 * small[0] * small[1]].reshape(2, *small)
        color = colors[0].astype(np.float32) + colors[1]
        return cls(np.rot90(planes[:height, :width], turns), np.rot90(color, turns))


@dataclass(frozen=True)
class Piece:
    """A stretch of a video.

    Attributes:
        start: seconds.
        end: seconds.
        mean: [H, W] gray levels, its frames averaged; short side at most 448.
        white: [H, W] its frames whitened and averaged.
        num_frames: how many were averaged.
    """

    start: float
    end: float
    mean: Floats32
    white: Floats32
    num_frames: int


class PieceSum:
    """Whitens and averages frames as they come."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end, self.num_frames = start, end, 0
        self._group = 0  # frames since the last whitening
        self._gray = self._color = self._total = self._white = np.zeros((0, 0), dtype=np.float32)

    def add(self, planes: Planes) -> None:
        """Take in one frame."""
        gray = _reduce(planes.gray, MAX_SIDE)
        color = None if planes.color is None else _reduce(planes.color, MAX_SIDE // 2)
        if self.num_frames == 0:
            self._total = np.zeros(gray.shape, dtype=np.float32)
            self._gray, self._white = self._total.copy(), self._total.copy()
            self._color = np.zeros((0, 0) if color is None else color.shape, dtype=np.float32)
        # streams may change their size
        self._gray += _fit(gray, self._gray)
        if color is not None and self._color.size:
            self._color += _fit(color, self._color)
        self._group += 1
        self.num_frames += 1
        if self._group == GROUP:
            self._whiten()

    def piece(self) -> Piece:
        """What came so far; at least one frame must have."""
        if self._group:
            self._whiten()
        count = np.float32(self.num_frames)
        mean = (self._total / count - _DARKEST) * _BRIGHTER
        return Piece(self.start, self.end, mean, self._white / count, self.num_frames)

    def _whiten(self) -> None:
        count = np.float32(self._group)
        self._white += count * whiten(self._gray / count, self._color / count if self._color.size else None)
        self._total += self._gray
        self._gray[:] = 0
        self._color[:] = 0
        self._group = 0


def read_pieces(path: str | Path) -> Iterator[Piece]:
    """Pieces of 2 seconds: all of a video up to 48 seconds, 24 spread over a longer one; a picture is one piece.

    Raises:
        UserError: unreadable file, no video stream, no frame that decodes.
    """
    with VideoReader(path) as video:
        info = video.info
        if info.is_still:
            still = PieceSum(0.0, 0.0)
            still.add(Planes.from_image(next(iter(video)).image))
            yield still.piece()
            return
    with open_media(path) as container:
        if info.duration > MAX_PIECES * SECONDS:
            starts = np.linspace(0.0, info.duration - SECONDS, MAX_PIECES).tolist()
            for start in starts:
                yield from _group(container, info, start)
        else:
            yield from _group(container, info, None)


def expected_pieces(path: str | Path) -> int:
    """How many pieces there will be, by the header."""
    with VideoReader(path) as video:
        return min(MAX_PIECES, max(1, round(video.info.duration / SECONDS)))


def _group(container: InputContainer, info: VideoInfo, start: float | None) -> Iterator[Piece]:
    """The piece that begins at ``start`` seconds, or all pieces of the file."""
    first = float(timeline_origin(container)) + info.start
    step = max(1, round(float(info.fps) * SECONDS / FRAMES))
    last = max(0, round(info.duration / SECONDS) - 1)  # takes the rest that is too short for a piece
    current: PieceSum | None = None
    for number, (time, frame) in enumerate(_decode(container, start and first + start)):
        offset = time - first
        if start is None:
            begin = min(max(0, int(offset / SECONDS)), last) * SECONDS
        elif offset < start:
            continue  # leads up from the key frame
        elif offset >= start + SECONDS:
            break
        else:
            begin = start
        if current is None or begin > current.start:
            if current is not None and current.num_frames:
                yield current.piece()
            current = PieceSum(begin, begin + SECONDS)
        current.end = max(current.end, offset)
        if number % step == 0 or current.num_frames == 0:
            current.add(Planes.from_frame(frame, -info.rotation // 90))
    if current is not None and current.num_frames:
        yield current.piece()


def _decode(container: InputContainer, start: float | None) -> Iterator[tuple[float, av.VideoFrame]]:
    """Times by the container's clock, and frames, from the key frame before ``start`` on."""
    covers = Disposition.attached_pic
    stream = next(item for item in container.streams.video if not item.disposition & covers)
    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
    if start is not None:
        container.seek(round(start * av.time_base), backward=True)
    time = start or 0.0
    for packet in read_packets(container, stream):
        with suppress(av.FFmpegError):
            for frame in stream.decode(packet):
                time = time if frame.time is None else frame.time
                yield time, frame


def _reduce(plane: AnyImage, side: int) -> AnyImage:
    """Shrink so that the short side has at most so many pixels."""
    height, width = plane.shape
    share = side / min(height, width)
    if share >= 1:
        return np.ascontiguousarray(plane)
    return cv2.resize(plane, (round(width * share), round(height * share)), interpolation=cv2.INTER_AREA)


def _fit(plane: AnyImage, like: AnyImage) -> AnyImage:
    return (
        plane
        if plane.shape == like.shape
        else cv2.resize(plane, like.shape[::-1], interpolation=cv2.INTER_AREA)
    )

"""What the detector looks at: mean pictures of stretches of a video, so that memory does not grow with length."""

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

from videoretalking.core.arrays import AnyImage, Floats32
from videoretalking.media.container import open_media, read_packets, timeline_origin
from videoretalking.media.reader import VideoInfo, VideoReader

SECONDS = 2.0  # of a piece
MAX_PIECES = 24  # longer videos are sampled, evenly
FRAMES = 25  # of a piece, about; the mark is the same in all
MAX_SIDE = 720  # pixels of the short side of what is looked at


@dataclass(frozen=True)
class Piece:
    """A stretch of a video.

    Attributes:
        start: seconds.
        end: seconds.
        mean: [H, W] gray levels, its frames averaged; short side at most 720.
        num_frames: how many were averaged.
    """

    start: float
    end: float
    mean: Floats32
    num_frames: int


class PieceSum:
    """Averages frames as they come."""

    def __init__(self, start: float, end: float) -> None:
        self.start, self.end, self.num_frames = start, end, 0
        self._total = np.zeros((0, 0), dtype=np.float32)

    def add(self, gray: AnyImage) -> None:
        """Take in [H, W] gray levels."""
        gray = _reduce(gray)
        if self.num_frames == 0:
            self._total = np.zeros(gray.shape, dtype=np.float32)
        elif gray.shape != self._total.shape:  # streams may change their size
            gray = cv2.resize(gray, self._total.shape[::-1], interpolation=cv2.INTER_AREA)
        cv2.accumulate(gray, self._total)
        self.num_frames += 1

    def piece(self) -> Piece:
        """What came so far; at least one frame must have."""
        return Piece(self.start, self.end, self._total / np.float32(self.num_frames), self.num_frames)


def read_pieces(path: str | Path) -> Iterator[Piece]:
    """Pieces of 2 seconds: all of a video up to 48 seconds, 24 spread over a longer one; a picture is one piece.

    Raises:
        UserError: unreadable file, no video stream, no frame that decodes.
    """
    with VideoReader(path) as video:
        info = video.info
        if info.is_still:
            still = PieceSum(0.0, 0.0)
            still.add(cv2.cvtColor(next(iter(video)).image, cv2.COLOR_RGB2GRAY))
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
            current.add(np.rot90(frame.to_ndarray(format="gray"), -info.rotation // 90))
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


def _reduce(gray: AnyImage) -> AnyImage:
    height, width = gray.shape
    share = MAX_SIDE / min(height, width)
    if share >= 1:
        return np.ascontiguousarray(gray)
    size = (round(width * share), round(height * share))
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)

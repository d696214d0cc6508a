"""Reading videos one frame at a time: memory stays flat however long the video is."""

from __future__ import annotations

import bisect
import logging
import weakref
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import av
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.media.color import ColorTags, frame_to_rgb, is_plain, read_tags
from videoretalking.media.container import open_media, read_packets, timeline_origin
from videoretalking.media.images import is_still_image, load_image
from videoretalking.media.picture import DecodedPicture, Picture

logger = logging.getLogger(__name__)

_DEFAULT_FPS = Fraction(25)  # of stills and of files that do not know their rate
_STILL_TIME_BASE = Fraction(1, 90_000)  # holds every common rate exactly
_MAX_FPS = 1000  # more is a tick rate that a demuxer mistook for a frame rate
_HDR_TRANSFERS = {16, 18}  # PQ and HLG
# Indices go by the time of decoding, which is a little earlier than that of showing.
_SEEK_LEAD = 1.0  # seconds
_EXACT_SEEK = {"mp4", "matroska"}  # formats that stamp every frame; others guess some after a jump

_Decoded: TypeAlias = tuple[int, int, av.VideoFrame]  # number, ticks and raw content of a frame
_Item = TypeVar("_Item")


@dataclass(frozen=True)
class VideoInfo:
    """What is known about a video before it is decoded.

    Attributes:
        width: pixels, rotation applied.
        height: pixels, rotation applied.
        fps: average frames a second; the frames' own times may be uneven.
        time_base: seconds of one tick of ``Frame.pts``.
        start: time of the first frame in seconds.
        duration: seconds from the first frame to the end of the last, estimated from the header.
        num_frames: estimated from the header; damaged files hold fewer.
        rotation: degrees clockwise that were applied to the stored frames (0, 90, 180, 270).
        sample_aspect_ratio: width over height of one pixel, rotation applied.
        color: how the stream's numbers stand for colors.
        full_chroma: whether the stream keeps color at full resolution (4:4:4).
        has_audio: whether the file has an audio stream.
        is_still: whether it is a picture.
    """

    width: int
    height: int
    fps: Fraction = _DEFAULT_FPS
    time_base: Fraction = _STILL_TIME_BASE
    start: float = 0.0
    duration: float = 0.0
    num_frames: int = 1
    rotation: int = 0
    sample_aspect_ratio: Fraction = Fraction(1)
    color: ColorTags = field(default_factory=ColorTags)
    full_chroma: bool = False
    has_audio: bool = False
    is_still: bool = False


@dataclass(frozen=True)
class Frame:
    """One decoded frame.

    Attributes:
        index: position among the frames that could be decoded, from 0.
        time: seconds on the file's time line, ``pts * time_base``. Where sound and picture start apart, 0 is
            where the earlier one starts.
        pts: the same in ticks of ``VideoInfo.time_base``.
        duration: ticks until the next frame as the file announces them; 0 if it does not.
        image: [height, width, 3] uint8 RGB, contiguous, upright.
    """

    index: int
    time: float
    pts: int
    duration: int
    image: Image8


@dataclass(frozen=True)
class Look:
    """One decoded frame to look at in parts; fields as in :class:`Frame`.

    Attributes:
        time: seconds on the file's time line.
        duration: ticks until the next frame, 0 where unknown.
        picture: its colors.
    """

    time: float
    duration: int
    picture: Picture


class VideoReader:
    """Frames of a video, an animation or a picture, in order and upright.

    Iterating decodes the file from its start, each time anew; :meth:`frames_from` starts later. Frames that a
    decoder conceals come as they are; what it cannot decode at all is left out, which shows as a longer step
    between two times, and is counted in ``skipped`` and in the log. A picture yields one frame.

    Example::

        with VideoReader("face.mp4") as video:
            for frame in video:
                use(frame.image, frame.time)

    Raises:
        UserError: unreadable file, no video stream (cover art does not count), or no frame that decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.skipped = 0
        self._map = _FrameMap()
        self._running: weakref.WeakSet[Generator[Any]] = weakref.WeakSet()
        if self.path.is_file() and is_still_image(self.path):
            height, width = load_image(self.path).shape[:2]
            self.info = VideoInfo(width, height, is_still=True)
        else:
            with open_media(self.path) as container:
                stream = _video_stream(container, self.path)
                first = _first_frame(container, stream)
                if first is None:
                    raise UserError(f"{path} has a video stream, but none of its frames can be decoded")
                self._stored_size = (first.width, first.height)
                self._orientation = _Orientation.of(first)
                self.info = _describe(container, stream, first, self._orientation)
        if self.info.color.transfer in _HDR_TRANSFERS:
            logger.warning("%s: high dynamic range is processed with 8 bits a sample", self.path)

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop iterations that are under way and close their files."""
        for frames in list(self._running):
            frames.close()

    def __iter__(self) -> Iterator[Frame]:
        return self.frames_from(0)

    def looks(self) -> Iterator[Look]:
        """The frames that iterating gives, whose colors are worked out only where they are looked at."""
        return self.looks_from(0)

    def looks_from(self, index: int) -> Iterator[Look]:
        """The same for the frames that :meth:`frames_from` gives."""
        if self.info.is_still:
            frames = self.frames_from(index)
            return (Look(frame.time, frame.duration, Picture(frame.image)) for frame in frames)
        return (self._look(pts, frame) for _, pts, frame in self._run(self._decode_from(index)))

    def frames_from(self, index: int) -> Iterator[Frame]:
        """The frames from number ``index`` on: the same that iterating gives.

        Where an undamaged stretch of the file was read before, decoding begins at the key frame that precedes
        ``index``; else at the start of the file.
        """
        if self.info.is_still:
            return self._run(frame for frame in self._still() if frame.index >= index)
        return self._run(self._frames(self._decode_from(index)))

    def frames_between(self, start: float, end: float = 0.0) -> Iterator[Frame]:
        """The frames of a stretch, numbered from its first one.

        Decoding begins at a key frame before the stretch in MP4, MOV, Matroska and WebM, else at the file's start.

        Args:
            start: second of the file's time line from which on frames are wanted.
            end: second at which to stop; 0 goes to the end of the file.
        """
        return self._run(
            self._still() if self.info.is_still else self._frames(self._decode_between(start, end))
        )

    def _run(self, items: Generator[_Item]) -> Iterator[_Item]:
        self._running.add(items)
        return items

    def _frames(self, decoded: Generator[_Decoded]) -> Generator[Frame]:
        with closing(decoded):
            for item in decoded:
                yield self._frame(*item)

    def _still(self) -> Generator[Frame]:
        yield Frame(0, 0.0, 0, 0, load_image(self.path))

    def _decode_from(self, index: int) -> Generator[_Decoded]:
        key = self._map.key_frame(index)
        missing = index if key == 0 else (yield from self._decode_after_seek(key, index))
        if missing is not None:
            yield from self._decode(missing)

    def _decode_after_seek(self, key: int, index: int) -> Generator[_Decoded, None, int | None]:
        """Frames from ``index`` on, as long as their stamps are those of the map.

        Returns:
            The first frame that is missing because the map ends or the seek led elsewhere; None if none is.
        """
        stamps, number = self._map.stamps, key
        with open_media(self.path) as container:
            stream = _video_stream(container, self.path)
            clock = self._clock(container)
            container.seek(stamps[key], stream=stream, backward=True)
            for decoded in self._decodable(container, stream):
                if number == key and decoded.pts is not None and decoded.pts < stamps[key]:
                    continue  # leads up to the key frame
                if number == len(stamps) or decoded.pts != stamps[number]:
                    return max(number, index)
                if number >= index:
                    yield number, clock.read(decoded.pts), decoded
                number += 1
        return None if number == len(stamps) else max(number, index)

    def _decode_between(self, start: float, end: float) -> Generator[_Decoded]:
        if start <= 0 and not end:
            yield from self._decode()
            return
        if start > 0:
            with open_media(self.path) as container:
                clock = self._clock(container)
                decodable = self._seek(container, _video_stream(container, self.path), start, clock)
                if decodable is not None:
                    yield from self._between(decodable, clock, start, end)
                    return
        with open_media(self.path) as container:
            decodable = self._decodable(container, _video_stream(container, self.path))
            yield from self._between(decodable, self._clock(container), start, end)

    def _between(
        self, decodable: Iterator[av.VideoFrame], clock: _Clock, start: float, end: float
    ) -> Generator[_Decoded]:
        index = 0
        for decoded in decodable:
            pts = clock.read(decoded.pts)
            time = float(pts * self.info.time_base)
            if end and time >= end:
                return
            if time >= start:
                yield index, pts, decoded
                index += 1

    def _seek(
        self, container: InputContainer, stream: VideoStream, start: float, clock: _Clock
    ) -> Iterator[av.VideoFrame] | None:
        """The frames from a key frame before ``start`` on; None where that cannot be found for sure."""
        if _EXACT_SEEK.isdisjoint(container.format.name.split(",")):
            return None
        target = clock.origin + round((start - _SEEK_LEAD) / float(self.info.time_base))
        try:
            container.seek(target, stream=stream, backward=True)
        except av.FFmpegError:
            return None
        decodable = self._decodable(container, stream)
        for decoded in decodable:
            if decoded.key_frame:  # what comes before it lacks the frames that it was predicted from
                if decoded.pts is None or (decoded.pts - clock.origin) * self.info.time_base > start:
                    return None
                return chain([decoded], decodable)
        return None

    def _decode(self, first: int = 0) -> Generator[_Decoded]:
        """Decode from the start and leave out the frames before ``first``."""
        self.skipped = 0
        index = concealed = 0
        with open_media(self.path) as container:
            stream = _video_stream(container, self.path)
            announced = stream.frames
            clock = self._clock(container)
            for decoded in self._decodable(container, stream):
                pts = clock.read(decoded.pts)
                concealed += decoded.is_corrupt
                damaged = self.skipped + concealed + clock.mended > 0
                self._map.add(index, decoded.pts, decoded.key_frame, damaged)
                if index >= first:
                    yield index, pts, decoded
                index += 1
        if self.skipped or concealed or index < announced:
            logger.warning(
                "%s is damaged: %d frames of %d announced; %d packets could not be decoded, %d frames were patched "
                "up by the decoder", self.path, index, announced, self.skipped, concealed,
            )  # fmt: skip
        if clock.mended:
            logger.warning("%s: %d frames had no usable time stamp; spaced evenly", self.path, clock.mended)

    def _clock(self, container: InputContainer) -> _Clock:
        info = self.info
        return _Clock(
            origin=round(timeline_origin(container) / info.time_base),
            step=max(1, round(1 / (info.fps * info.time_base))),
        )

    def _frame(self, index: int, pts: int, decoded: av.VideoFrame) -> Frame:
        image = self._orientation.apply(frame_to_rgb(decoded, self.info.color, *self._stored_size))
        time = float(pts * self.info.time_base)
        return Frame(index, time, pts, max(0, decoded.duration or 0), image)

    def _look(self, pts: int, decoded: av.VideoFrame) -> Look:
        plain = is_plain(decoded) and self._orientation == _Orientation()
        if plain and (decoded.width, decoded.height) == self._stored_size:
            picture: Picture = DecodedPicture(decoded, self.info.color)
        else:
            picture = Picture(self._frame(0, pts, decoded).image)
        return Look(float(pts * self.info.time_base), max(0, decoded.duration or 0), picture)

    def _decodable(self, container: InputContainer, stream: VideoStream) -> Iterator[av.VideoFrame]:
        stream.thread_type = "AUTO"
        for packet in read_packets(container, stream):
            try:
                yield from stream.decode(packet)
            except av.FFmpegError:
                self.skipped += 1


@dataclass
class _FrameMap:
    """Time stamps of the frames from the start of the file on, up to the first damage, and which begin anew."""

    stamps: list[int] = field(default_factory=list)
    key_frames: list[int] = field(default_factory=list)
    whole: bool = True

    def add(self, index: int, stamp: int | None, is_key: bool, damaged: bool) -> None:
        self.whole = self.whole and not damaged
        if self.whole and stamp is not None and index == len(self.stamps):
            self.stamps.append(stamp)
            if is_key:
                self.key_frames.append(index)

    def key_frame(self, index: int) -> int:
        """The last key frame up to ``index``, 0 if it is not known."""
        place = bisect.bisect_right(self.key_frames, index)
        return self.key_frames[place - 1] if place and index < len(self.stamps) else 0


class _Clock:
    """Time stamps on the file's time line, in ticks, that always advance."""

    def __init__(self, origin: int, step: int) -> None:
        self.mended = 0  # stamps that were missing, negative or not after the one before
        self.origin = origin
        self._step = step
        self._last: int | None = None

    def read(self, stamp: int | None) -> int:
        earliest = 0 if self._last is None else self._last + 1
        if stamp is None or stamp - self.origin < earliest:
            self.mended += 1
            self._last = 0 if self._last is None else self._last + self._step
        else:
            self._last = stamp - self.origin
        return self._last


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    streams = [
        stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic
    ]
    if not streams:
        reason = "only cover art" if container.streams.video else "no video stream"
        raise UserError(f"{path} has {reason}: give a video or a picture")
    return streams[0]


def _describe(
    container: InputContainer, stream: VideoStream, first: av.VideoFrame, orientation: _Orientation
) -> VideoInfo:
    assert stream.time_base is not None  # every demuxed stream has one
    fps = Fraction(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
    if not 0 < fps <= _MAX_FPS:
        fps = _DEFAULT_FPS
    start = max(0.0, float((first.pts or 0) * stream.time_base - timeline_origin(container)))
    if stream.duration:
        duration = float(stream.duration * stream.time_base)
    else:
        duration = (container.duration or 0) / 1e6 - start
    duration = max(duration, float(1 / fps))
    width, height = first.width, first.height
    aspect = Fraction(stream.sample_aspect_ratio or 1)
    if orientation.transpose:
        width, height, aspect = height, width, 1 / aspect
    return VideoInfo(
        width=width,
        height=height,
        fps=fps,
        time_base=Fraction(stream.time_base),  # PyAV 19 has a type of its own
        start=start,
        duration=duration,
        num_frames=stream.frames or round(duration * fps),
        rotation=orientation.rotation,
        sample_aspect_ratio=aspect,
        color=read_tags(first, stream.codec_context),
        full_chroma=first.format.name.startswith("yuv444"),
        has_audio=bool(container.streams.audio),
    )


def _first_frame(container: InputContainer, stream: VideoStream) -> av.VideoFrame | None:
    for packet in read_packets(container, stream):
        with suppress(av.FFmpegError):
            for frame in stream.decode(packet):
                return frame
    return None


@dataclass(frozen=True)
class _Orientation:
    """How stored frames are turned to be upright: transposed first, then mirrored."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> _Orientation:
        """From the display matrix, to the nearest quarter turn; upright without one."""
        data: Any = frame.side_data.get("DISPLAYMATRIX")
        if data is None:
            return cls()
        # x' = a x + c y, y' = b x + d y in units of 1/65536
        (a, b, _), (c, d, _), _ = np.frombuffer(data, dtype=np.int32).reshape(3, 3).tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def rotation(self) -> int:
        """Degrees clockwise; mirroring is not counted."""
        if self.transpose:
            return 90 if self.flip_x else 270
        return 180 if self.flip_x and self.flip_y else 0

    def apply(self, image: Image8) -> Image8:
        if self.transpose:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1])

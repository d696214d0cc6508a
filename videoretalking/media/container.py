"""Opening media files and the zero of their time line, shared by the video and audio readers."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from videoretalking.core.errors import UserError

logger = logging.getLogger(__name__)

# Titles that are no UTF-8 are no reason to refuse a file; PyAV 19 reads them without being asked.
_OPEN_OPTIONS: dict[str, Any] = (
    {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
)

# Transport and program streams run on a broadcaster's clock that starts anywhere; every other container's clock
# starts at the beginning of the programme, so a stream that starts late there is late on purpose.
_ARBITRARY_CLOCK = {"mpegts", "mpeg"}


def open_media(path: str | Path) -> InputContainer:
    """Open a media file for reading.

    Raises:
        UserError: missing, a folder, empty, of an unknown format, or without a readable index.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder, not a media file")
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty")
    try:
        # absolute, because FFmpeg takes what stands before a colon in a relative name for a protocol
        return av.open(str(path.absolute()), **_OPEN_OPTIONS)
    except PermissionError:
        raise UserError(f"{path} cannot be read: permission denied") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"{path} cannot be read: it is no media file of a known format, or it is damaged or cut off ({reason})"
        ) from None


def timeline_origin(container: InputContainer) -> Fraction:
    """The time stamp, in seconds, that counts as 0 on the file's time line.

    It is 0 unless the container's clock is arbitrary or some stream starts before 0; then it is the earliest
    start of an audio or video stream, so that the distance between sound and picture is kept.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and stream.time_base is not None
    ]
    earliest = min(starts, default=Fraction(0))
    arbitrary = not _ARBITRARY_CLOCK.isdisjoint(container.format.name.split(","))
    return earliest if arbitrary or earliest < 0 else Fraction(0)


def read_packets(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Packet]:
    """Packets of one stream; damage that stops the demultiplexer ends the stream and is logged."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError as error:
            logger.warning("%s: ends early, the file is damaged (%s)", container.name, error.strerror)
            return
        if packet is None:
            return
        yield packet

"""The audio stream of an output file, muxed step by step beside the picture."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet

from videoretalking.core.arrays import Floats32
from videoretalking.core.errors import UserError
from videoretalking.media.audio import (
    AudioInfo,
    audio_info,
    audio_stream,
    full_scale_gain,
    layout_name,
    make_frame,
    read_audio,
)
from videoretalking.media.container import open_media, read_packets, timeline_origin

Span = tuple[float, float]
SoundFilter = Callable[
    [Iterable[Floats32], int], Iterator[Floats32]
]  # blocks, samples a second -> as many samples
WHOLE: Span = (0.0, float("inf"))

# Formats that take AAC packets as they are. Matroska would also need the encoder's delay, which packets lack.
_COPIES_AAC = {"mp4", "mov"}
_AAC_RATES = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
_OPUS_RATE = 48_000  # what it decodes to in any case; the others shift the sound by their delay
_BITS_PER_CHANNEL = 128_000  # a second; transparent for speech and for most music
_MAX_BITS_PER_SAMPLE = 6  # of AAC


class Soundtrack:
    """Audio of one file, added to a container under construction.

    AAC is copied into MP4 and MOV when none of it is cut off or changed; everything else is encoded at its own rate
    and number of channels (as :func:`media.audio.read_audio` gives them): as AAC, or as Opus for WebM.

    Args:
        container: the output; no packet may have been muxed yet.
        path: audio or video file.
        span: (start, stop) seconds of that file; ``start`` comes to lie at time 0.
        change: what the samples go through before they are encoded, such as a mark; None leaves them alone.

    Raises:
        UserError: unreadable file, no audio stream, no samples in the span.
    """

    def __init__(
        self, container: OutputContainer, path: Path, span: Span = WHOLE, change: SoundFilter | None = None
    ) -> None:
        self._container = container
        info = audio_info(path)
        file_format = container.format.name
        uncut = span[0] <= 0.0 and (span[1] == WHOLE[1] or 0.0 < info.duration <= span[1])
        if uncut and change is None and info.codec == "aac" and file_format in _COPIES_AAC:
            self._packets = _copied(container, path)
        else:
            stream = _add_stream(container, info)
            blocks = _cut(path, span, full_scale_gain(path, info))
            rate = info.sample_rate
            self._packets = _encoded(stream, blocks if change is None else change(blocks, rate), rate)
        self._next = next(self._packets, None)
        if self._next is None:
            raise UserError(f"{path} has no audio samples between {span[0]:g} s and {span[1]:g} s")

    def advance(self, time: float) -> None:
        """Mux what belongs up to ``time`` seconds, so that sound and picture lie side by side in the file."""
        while self._next is not None and _seconds(self._next) <= time:
            self._container.mux(self._next)
            self._next = next(self._packets, None)

    def close(self) -> None:
        """Release the input file."""
        self._packets.close()


def _seconds(packet: Packet) -> float:
    assert packet.pts is not None and packet.time_base is not None  # encoders and _copied set both
    return float(packet.pts * packet.time_base)


def _copied(container: OutputContainer, path: Path) -> Generator[Packet]:
    with open_media(path) as source:
        stream = audio_stream(source, path)
        output = container.add_stream_from_template(stream)
        assert stream.time_base is not None  # every demuxed stream has one
        origin = round(timeline_origin(source) / stream.time_base)
        for packet in read_packets(source, stream):
            if packet.pts is None or packet.dts is None:  # the end mark, or damage
                continue
            packet.pts -= origin
            packet.dts -= origin
            packet.stream = output
            yield packet


def _add_stream(container: OutputContainer, info: AudioInfo) -> AudioStream:
    layout = layout_name(info.channels)
    if container.format.name == "webm":
        stream = container.add_stream("libopus", rate=_OPUS_RATE, layout=layout)
    else:
        rate = max((rate for rate in _AAC_RATES if rate <= info.sample_rate), default=_AAC_RATES[-1])
        # FFmpeg's other search leaves audible holes in some speech at high bit rates
        stream = container.add_stream("aac", rate=rate, layout=layout, options={"aac_coder": "fast"})
    assert isinstance(stream, AudioStream)
    per_channel = min(_BITS_PER_CHANNEL, _MAX_BITS_PER_SAMPLE * stream.rate)
    stream.bit_rate = per_channel * len(stream.layout.channels)
    return stream


def _cut(path: Path, span: Span, gain: float) -> Generator[Floats32]:
    """Blocks of the samples in a span."""
    position = 0  # of the next sample of the input
    for block, rate in _without_padding(path):
        first = max(0, round(span[0] * rate) - position)
        last = block.shape[1] if span[1] == WHOLE[1] else max(0, round(span[1] * rate) - position)
        position += block.shape[1]
        block = block[:, first:last]
        if block.shape[1]:
            yield block * np.float32(gain)


def _without_padding(path: Path) -> Iterator[tuple[Floats32, int]]:
    """What :func:`media.audio.read_audio` gives, without what an encoder added to fill its last packet.

    A copied stream says where its sound ends; one that is encoded anew would grow by that rest each time.
    """
    end, position = _end(path), 0
    held: Floats32 | None = None
    rate = 0
    for block, rate in read_audio(path):
        if held is not None:
            position += held.shape[1]
            yield held, rate
        held = block
    if held is not None:
        last = round(end * rate) - position if end < WHOLE[1] else held.shape[1]
        yield held[:, :last] if last > 0 else held, rate


def _end(path: Path) -> float:
    """Seconds on the file's time line at which its sound ends; infinite where no header tells exactly."""
    with open_media(path) as source:
        stream = audio_stream(source, path)
        if "mp4" not in source.format.name.split(",") or stream.duration is None or stream.time_base is None:
            return WHOLE[1]
        start = Fraction(stream.start_time or 0) * stream.time_base if source.streams.video else Fraction(0)
        return float(start - timeline_origin(source) + stream.duration * stream.time_base)


def _encoded(stream: AudioStream, blocks: Iterable[Floats32], rate: int) -> Generator[Packet]:
    written = 0
    for block in blocks:
        frame = make_frame(block, rate)
        frame.pts, frame.time_base = written, Fraction(1, rate)
        written += block.shape[1]
        yield from stream.encode(frame)
    if written:
        yield from stream.encode(None)

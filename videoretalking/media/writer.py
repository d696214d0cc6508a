"""Writing videos one frame at a time, with the frames' own times and the driving audio beside them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.media.color import Chroma, Layout, rgb_to_planes
from videoretalking.media.formats import CONTAINERS, SPEEDS, check_format
from videoretalking.media.reader import VideoInfo
from videoretalking.media.soundtrack import WHOLE, SoundFilter, Soundtrack, Span

_MIN_MOVIE_CLOCK = 1000  # ticks a second of an MP4's clock


@dataclass(frozen=True)
class _Codec:
    """An encoder of FFmpeg and how it is asked for a quality."""

    encoder: str
    crf: int | None = None  # default constant rate factor; None: the codec loses nothing
    hasty: int = 0  # by how much less with presets faster than "fast", which lose more at the same factor
    options: dict[str, str] = field(default_factory=dict)
    speed_option: str = "preset"
    speeds: tuple[str, ...] = SPEEDS  # its words for our presets
    full_chroma: bool = True  # whether it can keep color at full resolution
    half_chroma: Chroma = "left"  # where decoders take subsampled color to lie

    def default_crf(self, preset: str) -> int | None:
        hasty = SPEEDS.index(preset) < SPEEDS.index("fast")
        return None if self.crf is None else self.crf - self.hasty * hasty


# Pixels that nobody edited should come through unchanged: the defaults of H.264 and HEVC keep 47 dB or more in
# RGB on typical clips, 45 dB on very noisy ones, against what was decoded. Hence x264 without psychovisual and
# adaptive quantization, which move bits away from where errors are, without mbtree, which starves passing detail,
# and with finer chroma, which weighs double in RGB.
_CODECS = {
    "h264": _Codec(
        encoder="libx264",
        crf=12,
        hasty=1,
        options={"x264-params": "mbtree=0:psy=0:aq-mode=0:chroma-qp-offset=-4"},
    ),
    "hevc": _Codec(
        encoder="libx265",
        crf=12,
        options={"x265-params": "log-level=error:cutree=0:psy-rd=0:aq-mode=0:cbqpoffs=-4:crqpoffs=-4"},
    ),
    "vp9": _Codec(
        encoder="libvpx-vp9",
        crf=6,
        options={"b:v": "0", "row-mt": "1"},
        speed_option="cpu-used",
        speeds=("8", "7", "6", "5", "4", "3", "2", "1", "0"),
        half_chroma="center",
    ),
    "av1": _Codec(
        encoder="libsvtav1",
        crf=5,
        speeds=("12", "11", "10", "9", "8", "7", "5", "4", "3"),
        full_chroma=False,
        half_chroma="center",
    ),
    "ffv1": _Codec(encoder="ffv1", speed_option="", speeds=("",) * 9),
}


class VideoWriter:
    """Encode frames with their own times, beside the driving audio, and move the file into place when done.

    Size, pixel aspect, color matrix and range follow ``like``; colors that its file leaves untagged stay
    untagged and are encoded with the matrix they were decoded with, so every player shows input and output
    alike. A size with an odd side is kept and encoded in 4:4:4, as is 4:4:4 input; all else becomes 4:2:0. Samples
    have 8 bits. Times are exact in MP4 and MOV; Matroska and WebM round them to a millisecond.

    Leaving the ``with`` block through an error leaves nothing behind, and an older file untouched.

    Example::

        with VideoReader("face.mp4") as video, VideoWriter("out.mp4", video.info, audio="speech.wav") as out:
            for frame in video:
                out.write(edit(frame.image), frame.time)

    Attributes:
        layout: colors and chroma of the planes that :meth:`write_planes` takes; None if the codec keeps RGB.

    Args:
        path: result; the suffix chooses the container (mp4, m4v, mov, mkv, webm).
        like: the input's facts.
        codec: ``h264``, ``hevc``, ``vp9``, ``av1``, or ``ffv1`` (RGB without any loss, for mkv).
        crf: constant rate factor, lower is better; None is visually lossless.
        preset: speed against size in the words of x264, ``ultrafast`` to ``veryslow``.
        audio: file with the driving audio, or None. It keeps its rate and channels, see :class:`Soundtrack`.
        audio_span: (start, stop) seconds of that file to use; ``start`` comes to lie at time 0.
        audio_filter: what its samples go through, such as a mark; sound is never copied as it is then.

    Raises:
        UserError: unknown codec, preset or container, a combination that cannot be, unusable audio, or a place
            that cannot be written to.
    """

    def __init__(
        self,
        path: str | Path,
        like: VideoInfo,
        *,
        codec: str = "h264",
        crf: int | None = None,
        preset: str = "medium",
        audio: str | Path | None = None,
        audio_span: Span = WHOLE,
        audio_filter: SoundFilter | None = None,
    ) -> None:
        self.path = Path(path)
        self.info = like
        self._last_pts = -1
        self._closed = False
        self._durations: dict[int, int] = {}  # of frames inside the encoder, by time stamp
        settings = _settings(codec, crf, preset, self.path, like)
        full_chroma = settings.full_chroma and (like.full_chroma or _is_odd(like))
        chroma: Chroma = "full" if full_chroma else settings.half_chroma
        self.layout: Layout | None = None if settings.crf is None else (like.color, chroma)
        self._pixel_format = "bgr0" if settings.crf is None else "yuv444p" if full_chroma else "yuv420p"
        with self._write_errors(), ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._container = _create(temporary, like.time_base)
            stack.callback(self._container.close)
            factor = settings.default_crf(preset) if crf is None else crf
            self._stream = self._add_stream(settings, factor, preset)
            self._soundtrack = None
            if audio is not None:
                self._soundtrack = Soundtrack(self._container, Path(audio), audio_span, audio_filter)
                stack.callback(self._soundtrack.close)
            self._resources = stack.pop_all()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            with suppress(av.FFmpegError, OSError):  # the first error is the one to report
                self._resources.__exit__(kind, error, trace)

    def write(self, image: Image8, time: float, duration: float = 0.0) -> None:
        """Encode one frame.

        Args:
            image: [height, width, 3] uint8 RGB.
            time: seconds; later than that of the frame before.
            duration: seconds that the frame is shown, 0 if unknown; only the last frame's matters.

        Raises:
            ValueError: wrong shape or type, or a time that does not advance by a tick.
            UserError: the file cannot be written (disk full).
        """
        shape = (self.info.height, self.info.width, 3)
        if image.shape != shape or image.dtype != np.uint8:
            raise ValueError(f"expected uint8 {shape}, got {image.dtype} {image.shape}")
        if self.layout is None:
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="bgr0")
            self._encode(frame, time, duration)
        else:
            self.write_planes(rgb_to_planes(image, *self.layout), time, duration)

    def write_planes(self, planes: Image8, time: float, duration: float = 0.0) -> None:
        """Encode one frame that has the encoder's form already.

        Args:
            planes: as :func:`media.color.rgb_to_planes` makes them with :attr:`layout`; the encoder reads them some
                frames later, so that they must not change.
            time: as for :meth:`write`.
            duration: likewise.

        Raises:
            ValueError: a time that does not advance by a tick.
            UserError: the file cannot be written (disk full).
        """
        # PyAV takes the usual ones where they are; to copy them would hold back all threads
        shared = self._pixel_format == "yuv420p"
        make = av.VideoFrame.from_numpy_buffer if shared else av.VideoFrame.from_ndarray
        frame = make(np.ascontiguousarray(planes), format=self._pixel_format)
        color = self.info.color
        frame.colorspace, frame.color_range = color.matrix, color.range
        self._encode(frame, time, duration)

    def _encode(self, frame: av.VideoFrame, time: float, duration: float) -> None:
        time_base = self.info.time_base
        pts = round(Fraction(time) / time_base)
        if pts <= self._last_pts:
            raise ValueError(f"frame time {time} s is not after that of the frame before")
        frame.pts, frame.time_base = pts, time_base
        self._durations[pts] = round(Fraction(duration) / time_base)
        with self._write_errors():
            self._mux(self._stream.encode(frame))
            if self._soundtrack is not None:
                self._soundtrack.advance(time)
        self._last_pts = pts

    def close(self) -> None:
        """Finish the file and move it into place.

        Raises:
            ValueError: no frame was written.
            UserError: the file cannot be written.
        """
        if self._closed:
            return
        self._closed = True
        with self._write_errors(), self._resources:
            if self._last_pts < 0:
                raise ValueError(f"no frame was written to {self.path}")
            self._mux(self._stream.encode(None))
            if self._soundtrack is not None:
                self._soundtrack.advance(float("inf"))

    def _add_stream(self, settings: _Codec, crf: int | None, preset: str) -> VideoStream:
        info = self.info
        options = dict(settings.options)
        if crf is not None:
            options["crf"] = str(crf)
        if settings.speed_option:
            options[settings.speed_option] = settings.speeds[SPEEDS.index(preset)]
        os.environ.setdefault("SVT_LOG", "1")  # SVT-AV1 prints its whole configuration otherwise
        stream = self._container.add_stream(settings.encoder, rate=info.fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height = info.width, info.height
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = info.time_base
        context.thread_type = "FRAME"  # PyAV's default, slices, costs x264 quality
        context.sample_aspect_ratio = info.sample_aspect_ratio
        if settings.encoder == "libx265" and self._container.format.name != "matroska":
            context.codec_tag = "hvc1"  # Apple's players know no other
        if settings.crf is not None:
            context.colorspace = info.color.matrix
            context.color_range = info.color.range
            context.color_primaries = info.color.primaries
            context.color_trc = info.color.transfer
        return stream

    def _mux(self, packets: list[Packet]) -> None:
        for packet in packets:
            assert packet.pts is not None  # the frame's own
            packet.duration = self._durations.pop(packet.pts)  # encoders forget it
            self._container.mux(packet)

    @contextmanager
    def _write_errors(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from None


def _settings(codec: str, crf: int | None, preset: str, path: Path, like: VideoInfo) -> _Codec:
    check_format(path, codec, crf)
    if preset not in SPEEDS:
        raise UserError(f"unknown encoder preset {preset!r}, choose {', '.join(SPEEDS)}")
    settings = _CODECS[codec]
    if settings.encoder not in av.codecs_available:
        raise UserError(
            f"the installed PyAV has no {codec} encoder ({settings.encoder}); choose another codec"
        )
    if _is_odd(like) and not settings.full_chroma:
        raise UserError(f"{codec} needs even sizes, the picture has {like.width}x{like.height}: choose h264")
    return settings


def _create(path: Path, time_base: Fraction) -> OutputContainer:
    file_format = CONTAINERS[path.suffix.lower()]
    options = {}
    if file_format in {"mp4", "mov"}:
        # The index goes to the front, so that players can start before they have the whole file. A picture that
        # starts late is delayed in ticks of the movie's clock, so the clock holds the frames' times exactly.
        ticks = time_base.denominator * math.ceil(_MIN_MOVIE_CLOCK / time_base.denominator)
        options = {"movflags": "+faststart", "movie_timescale": str(ticks)}
    # absolute, because FFmpeg takes what stands before a colon in a relative name for a protocol
    return av.open(str(path.absolute()), "w", format=file_format, container_options=options)


def _is_odd(info: VideoInfo) -> bool:
    return info.width % 2 == 1 or info.height % 2 == 1

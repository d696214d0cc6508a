"""Speech from any audio or video file: as a clean waveform for the networks, as raw blocks for the writer."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.core.errors import UserError
from videoretalking.media.container import open_media, read_packets, timeline_origin

logger = logging.getLogger(__name__)


_CANCELED = 0.1  # a mixdown quieter than this share of the louder channel means that the channels cancel
_MAX_PEAK = 2.0  # float files above this use another full scale than 1


@dataclass(frozen=True)
class AudioInfo:
    """What the header of an audio stream says.

    Attributes:
        codec: name of the decoder, such as ``aac`` or ``pcm_s16le``.
        sample_rate: samples a second.
        channels: number of channels.
        duration: seconds, estimated; 0 if the header does not say.
    """

    codec: str
    sample_rate: int
    channels: int
    duration: float


def audio_info(path: str | Path) -> AudioInfo:
    """Facts about the first audio stream.

    Raises:
        UserError: unreadable file or no audio stream.
    """
    with open_media(path) as container:
        stream = audio_stream(container, path)
        if stream.duration is not None and stream.time_base is not None:
            duration = float(stream.duration * stream.time_base)
        else:
            duration = (container.duration or 0) / 1e6
        return AudioInfo(stream.codec_context.name, stream.rate, stream.channels, duration)


def audio_stream(container: InputContainer, path: str | Path) -> AudioStream:
    """The first audio stream.

    Raises:
        UserError: there is none.
    """
    if not container.streams.audio:
        raise UserError(f"{path} has no audio stream")
    return container.streams.audio[0]


def load_waveform(path: str | Path, sample_rate: int = SAMPLE_RATE) -> Floats32:
    """Whole audio of a file as one channel.

    Sample 0 lies at time 0 of the file's time line (a stream that starts late is preceded by silence). More than
    two channels are mixed to stereo as films are; two are averaged, unless they cancel each other, then the
    louder one is taken. NaN and infinite samples become 0. Float files far above full scale are scaled to it.

    Args:
        path: any audio or video file.
        sample_rate: of the result, samples a second.

    Returns:
        [n] float32, nominally in [-1, 1].

    Raises:
        UserError: unreadable file, no audio stream, or no samples in it.
    """
    blocks = list(read_resampled(path, sample_rate))
    if not blocks or sum(block.shape[1] for block in blocks) == 0:
        raise UserError(f"{path} has an audio stream without samples")
    wave = _mix(np.concatenate(blocks, axis=1), path)
    return wave * np.float32(full_scale_gain(path, audio_info(path)))


def read_audio(path: str | Path, max_channels: int = 8) -> Iterator[tuple[Floats32, int]]:
    """Stream the first audio track at its own rate.

    Undecodable stretches are skipped and counted in the log; NaN and infinite samples become 0.

    Args:
        path: any audio or video file.
        max_channels: tracks with more channels are mixed to stereo, as are those that are not mono, stereo or 5.1.

    Yields:
        blocks of [channels, n] float32 and the sample rate; the first sample lies at time 0 of the time line.

    Raises:
        UserError: unreadable file or no audio stream.
    """
    with open_media(path) as container:
        stream = audio_stream(container, path)
        rate = stream.rate
        layout = layout_name(min(stream.channels, max_channels))
        converter = av.AudioResampler(format="fltp", layout=layout, rate=rate)
        lead = _leading_silence(container, stream)
        if lead:
            yield np.zeros((len(av.AudioLayout(layout).channels), lead), np.float32), rate
        bad_packets = bad_samples = 0
        for packet in read_packets(container, stream):
            try:
                frames = stream.decode(packet)
            except av.FFmpegError:
                bad_packets += 1
                continue
            for frame in frames:
                frame.pts = None  # samples are counted, not stamped: stamps of damaged files jump
                for converted in converter.resample(frame):
                    block = _samples(converted)
                    bad = ~np.isfinite(block)
                    if bad.any():
                        bad_samples += int(bad.sum())
                        block = np.where(bad, np.float32(0.0), block)
                    yield block, rate
        if bad_packets:
            logger.warning("%s: %d audio packets could not be decoded", path, bad_packets)
        if bad_samples:
            logger.warning("%s: %d samples were not numbers; replaced by silence", path, bad_samples)


def read_resampled(path: str | Path, sample_rate: int) -> Iterator[Floats32]:
    """Stream the first audio track as one or two channels at a rate of one's choice.

    Args:
        path: any audio or video file.
        sample_rate: of the result, samples a second.

    Yields:
        blocks of [channels, n] float32; see :func:`read_audio`.

    Raises:
        UserError: unreadable file or no audio stream.
    """
    resampler: av.AudioResampler | None = None
    for block, rate in read_audio(path, max_channels=2):
        if resampler is None:
            resampler = av.AudioResampler(format="fltp", layout=layout_name(len(block)), rate=sample_rate)
        yield from map(_samples, resampler.resample(make_frame(block, rate)))
    if resampler is not None:
        yield from map(_samples, resampler.resample(None))


def layout_name(channels: int) -> str:
    """The layout that :func:`read_audio` gives a track of so many channels: mono, stereo or 5.1."""
    return {1: "mono", 6: "5.1"}.get(channels, "stereo")


def full_scale_gain(path: str | Path, info: AudioInfo) -> float:
    """Factor for a file of floating-point samples that reach far above full scale; 1 for all others."""
    if not info.codec.startswith(("pcm_f32", "pcm_f64")):
        return 1.0
    peak = max((float(np.abs(block).max(initial=0.0)) for block, _ in read_audio(path)), default=0.0)
    if peak <= _MAX_PEAK:
        return 1.0
    logger.warning("%s: samples reach %.1f times full scale; scaled down to it", path, peak)
    return 1.0 / peak


def make_frame(block: Floats32, rate: int) -> av.AudioFrame:
    """[channels, n] float32 as from :func:`read_audio` -> frame for an encoder or resampler."""
    layout = layout_name(len(block))
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout=layout)
    frame.sample_rate = rate
    return frame


def _samples(frame: av.AudioFrame) -> Floats32:
    return frame.to_ndarray().astype(np.float32, copy=False)


def _leading_silence(container: InputContainer, stream: AudioStream) -> int:
    """Samples of silence before a stream that starts after time 0 of a file with video in it.

    In a pure audio file a late start is the encoder's delay, already removed by the demuxer.
    """
    if not container.streams.video or stream.start_time is None or stream.time_base is None:
        return 0
    start = stream.start_time * stream.time_base - timeline_origin(container)
    return max(0, round(start * stream.rate))


def _mix(channels: Floats32, path: str | Path) -> Floats32:
    """[channels, n] -> [n], by the mean unless the channels cancel."""
    mixed = channels.mean(axis=0, dtype=np.float32)
    levels = np.sqrt(np.square(channels).mean(axis=1, dtype=np.float64))
    loudest = int(levels.argmax())
    if np.sqrt(np.square(mixed).mean(dtype=np.float64)) < _CANCELED * levels[loudest]:
        logger.warning("%s: the channels cancel each other; taking channel %d alone", path, loudest + 1)
        return channels[loudest]
    return np.asarray(mixed)

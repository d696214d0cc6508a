"""Small synthetic clips and sounds for the media tests."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Image8
from videoretalking.media.color import Planes
from videoretalking.media.video import Frame, VideoInfo, VideoReader, VideoWriter


def picture(width: int, height: int, seed: int = 0, grain: float = 2.0) -> Image8:
    """Smooth colors with film grain, like a camera picture."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(30, 225, (5, 6, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(smooth + rng.normal(0, grain, smooth.shape), 0, 255).astype(np.uint8)


def write_clip(
    path: Path, images: Sequence[Image8], times: Sequence[float], duration: float = 0.0, **options: Any
) -> VideoInfo:
    """Write frames with the project's writer; options of VideoInfo and VideoWriter may be mixed."""
    fields = {name: options.pop(name) for name in list(options) if name in VideoInfo.__dataclass_fields__}
    height, width = images[0].shape[:2]
    info = VideoInfo(width, height, **fields)
    with VideoWriter(path, info, **options) as writer:
        for image, time in zip(images, times, strict=True):
            writer.write(image, time, duration)
    return info


def write_raw(
    path: Path,
    frames: Sequence[av.VideoFrame],
    codec: str = "libx264",
    prepare: Callable[[Any], None] = lambda stream: None,
    **options: str,
) -> None:
    """Encode prepared frames at 25 a second without the project's writer."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height = frames[0].width, frames[0].height
        stream.pix_fmt = frames[0].format.name
        prepare(stream)
        for index, frame in enumerate(frames):
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def read(path: Path) -> list[Frame]:
    with VideoReader(path) as video:
        return list(video)


def samples_of(planes: Planes) -> npt.NDArray[np.uint8]:
    """[N] uint8."""
    samples = np.empty(planes.layout.num_samples, dtype=np.uint8)
    planes.copy_to(samples)
    return samples


def noise_bursts(rate: int, seconds: float, channels: int = 1, seed: int = 0) -> npt.NDArray[np.float32]:
    """[channels, n] bursts of noise: sound whose position in time is unmistakable."""
    rng = np.random.default_rng(seed)
    count = round(rate * seconds)
    envelope = np.clip(np.sin(2 * np.pi * 3.1 * np.arange(count) / rate), 0, 1) ** 2
    carrier = cv2.blur(rng.normal(0, 1, (1, count)), (9, 1))[0]
    return np.tile((0.5 * carrier * envelope).astype(np.float32), (channels, 1))


def write_wav(path: Path, samples: npt.NDArray[np.float32], rate: int) -> Path:
    """[channels, n] -> 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T * 32767).clip(-32768, 32767).astype("<i2").tobytes())
    return path


def write_float_wav(path: Path, samples: npt.NDArray[np.float32], rate: int) -> Path:
    """[channels, n] -> 32-bit float WAV, which may hold anything."""
    channels, data = len(samples), samples.T.astype("<f4").tobytes()
    header = b"RIFF" + (36 + len(data)).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    header += (3).to_bytes(2, "little") + channels.to_bytes(2, "little") + rate.to_bytes(4, "little")
    header += (rate * channels * 4).to_bytes(4, "little") + (channels * 4).to_bytes(2, "little")
    header += (32).to_bytes(2, "little") + b"data" + len(data).to_bytes(4, "little")
    path.write_bytes(header + data)
    return path


def delay(reference: npt.NDArray[Any], heard: npt.NDArray[Any]) -> int:
    """Samples by which ``heard`` comes later, by cross-correlation."""
    size = 1 << int(len(reference) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(reference, size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)))
    return lag - size if lag > size // 2 else lag


def psnr(first: Image8, second: Image8) -> float:
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-12)))

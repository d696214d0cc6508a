"""What the benchmark dubs: the bundled example at any size, by random weights as large as the released ones.

Speed does not depend on what the weights are, so nothing licensed is needed.
"""

from __future__ import annotations

import hashlib
import json
import logging
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import cycle, islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Image8
from videoretalking.core.checkpoint import save_checkpoint
from videoretalking.core.coefficients import NUM_EXPRESSION
from videoretalking.core.config import to_dict
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.core.locations import bundled, user_folder
from videoretalking.media.audio import load_waveform
from videoretalking.media.video import VideoInfo, VideoReader, VideoWriter
from videoretalking.models.catalog import NETWORKS, build_network, save_network

logger = logging.getLogger(__name__)

FPS = 25
# What a user has who fetched the released files for dubbing and converted them; all else comes from the bundled
# weights, as it does for that user.
RELEASED = ("dnet", "lnet", "enet", "reconnet", "gfpgan", "bisenet")
_LICENSE = "random numbers, for measuring speed only"
_INDEX = "complete.json"


@dataclass(frozen=True)
class Clip:
    """A job for the benchmark.

    Attributes:
        video: picture with a face that is tracked.
        audio: speech of the same length.
        width: of the picture.
        height: likewise.
        frames: of the picture.
    """

    video: Path
    audio: Path
    width: int
    height: int
    frames: int


def make_clip(folder: Path, width: int, height: int, frames: int) -> Clip:
    """The bundled speaker, as large as the picture's shorter side, forwards and backwards, with bundled speech."""
    video, audio = folder / f"{width}x{height}_{frames}.mp4", folder / f"{frames}.wav"
    once = min(frames, 2 * len(_speaker_images()))
    part = video if once == frames else folder / f"{width}x{height}_once.mp4"
    info = VideoInfo(width, height, fps=Fraction(FPS), time_base=Fraction(1, 12_800), num_frames=once)
    with VideoWriter(part, info, preset="ultrafast") as writer:
        for index, image in enumerate(islice(speaker(width, height), once)):
            writer.write(image, index / FPS, 1 / FPS)
    if part != video:
        _repeat(part, video, frames)
        part.unlink()
    samples = load_waveform(bundled("examples/speech.wav"))
    samples = np.resize(samples, round(frames / FPS * SAMPLE_RATE))  # again and again where it is short
    with wave.open(str(audio), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32_767).astype("<i2").tobytes())
    return Clip(video, audio, width, height, frames)


def _repeat(part: Path, whole: Path, frames: int) -> None:
    """Play a video again and again until there are so many frames; nothing is encoded anew."""
    with av.open(str(part)) as source, av.open(str(whole), "w") as result:
        stream = source.streams.video[0]
        target = result.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        once = sum(packet.duration or 0 for packet in packets)
        stamps = [(packet.pts or 0, packet.dts or 0) for packet in packets]
        clock = packets[0].time_base
        for number in range(frames):
            before, place = divmod(number, len(packets))
            packet = packets[place]
            packet.pts, packet.dts = (stamp + before * once for stamp in stamps[place])
            packet.time_base, packet.stream = clock, target  # both change when it is written
            result.mux(packet)


def speaker(width: int, height: int) -> Iterator[Image8]:
    """Endless frames; what lies beside the speaker's picture continues its border."""
    images = _speaker_images()
    side = min(width, height)
    beside, above = width - side, height - side
    borders = (above // 2, above - above // 2, beside // 2, beside - beside // 2)
    for image in cycle([*images, *reversed(images)]):
        picture = cv2.resize(image, (side, side), interpolation=cv2.INTER_CUBIC)
        yield cv2.copyMakeBorder(picture, *borders, cv2.BORDER_REPLICATE)  # type: ignore[misc]


def _speaker_images() -> list[Image8]:
    with VideoReader(bundled("examples/speaker.mp4")) as reader:
        return [frame.image for frame in reader]


def released_size_weights() -> Path:
    """The folder with random weights of the released sizes; written at the first call, about 1.2 GB."""
    configs = {name: to_dict(NETWORKS[name].classes()[1]()) for name in RELEASED}
    digest = hashlib.blake2b(json.dumps(configs, sort_keys=True).encode(), digest_size=8).hexdigest()
    folder = user_folder() / "benchmark" / f"released_sizes_{digest}"
    if (folder / _INDEX).is_file():
        return folder
    logger.info("writing random weights of the released sizes to %s", folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name in tqdm(RELEASED, desc="random weights", unit="network", delay=2.0):
        torch.manual_seed(0)
        save_network(folder / f"{name}.safetensors", build_network(name).eval(), license=_LICENSE)
    templates = {name: torch.zeros(NUM_EXPRESSION) for name in ("neutral", "smile")}
    save_checkpoint(folder / "expressions.safetensors", templates, network="", config={}, license=_LICENSE)
    (folder / _INDEX).write_text(json.dumps(configs), encoding="utf-8")
    return folder

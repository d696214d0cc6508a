"""Small clips with sound for the tests of the scripts."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16000
FPS = 25


def write_clip(path: Path, levels: Iterable[int], frequency: float = 440.0, size: int = 64) -> Path:
    """H.264 and AAC: gray frames of the given levels over a tone that grows louder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = list(levels)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "10"})
        video.width = video.height = size
        video.time_base = Fraction(1, FPS)
        audio = container.add_stream("aac", rate=RATE, layout="mono")
        pattern = np.random.default_rng(0).integers(-8, 9, (size // 8, size // 8)).repeat(8, 0).repeat(8, 1)
        for index, level in enumerate(levels):
            image = np.clip(level + pattern - pattern.mean(), 0, 255).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(np.repeat(image[..., None], 3, axis=2), format="rgb24")
            frame.pts = index
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        time = np.arange(len(levels) * RATE // FPS) / RATE
        tone = (np.sin(2 * np.pi * frequency * time) * (0.1 + 0.1 * time)).astype(np.float32)
        sound = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        sound.sample_rate = RATE
        sound.pts = 0
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))
    return path

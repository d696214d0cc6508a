"""Fixtures: drawn videos, made-up speech, and a Retalker with tiny random networks."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_landmarks
from fakes import TINY, FakeTools

from videoretalking.media.video import VideoInfo, VideoWriter
from videoretalking.models.catalog import build_network
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.config import RuntimeConfig, WeightsConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.networks import Networks
from videoretalking.pipeline.weights import Weights


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Float32 on the CPU, three faces a batch."""
    return Engine(torch.device("cpu"), torch.float32, batch_size=3)


@pytest.fixture(scope="session")
def networks(engine: Engine) -> Networks:
    torch.manual_seed(0)
    dnet, lnet, enet = (
        engine.prepare(build_network(name, config).eval().requires_grad_(False))
        for name, config in TINY.items()
    )
    return Networks(engine, dnet, lnet, enet, restorer=None, ganimation=None, expert=None, parser=None)  # type: ignore[arg-type]


class FakeWeights(Weights):
    def templates(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {name: rng.standard_normal(64).astype(np.float32) for name in ("neutral", "smile")}


@pytest.fixture
def tools() -> FakeTools:
    return FakeTools()


@pytest.fixture
def make_retalker(tmp_path: Path, networks: Networks, tools: FakeTools) -> Callable[..., Retalker]:
    """``make_retalker(group={field: value}, networks_={field: network})`` -> Retalker with its own cache."""

    def make(
        networks_: dict[str, torch.nn.Module] | None = None, batch_size: int = 3, **groups: dict[str, object]
    ) -> Retalker:
        config = InferenceConfig(runtime=RuntimeConfig(device="cpu", cache_dir=str(tmp_path / "cache")))
        for name, values in groups.items():
            config = replace(config, **{name: replace(getattr(config, name), **values)})
        weights = FakeWeights("test", tmp_path, WeightsConfig())
        engine = replace(networks.engine, batch_size=batch_size)
        others = {name: engine.prepare(network) for name, network in (networks_ or {}).items()}
        return Retalker(config, weights, replace(networks, engine=engine, **others), tools)  # type: ignore[arg-type]

    return make


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """``make_video([frames], fps)`` -> lossless file of these frames."""

    def make(frames: Sequence[np.ndarray], fps: int = 25, name: str = "face.mkv") -> Path:
        height, width = frames[0].shape[:2]
        info = VideoInfo(width, height, fps=Fraction(fps), time_base=Fraction(1, 1000))
        path = tmp_path / name
        with VideoWriter(path, info, codec="ffv1") as writer:
            for index, frame in enumerate(frames):
                writer.write(frame, index / fps, 1 / fps)
        return path

    return make


@pytest.fixture
def make_speech(tmp_path: Path) -> Callable[..., Path]:
    """``make_speech(seconds, levels)`` -> WAV file of noise at 16 kHz, as long for each level."""

    def make(seconds: float, *levels: float) -> Path:
        rng = np.random.default_rng(0)
        parts = [rng.uniform(-level, level, round(seconds * 16_000)) for level in levels or (0.2,)]
        samples = np.concatenate(parts)
        path = tmp_path / "speech.wav"
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(16_000)
            file.writeframes((samples * 32767).astype("<i2").tobytes())
        return path

    return make


@pytest.fixture(scope="session")
def talking_frames() -> list[np.ndarray]:
    """Seven frames of a face that drifts to the right."""
    return [face_frame(face_landmarks(30 + index, 20, 80), 160, 128) for index in range(7)]

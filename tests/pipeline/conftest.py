"""A drawn video, a fake face detector that finds the drawn face, and tiny random networks."""

from __future__ import annotations

import wave
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import UNIT_FACE, face_frame, face_landmarks

from faces.align import landmarks_box
from faces.reconstruct import FitReconstructor, load_face_model
from faces.types import Face
from media.video import VideoInfo, VideoWriter
from models.catalog import build_network
from models.enet import ENet
from pipeline import InferenceConfig, Retalker
from pipeline.networks import Networks
from pipeline.options import RuntimeOptions, WeightsOptions
from pipeline.weights import Weights

SKIN = np.array([200, 160, 140])
TINY = {
    "dnet": {
        "descriptor_size": 8,
        "adain_hidden": 4,
        "warp_channels": 2,
        "warp_max_channels": 4,
        "edit_channels": 2,
        "edit_max_channels": 4,
        "edit_residual": 1,
    },
    "lnet": {
        "channels": 4,
        "max_channels": 8,
        "num_residual": 1,
        "attention_layers": 1,
        "attention_heads": 1,
        "attention_head_size": 4,
        "attention_hidden": 8,
        "audio_channels": (4, 4, 4, 4, 8),
        "adain_hidden": 4,
    },
    "enet": {
        "identity_size": 16,
        "identity_channels": (4, 4, 4),
        "style_size": 8,
        "style_channels": (4, 4),
    },
}


class FakeDetector:
    """Finds skin-coloured regions and calls each a face."""

    name = "fake"
    search_every = 1
    credible = 0.5

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        self.calls += 1
        skin = np.abs(frame.astype(int) - SKIN).max(axis=2) < 25
        columns = np.flatnonzero(skin.sum(axis=0) > 4)
        if not len(columns):
            return []
        groups = np.split(columns, np.flatnonzero(np.diff(columns) > 10) + 1)
        faces = [self._face(skin, group) for group in groups if len(group) > 20]
        return sorted(faces, key=lambda face: -float(face.box[2] - face.box[0]))

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        def overlap(other: Face) -> float:
            return float(min(face.box[2], other.box[2]) - max(face.box[0], other.box[0]))

        near = [other for other in self.detect(frame) if overlap(other) > 0]
        return max(near, key=overlap) if near else None

    @staticmethod
    def _face(skin: np.ndarray, columns: np.ndarray) -> Face:
        rows = np.flatnonzero(skin[:, columns].sum(axis=1) > 4)
        low, high = UNIT_FACE.min(axis=0), UNIT_FACE.max(axis=0)
        scale = (columns[-1] - columns[0]) / (high[0] - low[0])
        corner = np.array([columns[0], rows[0]]) - low * scale
        landmarks = (UNIT_FACE * scale + corner).astype(np.float32)
        return Face(landmarks_box(landmarks), 0.9, landmarks)


class FakeTools:
    """The fake detector with the real 3DMM fit."""

    identity = "fake"

    def __init__(self) -> None:
        self.detector = FakeDetector()
        self.loads = 0

    def load(self) -> tuple[FakeDetector, FitReconstructor]:
        self.loads += 1
        return self.detector, FitReconstructor(load_face_model())


@pytest.fixture(scope="session")
def networks() -> Networks:
    torch.manual_seed(0)
    dnet, lnet, enet = (
        build_network(name, config).eval().requires_grad_(False) for name, config in TINY.items()
    )
    assert isinstance(enet, ENet)
    return Networks(dnet, lnet, enet, None, None, None, torch.device("cpu"), torch.float32, batch_size=3)


class FakeWeights(Weights):
    def templates(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        return {name: rng.standard_normal(64).astype(np.float32) for name in ("neutral", "smile")}


@pytest.fixture
def tools() -> FakeTools:
    return FakeTools()


@pytest.fixture
def make_retalker(tmp_path: Path, networks: Networks, tools: FakeTools) -> Callable[..., Retalker]:
    """``make_retalker(group={field: value}, networks={field: network})`` -> Retalker with its own cache."""

    def make(networks_: dict[str, object] | None = None, **groups: dict[str, object]) -> Retalker:
        config = InferenceConfig(runtime=RuntimeOptions(device="cpu", cache_dir=str(tmp_path / "cache")))
        for name, values in groups.items():
            config = replace(config, **{name: replace(getattr(config, name), **values)})
        weights = FakeWeights("test", tmp_path, WeightsOptions())
        return Retalker(config, weights, replace(networks, **(networks_ or {})), tools)  # type: ignore[arg-type]

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

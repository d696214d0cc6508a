from __future__ import annotations

from pathlib import Path

import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.pipeline.config import PRESETS, RenderConfig, WeightsConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.networks import load_networks
from videoretalking.pipeline.stages.sync import SyncScorer
from videoretalking.pipeline.weights import Weights


class _Expert(torch.nn.Module):
    """Agrees fully when the first window is as loud as the five mouths are bright."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, audio: torch.Tensor, lips: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert audio.shape[1:] == (1, 80, 16)
        assert lips.shape[1:] == (15, 48, 96)
        gap = (audio.mean(dim=(1, 2, 3)) - lips.mean(dim=(1, 2, 3))).abs()
        return torch.ones(len(audio), 1), (1 - gap)[:, None]


def _score(times: list[float], loudness: list[float], brightness: list[float]) -> list[float | None]:
    landmarks = face_landmarks()
    frame = face_frame(landmarks)
    faces = [face_job(frame, landmarks, index=place) for place in range(len(times))]
    for face, time in zip(faces, times, strict=True):
        face.time = time
    scorer = SyncScorer(Engine(torch.device("cpu"), torch.float32, batch_size=2).prepare(_Expert()))
    images = torch.tensor(brightness).view(-1, 1, 1, 1).expand(-1, 3, 96, 96)
    audio = torch.tensor(loudness).view(-1, 1, 1).expand(-1, 80, 16)
    for part in (slice(0, 3), slice(3, None)):  # history lasts from call to call
        scorer(faces[part], images[part], audio[part])
    return [face.sync for face in faces]


def test_the_last_five_frames_are_judged_with_the_first_one_s_window() -> None:
    scores = _score([0.04 * k for k in range(6)], [0.5, 0.1, 0, 0, 0, 0], [0.5] * 6)
    assert scores[:4] == [None] * 4
    assert scores[4:] == [1.0, 0.6000000238418579]


def test_a_jump_in_time_starts_anew() -> None:
    times = [0.0, 0.04, 0.08, 0.5, 0.54, 0.58, 0.62, 0.66]
    scores = _score(times, [0.5] * 8, [0.5] * 8)
    assert scores == [None] * 7 + [1.0]


def test_other_frame_rates_are_not_judged() -> None:
    assert _score([k / 60 for k in range(8)], [0.5] * 8, [0.5] * 8) == [None] * 8


def test_fast_measures_no_sync() -> None:
    weights = Weights("demo", Path(__file__).resolve().parents[3] / "checkpoints/demo", WeightsConfig())
    engine = Engine(torch.device("cpu"), torch.float32, batch_size=1)
    for preset, wanted in (("balanced", True), ("fast", False)):
        render = RenderConfig(score_sync=bool(PRESETS[preset].get("render.score_sync", True)))
        assert (load_networks(weights, render, engine).expert is not None) == wanted

"""D-Net at a lower rate: which frames it sees, and what the others get."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks
from torch import nn

from videoretalking.faces.reconstruct import FitReconstructor, load_face_model
from videoretalking.faces.types import FaceTrack
from videoretalking.models.dnet import DNetOutput
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages.neutralize import DrivingWindows, Neutralizer
from videoretalking.pipeline.stages.sparse_neutralize import SparseNeutralizer

COUNT = 8
CPU = Engine(torch.device("cpu"), torch.float32, batch_size=4)
ARRAYS = ArrayRaster(CPU.device)


class _Copy(nn.Module):
    """A D-Net that hands its source back and counts its frames."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, image: torch.Tensor, coefficients: torch.Tensor) -> DNetOutput:
        self.calls.append(len(image))
        return DNetOutput(image, image, image)


def _track(landmarks: np.ndarray) -> FaceTrack:
    empty = FaceTrack.empty(np.arange(COUNT) / 25, (240, 200))
    present = np.ones(COUNT, bool)
    track = replace(empty, landmarks=landmarks, landmarks_raw=landmarks, present=present)
    return FitReconstructor(load_face_model())(track)


def _jobs(track: FaceTrack) -> list[FaceJob]:
    return [
        face_job(face_frame(points), points, size=128, index=index)
        for index, points in enumerate(track.landmarks)
    ]


def _crops(jobs: list[FaceJob]) -> np.ndarray:
    return np.asarray(ARRAYS.cut([job.frame for job in jobs], [job.crop for job in jobs]))


def _run(landmarks: np.ndarray, every: int, chunk: int) -> tuple[list[int], np.ndarray]:
    track, network = _track(landmarks), _Copy()
    windows = [DrivingWindows(track, np.zeros(64, np.float32), one_shot=False)]
    neutralizer = (
        SparseNeutralizer(CPU.prepare(network), windows, ARRAYS, every)
        if every > 1
        else Neutralizer(CPU.prepare(network), windows, ARRAYS)
    )
    jobs = _jobs(track)
    parts = [jobs[first : first + chunk] for first in range(0, COUNT, chunk)]
    references = np.concatenate([neutralizer(part, _crops(part)) for part in parts])
    return network.calls, references


def _walking() -> np.ndarray:
    return np.stack([face_landmarks(20 + 2 * index, 10, 100 + index) for index in range(COUNT)])


def test_a_face_that_walks_is_rendered_every_other_frame_and_taken_along() -> None:
    walking = _walking()
    calls, every_frame = _run(walking, every=1, chunk=4)
    assert calls == [4, 4]
    for chunk, expected in ((4, [2, 2]), (3, [2, 1, 1])):
        calls, references = _run(walking, every=2, chunk=chunk)
        assert calls == expected
        # the drawn face moves as a whole, so what was rendered for the frame before fits
        assert np.abs(references - every_frame).mean() < 0.01


def test_a_face_that_turns_is_rendered_anew() -> None:
    turning = _walking()
    turning[3:, 27:36, 0] += 6.0  # the nose
    calls, _ = _run(turning, every=4, chunk=8)
    assert calls == [2 + 1]  # frames 0, 3 and 7


@pytest.mark.parametrize(("step", "calls"), [(0.1, 2), (0.4, 4), (1.3, 8)])
def test_the_longer_a_rendering_serves_the_less_a_face_may_have_turned(step: float, calls: int) -> None:
    """The nose moves by so many pixels a frame, the face on the mean by 0.9 times as many of D-Net's."""
    turning = _walking()
    turning[:, 27:36, 0] += step * np.arange(COUNT, dtype=np.float32)[:, None]
    assert sum(_run(turning, every=4, chunk=8)[0]) == calls


def test_people_do_not_share_renderings() -> None:
    track, network = _track(_walking()), _Copy()
    windows = [DrivingWindows(track, np.zeros(64, np.float32), one_shot=False)] * 2
    neutralizer = SparseNeutralizer(CPU.prepare(network), windows, ARRAYS, every=4)
    first = _jobs(track)[:2]
    jobs = [*first, *(replace(job, track=1) for job in first)]
    neutralizer(jobs, _crops(jobs))
    assert network.calls == [2]

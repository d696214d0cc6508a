from __future__ import annotations

import numpy as np
import pytest
from metric_samples import make_face, smooth_frame

from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.identity import Identity


def test_alignment_removes_the_place_of_the_face() -> None:
    frame = smooth_frame(192, 192, detail=6)
    shifted = np.roll(frame, (8, 5), axis=(0, 1))
    metric = Identity(lambda images: (images - images.mean()).flatten(1))
    metric.reset(Clip(times=np.zeros(1)))
    face, moved = make_face(center=(90.0, 90.0), size=40.0), make_face(center=(95.0, 98.0), size=40.0)
    metric.update(Chunk(0, shifted[None], frame[None], [moved], [face]))
    assert metric.compute()["identity"] == pytest.approx(1.0, abs=1e-3)
    metric.reset(Clip(times=np.zeros(1)))
    metric.update(Chunk(0, shifted[None], frame[None], [face], [face]))
    assert metric.compute()["identity"] < 0.8


def test_frames_without_a_face_do_not_count() -> None:
    metric = Identity(lambda images: images.flatten(1))
    frame = smooth_frame(192, 192)[None]
    metric.reset(Clip(times=np.zeros(1)))
    metric.update(Chunk(0, frame, frame, [None], [make_face()]))
    assert metric.compute() == {}

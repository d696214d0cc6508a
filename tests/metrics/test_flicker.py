from __future__ import annotations

import numpy as np
import pytest
from metric_samples import make_face, make_landmarks, smooth_frame

from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.flicker import Flicker, optical_flow, warp_error

FACE = make_face(center=(96.0, 96.0), size=50.0)


def _score(generated: np.ndarray, source: np.ndarray) -> dict[str, float]:
    metric = Flicker()
    metric.reset(Clip(times=np.arange(len(source)) / 25))
    faces = [FACE] * len(source)
    metric.update(Chunk(0, generated[:2], source[:2], faces[:2], faces[:2]))
    metric.update(Chunk(2, generated[2:], source[2:], faces[2:], faces[2:]))
    return metric.compute()


def _moving(count: int = 4) -> np.ndarray:
    scene = smooth_frame(224, 224, detail=8)
    return np.stack([scene[16 : 16 + 192, 16 + 2 * step : 16 + 2 * step + 192] for step in range(count)])


def test_motion_of_the_source_is_not_flicker() -> None:
    source = _moving()
    values = _score(source, source)
    assert values["flicker_added"] == 0.0
    assert values["flicker"] < 2.0


def test_alternating_brightness_is_flicker() -> None:
    source = np.clip(_moving(), 20, 235)
    generated = source.astype(np.int16) + np.array([0, 10, 0, 10])[:, None, None, None]
    added = _score(generated.astype(np.uint8), source)["flicker_added"]
    assert added == pytest.approx(10.0, abs=2.0)


def test_mouth_and_chin_may_move() -> None:
    source = np.repeat(smooth_frame(192, 192)[None], 4, axis=0)
    generated = source.copy()
    mouth = make_landmarks(center=(96.0, 96.0), size=50.0)[48:68]
    (left, top), (right, bottom) = mouth.min(axis=0).astype(int), mouth.max(axis=0).astype(int)
    generated[1::2, top:bottom, left:right] = 0
    assert _score(generated, source)["flicker_added"] == pytest.approx(0.0, abs=0.05)
    generated[1::2, 60:90, 80:110] = 0  # the nose may not
    assert _score(generated, source)["flicker_added"] > 1.0


def test_a_lost_face_breaks_the_chain() -> None:
    source = _moving()
    metric = Flicker()
    metric.reset(Clip(times=np.arange(3) / 25))
    metric.update(Chunk(0, source[:3], source[:3], [FACE, None, FACE], [FACE, None, FACE]))
    assert metric.compute() == {}


def test_flow_finds_a_shift() -> None:
    before, after = (frame[..., 0].copy() for frame in _moving(2))
    flow, valid = optical_flow(before, after)
    assert np.median(flow[..., 0][valid]) == pytest.approx(-2.0, abs=0.1)
    assert warp_error(before, after, flow, valid) < warp_error(before, after, np.zeros_like(flow), valid) / 3

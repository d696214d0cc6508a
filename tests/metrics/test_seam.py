from __future__ import annotations

import cv2
import numpy as np
import pytest
from metric_samples import make_face, smooth_frame

from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.seam import Seam, seam_visibility


def _pasted(levels: float, feather: float) -> tuple[np.ndarray, np.ndarray]:
    source = np.clip(smooth_frame(192, 192)[..., 0], 40, 200)
    mask: np.ndarray = np.zeros((192, 192), dtype=np.float32)
    mask[60:130, 60:130] = 1.0
    if feather:
        mask = cv2.GaussianBlur(mask, (0, 0), feather)
    return np.rint(source + levels * mask).astype(np.uint8), source


def test_untouched_frames_have_no_seam() -> None:
    source = smooth_frame(192, 192)[..., 0]
    assert seam_visibility(source, source) == 0.0
    noise = np.random.default_rng(0).integers(-1, 2, source.shape)
    assert seam_visibility(np.clip(source + noise, 0, 255).astype(np.uint8), source) == 0.0


def test_a_hard_edge_scores_half_its_height() -> None:
    assert seam_visibility(*_pasted(20.0, 0.0)) == pytest.approx(10.0, rel=0.05)
    assert seam_visibility(*_pasted(40.0, 0.0)) == pytest.approx(20.0, rel=0.05)


def test_feathering_hides_it() -> None:
    values = [seam_visibility(*_pasted(30.0, feather)) for feather in (0.0, 3.0, 8.0)]
    assert values[0] > 2 * values[1] > 2 * values[2]


def test_metric_looks_around_the_face_only() -> None:
    source = np.zeros((1, 400, 400, 3), dtype=np.uint8) + 90
    generated = source.copy()
    generated[:, 350:390, 350:390] += 50
    face = make_face(center=(100.0, 100.0), size=40.0)
    metric = Seam()
    metric.reset(Clip(times=np.zeros(1)))
    metric.update(Chunk(0, generated, source, [face], [face]))
    assert metric.compute() == {"seam": 0.0}
    generated[:, 110:150, 80:120] += 50
    metric.reset(Clip(times=np.zeros(1)))
    metric.update(Chunk(0, generated, source, [face], [face]))
    assert metric.compute()["seam"] == pytest.approx(25.0, rel=0.05)

"""Masks: which pixels they take and how softly they end."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from videoretalking.faces import masks

SIZE = (320, 240)


def value_at(mask: np.ndarray, point: np.ndarray) -> float:
    x, y = np.round(point).astype(int)
    return float(mask[y, x])


def test_polygon_mask_area_and_edge() -> None:
    square = [[10.0, 10.0], [50.0, 10.0], [50.0, 40.0], [10.0, 40.0]]
    hard = masks.polygon_mask(square, (64, 48))
    assert hard.shape == (48, 64) and hard.dtype == np.float32
    assert hard.max() == 1 and abs(hard.sum() - 41 * 31) < 80
    soft = masks.polygon_mask(square, (64, 48), softness=3)
    assert abs(soft.sum() / hard.sum() - 1) < 0.02
    assert 0.4 < soft[25, 10] < 0.7
    assert (np.diff(soft[25, 1:25]) >= -1e-6).all()


def test_face_mask_covers_the_lower_face_and_leaves_the_rest(frontal: np.ndarray) -> None:
    mask = masks.face_polygon_mask(frontal, SIZE)
    for inside in (30, 33, 48, 54, 57, 41):
        assert value_at(mask, frontal[inside]) > 0.98
    assert value_at(mask, frontal[8]) > 0.5  # the chin belongs to it
    above_brows = frontal[[19, 24]].mean(axis=0) - [0, 25]
    assert value_at(mask, above_brows) < 0.01
    assert mask[:, :60].max() == 0 and mask[:40].max() < 0.01 and mask[225:].max() < 0.01
    assert mask.min() >= 0 and mask.max() <= 1


def test_mouth_mask_is_inside_the_face_mask(frontal: np.ndarray) -> None:
    mouth = masks.mouth_polygon_mask(frontal, SIZE)
    face = masks.face_polygon_mask(frontal, SIZE)
    for inside in (62, 66, 51, 57):
        assert value_at(mouth, frontal[inside]) > 0.5
    assert value_at(mouth, frontal[33]) < 0.05
    assert (mouth > face + 0.02).mean() < 0.001


def test_masks_follow_scale(frontal: np.ndarray) -> None:
    small = masks.face_polygon_mask(frontal, SIZE)
    large = masks.face_polygon_mask(frontal * 2, (640, 480))
    assert abs(large.sum() / small.sum() / 4 - 1) < 0.01


def test_turned_faces_keep_a_sensible_unit(frontal: np.ndarray) -> None:
    profile = frontal.copy()
    profile[:, 0] = 160 + (profile[:, 0] - 160) * 0.1
    assert masks.eye_distance(profile) > 0.7 * masks.eye_distance(frontal)


@pytest.mark.parametrize("softness", [2.0, 6.5, 12.0, 21.0])
@pytest.mark.parametrize("size", [(384, 384), (263, 191)])
def test_wide_blurs_are_the_exact_ones(softness: float, size: tuple[int, int]) -> None:
    width, height = size
    corners = np.array([[0.3, 0.5], [0.65, 0.5], [0.75, 0.7], [0.5, 0.9]]) * size
    hard = masks.polygon_mask(corners, size)
    exact = cv2.GaussianBlur(hard, (0, 0), softness, borderType=cv2.BORDER_REPLICATE)
    soft = masks.soften(hard, softness)
    assert soft.shape == (height, width) and soft.dtype == np.float32
    assert np.abs(soft - exact).max() < 0.005
    image = np.stack([hard, 1.0 - hard, hard], axis=-1)
    assert np.abs(masks.soften(image, softness)[..., 1] - (1.0 - soft)).max() < 1e-5

"""Geometry of crops and mouth measures."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core.landmarks import MIRRORED
from videoretalking.datasets.collection import ClipCollection, DataConfig
from videoretalking.datasets.crops import (
    Jitter,
    aligned_crop,
    cut,
    face_crop,
    mirror,
    mouth_opening,
    mouth_points,
    pose_distance,
)
from videoretalking.faces.align import box_crop
from videoretalking.faces.types import Crop

BOX = box_crop([10.0, 20.0, 50.0, 60.0], (20, 20))  # half size


def test_jitter_moves_the_view() -> None:
    center = np.array([29.5, 39.5])  # of the box, pixel centres at integers
    np.testing.assert_allclose(Jitter().apply(BOX).matrix, BOX.matrix, atol=1e-12)
    moved = Jitter(shift_x=0.25, shift_y=-0.5).apply(BOX)
    np.testing.assert_allclose(moved.to_image([9.5, 9.5]), center + np.array([10.0, -20.0]))
    grown = Jitter(scale=2.0).apply(BOX)
    np.testing.assert_allclose(grown.to_image([9.5, 9.5]), center)
    np.testing.assert_allclose(grown.scale, BOX.scale / 2)
    turned = Jitter(angle=np.pi / 2).apply(BOX)  # what the view's right edge shows lies below in the frame
    np.testing.assert_allclose(turned.to_image([19.0, 9.5]), center + np.array([0.0, 19.0]), atol=1e-9)


def test_mirror_swaps_left_and_right() -> None:
    np.testing.assert_allclose(
        mirror(BOX).to_crop([[10.0, 20.0]]), 19.0 * np.array([[1, 0]]) - BOX.to_crop([[10.0, 20.0]]) * [1, -1]
    )
    assert MIRRORED[MIRRORED].tolist() == list(range(68))


@pytest.mark.parametrize("size", [16, 40, 96])  # 16 and 40 are decoded at a reduced size
def test_crops_show_the_same_place_at_every_size(data: DataConfig, size: int) -> None:
    clips = ClipCollection(data, "train", ["boxes"], 2)
    clip = clips.clip(0)
    reference = cut(clip, 3, face_crop(clip, 3, 192)).astype(float)
    shown = cut(clip, 3, face_crop(clip, 3, size)).astype(float)
    if 192 % size == 0:
        step = 192 // size
        reference = reference.reshape(size, step, size, step, 3).mean(axis=(1, 3))
        assert np.abs(shown - reference).mean() < 4.0
    assert shown.shape == (size, size, 3)


def test_restored_frames_show_the_same_view(data: DataConfig) -> None:
    clip = ClipCollection(data, "train", ["boxes"], 2).clip(0)
    crop = face_crop(clip, 5, 64)
    difference = cut(clip, 5, crop).astype(float) - cut(clip, 5, crop, restored=True)
    assert np.abs(difference).mean() < 4.0
    shifted = Crop(crop.matrix + np.array([[0, 0, 3.0], [0, 0, 0]]), crop.size)
    moved = cut(clip, 5, crop).astype(float) - cut(clip, 5, shifted, restored=True)
    assert np.abs(moved).mean() > 1.5 * np.abs(difference).mean()  # the comparison would notice 3 pixels


def faces(count: int = 2) -> np.ndarray:
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 100, (count, 68, 2)).astype(np.float32)
    points[:, [36, 39, 42, 45]] = [[20, 40], [30, 40], [60, 40], [70, 40]]
    return points


def test_aligned_crop_shows_the_face_in_the_same_pose() -> None:
    points = faces(1)[0]
    turn = np.array([[0.8, 0.6], [-0.6, 0.8]])
    other = (1.5 * points @ turn + np.array([7.0, -3.0])).astype(np.float32)
    other[48:68] += 5.0  # speech moves the lips
    view = aligned_crop(BOX, points, other)
    np.testing.assert_allclose(view.to_crop(other[27:48]), BOX.to_crop(points[27:48]), atol=1e-3)
    lips = view.to_crop(other[48:68]) - BOX.to_crop(points[48:68])
    np.testing.assert_allclose(np.linalg.norm(lips, axis=1), np.sqrt(50.0) / 1.5 / 2, atol=1e-3)
    np.testing.assert_allclose(aligned_crop(BOX, points, points).matrix, BOX.matrix, atol=1e-6)


def test_mouth_points_are_parts_of_the_crop() -> None:
    points = faces(1)[0]
    points[48:68] = [30.0, 40.0]
    points[48], points[54] = [9.5, 19.5], [49.5, 59.5]  # outer corners of the box's corner pixels
    lips = mouth_points(points, BOX)
    assert lips.shape == (20, 2)
    np.testing.assert_allclose(lips[[0, 6]], [[-0.5, -0.5], [0.5, 0.5]], atol=1e-6)
    mirrored = mouth_points(points, mirror(BOX), mirrored=True)
    np.testing.assert_allclose(mirrored[[6, 0]], [[0.5, -0.5], [-0.5, 0.5]], atol=1e-6)


def test_mouth_opening_is_relative_to_the_eyes() -> None:
    points = faces()
    points[:, 62], points[:, 66] = [50, 70], [50, 80]
    np.testing.assert_allclose(mouth_opening(points), 10.0 / 50.0, rtol=1e-6)


def test_pose_distance_knows_turns_out_of_the_plane_only() -> None:
    face = np.random.default_rng(0).normal(size=(68, 2)) * 20 + 50
    angle = 0.3
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    assert pose_distance(face, 1.7 * face @ turn + [5.0, -8.0]) == pytest.approx(0.0, abs=1e-9)
    slight, strong = (pose_distance(face, face * [narrow, 1.0]) for narrow in (0.95, 0.8))
    assert 0.0 < slight < strong
    speaking = face.copy()
    speaking[48:] += [0.0, 9.0]
    assert pose_distance(face, speaking) == pytest.approx(0.0, abs=1e-9)

"""Measures of mouths and poses."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.datasets.crops import mirror
from videoretalking.datasets.mouths import aligned_crop, inner_lip_gap, mouth_points, pose_distance
from videoretalking.faces.align import box_crop

BOX = box_crop([10.0, 20.0, 50.0, 60.0], (20, 20))  # half size


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


def test_the_lip_gap_is_relative_to_the_eyes() -> None:
    points = faces()
    points[:, 62], points[:, 66] = [50, 70], [50, 80]
    np.testing.assert_allclose(inner_lip_gap(points), 10.0 / 50.0, rtol=1e-6)


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

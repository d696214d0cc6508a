"""The linear face model: rotations, poses, and a fit that keeps pose, identity and expression apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from videoretalking.core.checkpoint import save_checkpoint
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import RIGID
from videoretalking.faces.align import RECON_TEMPLATE, five_points
from videoretalking.faces.face_model import (
    FaceModel,
    Pose,
    fit_pose,
    rotation_angles,
    rotation_matrices,
)
from videoretalking.faces.reconstruct import load_face_model

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "demo" / "face_model.safetensors"


@pytest.fixture
def model(face3d: np.ndarray) -> FaceModel:
    """Three identities (width, length, nose) and two expressions (open, wide mouth), one unit = 1 deviation."""
    wide, long, nose = (np.zeros((68, 3)) for _ in range(3))
    wide[:, 0] = 0.05 * face3d[:, 0]
    long[:, 1] = 0.05 * face3d[:, 1]
    nose[27:36, 2] = 0.03
    opened, stretched = np.zeros((68, 3)), np.zeros((68, 3))
    opened[48:, 1] = -0.05 * (face3d[48:, 1] < -0.37)
    opened[6:11, 1] = -0.04
    stretched[48:, 0] = 0.15 * face3d[48:, 0]
    neutral = np.zeros(64)
    return FaceModel(face3d, np.stack([wide, long, nose]), np.stack([opened, stretched]), neutral, neutral)


def test_rotations_invert_and_follow_the_stated_order() -> None:
    angles = np.array([[0.2, -0.4, 0.1], [-0.3, 0.7, 1.2], [0.0, 0.0, 0.0]])
    matrices = rotation_matrices(angles)
    assert np.allclose(matrices @ matrices.transpose(0, 2, 1), np.eye(3))
    assert np.allclose(rotation_angles(matrices), angles)
    pitch, yaw, roll = (rotation_matrices([row])[0] for row in np.diag([0.2, -0.4, 0.1]))
    assert np.allclose(matrices[0], roll @ yaw @ pitch)
    assert np.allclose(roll @ [1, 0, 0], [np.cos(0.1), np.sin(0.1), 0])
    assert np.allclose(yaw @ [0, 0, 1], [np.sin(-0.4), 0, np.cos(-0.4)])


def test_pose_is_recovered_exactly_without_noise(face3d: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    angles = rng.uniform(-0.6, 0.6, (20, 3))
    pose = Pose(rotation_matrices(angles), rng.uniform(50, 150, 20), rng.uniform(-50, 300, (20, 2)))
    shapes = np.broadcast_to(face3d, (20, 68, 3))
    found = fit_pose(shapes, pose.project(shapes))
    assert np.allclose(found.angles, angles, atol=1e-6)
    assert np.allclose(found.scale, pose.scale) and np.allclose(found.shift, pose.shift)


def test_fit_separates_pose_identity_and_expression(model: FaceModel) -> None:
    rng = np.random.default_rng(1)
    count = 60
    time = np.linspace(0, 6, count)
    angles = np.stack([0.15 * np.sin(time), 0.5 * np.sin(0.7 * time), 0.1 * np.cos(time)], 1)
    expression = np.stack([1.5 * np.sin(5 * time), np.cos(3 * time)], 1)
    identity = np.array([1.0, -1.5, 0.8])
    shapes = model.shapes(identity, expression)
    pose = Pose(rotation_matrices(angles), 102 + np.sin(time), 112 + rng.normal(size=(count, 2)))
    points = pose.project(shapes) + rng.normal(size=(count, 68, 2)) * 0.3
    fit = model.fit(points, noise=0.3)
    assert np.abs(fit.expression - expression).mean() < 0.1
    assert np.abs(fit.pose.angles - angles).mean() < 0.01
    assert np.abs(fit.identity - identity).max() < 0.35
    # the mouth must not turn the head: no trace of the expression in the pitch's error
    error = fit.pose.angles[:, 0] - angles[:, 0]
    assert abs(np.polyfit(expression[:, 0], error, 1)[0]) < 0.003


def test_prior_shrinks_what_noise_would_inflate(model: FaceModel) -> None:
    rng = np.random.default_rng(2)
    pose = Pose(np.eye(3)[None].repeat(30, 0), np.full(30, 102.0), np.full((30, 2), 112.0))
    points = pose.project(np.broadcast_to(model.mean, (30, 68, 3))) + rng.normal(size=(30, 68, 2)) * 4
    assert (
        np.abs(model.fit(points, noise=4.0).expression).mean()
        < np.abs(model.fit(points, noise=0.1).expression).mean()
    )


def test_rigid_points_exclude_mouth_and_brows() -> None:
    assert not set(RIGID) & {*range(17, 27), *range(48, 68), 37, 38, 40, 41, 43, 44, 46, 47}


def test_bundled_model_is_in_the_regressors_units() -> None:
    model = load_face_model(BUNDLED)
    assert np.abs(five_points(model.mean)[:3] - RECON_TEMPLATE[:3]).max() < 0.04  # eyes and nose
    assert model.neutral.shape == model.smile.shape == (64,)
    corners = model.shapes(np.zeros(80), np.stack([model.neutral, model.smile]))[:, [48, 54]]
    width = np.linalg.norm(corners[:, 1] - corners[:, 0], axis=1)
    assert width[1] > width[0] * 1.05  # smiling widens the mouth


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(UserError, match="does not exist"):
        FaceModel.load(path)
    save_checkpoint(path, {"mean": torch.zeros(68, 3)}, network="dnet", config={}, license="none")
    with pytest.raises(UserError, match="not a face model"):
        FaceModel.load(path)
    save_checkpoint(path, {"mean": torch.zeros(68, 3)}, network="face_model", config={}, license="none")
    with pytest.raises(UserError, match="lacks the tensor"):
        FaceModel.load(path)
    tensors = {
        "mean": torch.zeros(68, 3),
        "identity_basis": torch.zeros(81, 68, 3),
        "expression_basis": torch.zeros(2, 68, 3),
        "neutral": torch.zeros(64),
        "smile": torch.zeros(64),
    }
    save_checkpoint(path, tensors, network="face_model", config={}, license="none")
    with pytest.raises(UserError, match="unexpected shapes"):
        FaceModel.load(path)

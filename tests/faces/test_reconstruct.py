"""Stored rows: layout, round trip through the landmarks, and the change of view for D-Net."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from face_rows import described_landmarks

from videoretalking.core.coefficients import ALIGNMENT, ANGLES, EXPRESSION, LIGHTING, TEXTURE, TRANSLATION
from videoretalking.core.errors import UserError
from videoretalking.faces.align import anchor_crop, box_crop, recon_alignment
from videoretalking.faces.face_model import Pose, rotation_matrices
from videoretalking.faces.reconstruct import (
    FitReconstructor,
    NetworkReconstructor,
    choose_reconstructor,
    load_face_model,
    rows_in_view,
)
from videoretalking.faces.types import FaceTrack

BUNDLED = Path(__file__).parents[2] / "checkpoints" / "demo" / "face_model.safetensors"
SIZE = (640, 360)


@pytest.fixture(scope="module")
def fitter() -> FitReconstructor:
    return FitReconstructor(load_face_model(BUNDLED))


@pytest.fixture(scope="module")
def landmarks(fitter: FitReconstructor) -> np.ndarray:
    """[12, 68, 2] pixels of a head that turns and speaks."""
    time = np.linspace(0, 3, 12)
    expression = np.zeros((12, 64))
    expression[:, 0] = np.sin(4 * time)
    shapes = fitter.model.shapes(np.linspace(1, -1, 80), expression)
    angles = np.stack([0.1 * np.sin(time), 0.3 * np.cos(time), np.full(12, 0.1)], 1)
    up = Pose(
        rotation_matrices(angles), np.full(12, 90.0), np.full((12, 2), 180.0) + time[:, None] * 5
    ).project(shapes)
    return up * [1, -1] + [60, SIZE[1] - 1]


def test_rows_hold_what_the_layout_says(fitter: FitReconstructor, landmarks: np.ndarray) -> None:
    rows = fitter.rows(landmarks, SIZE)
    assert rows.shape == (12, 262) and rows.dtype == np.float32
    assert not rows[:, TEXTURE].any() and not rows[:, LIGHTING].any()
    assert np.ptp(rows[:, :80], axis=0).max() == 0  # one identity for the clip
    time = np.linspace(0, 3, 12)
    assert np.abs(rows[:, ANGLES][:, 1] - 0.3 * np.cos(time)).max() < 0.03
    assert np.corrcoef(rows[:, EXPRESSION.start], np.sin(4 * time))[0, 1] > 0.97
    assert np.allclose(rows[:, ALIGNMENT], [recon_alignment(face, SIZE).params for face in landmarks])
    assert np.abs(rows[:, TRANSLATION]).max() < 1.5  # the regressor's crop centers the face


def test_landmarks_come_back_from_rows(fitter: FitReconstructor, landmarks: np.ndarray) -> None:
    again = described_landmarks(fitter.model, fitter.rows(landmarks, SIZE))
    eyes = np.linalg.norm(landmarks[:, 45] - landmarks[:, 36], axis=1).mean()
    assert np.linalg.norm(again - landmarks, axis=2).mean() < 0.02 * eyes
    # rows of synthesised landmarks describe the same landmarks
    assert np.abs(described_landmarks(fitter.model, fitter.rows(again, SIZE)) - again).mean() < 0.01 * eyes


@pytest.mark.parametrize("turned", [False, True])
def test_rows_in_a_view_equal_rows_measured_there(
    fitter: FitReconstructor, landmarks: np.ndarray, turned: bool
) -> None:
    rows = fitter.rows(landmarks, SIZE)
    crops = [anchor_crop(face) for face in landmarks] if turned else box_crop([90, 20, 410, 340], (256, 256))
    moved = rows_in_view(rows, landmarks, crops)
    listed = crops if isinstance(crops, list) else [crops] * len(landmarks)
    inside = np.stack([crop.to_crop(face) for crop, face in zip(listed, landmarks, strict=True)])
    measured = fitter.rows(inside, (256, 256))
    assert np.abs(moved[:, ANGLES] - measured[:, ANGLES]).max() < 0.01
    assert np.abs(moved[:, TRANSLATION] - measured[:, TRANSLATION]).max() < 0.05
    assert np.allclose(moved[:, ALIGNMENT], measured[:, ALIGNMENT], rtol=1e-3, atol=1e-2)
    assert np.abs(described_landmarks(fitter.model, moved) - inside).mean() < 1.5
    if turned:
        assert np.abs(moved[:, ANGLES][:, 2]).mean() < 0.4 * np.abs(rows[:, ANGLES][:, 2]).mean()


def test_track_gets_one_identity_a_shot_and_zeros_where_absent(
    fitter: FitReconstructor, landmarks: np.ndarray
) -> None:
    track = FaceTrack.empty(np.arange(12) / 25, SIZE)
    present = np.ones(12, dtype=bool)
    present[5] = False
    shots = np.repeat([0, 1], 6)
    points = landmarks.astype(np.float32)
    points[6:] = (points[6:] - [300, 180]) * [1.15, 1.0] + [300, 180]  # somebody else
    rows = fitter(replace(track, present=present, shots=shots, landmarks=points)).rows
    assert not rows[5].any() and rows[4].any()
    assert np.ptp(rows[:5, :40], axis=0).max() == 0 and np.ptp(rows[6:, :40], axis=0).max() == 0
    assert np.abs(rows[0, :40] - rows[6, :40]).max() > 0.1


def test_network_row_is_the_networks_output_on_the_published_crop(landmarks: np.ndarray) -> None:
    class Means(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            assert image.shape == (1, 3, 224, 224) and image.min() >= 0 and image.max() <= 1
            return image.mean(dim=(2, 3)).repeat(1, 86)[:, :257]

    frame = np.full((SIZE[1], SIZE[0], 3), (51, 102, 204), dtype=np.uint8)
    row = NetworkReconstructor(Means())(frame, landmarks[0])
    assert row.shape == (262,) and row.dtype == np.float32
    assert row[2] / row[0] == pytest.approx(4, rel=1e-3)
    assert np.array_equal(row[ALIGNMENT], recon_alignment(landmarks[0], SIZE).params)


def test_choice_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="unknown reconstruction"):
        choose_reconstructor("bfm")
    with pytest.raises(UserError, match="reconnet"):
        choose_reconstructor("reconnet")
    monkeypatch.chdir(BUNDLED.parents[2])
    assert choose_reconstructor("fit").name == "fit"

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.checkpoint import read_checkpoint
from videoretalking.core.landmarks import INNER_LIP_PAIRS
from videoretalking.scripts import build_face_model as bfm

UPPER, LOWER = ([pair[side] for pair in INNER_LIP_PAIRS] for side in (0, 1))


def _face(rng: np.random.Generator) -> np.ndarray:
    """A mirror-symmetric random shape with a recognizable left and right."""
    shape = rng.normal(size=(68, 3))
    shape = (shape + bfm.mirrored(shape)) / 2.0
    shape[bfm.RIGHT] = (1.0, 0.0, 0.0)
    shape[bfm.LEFT] = (-1.0, 0.0, 0.0)
    return shape


def _posed(shapes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shapes under random small rotations, sizes and shifts."""
    posed = []
    for shape in shapes:
        angle = rng.normal(scale=0.2)
        cos, sin = np.cos(angle), np.sin(angle)
        rotation = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        posed.append(rng.uniform(50, 200) * shape @ rotation + rng.normal(scale=30, size=3))
    return np.stack(posed)


def test_mirror_is_an_involution_of_all_points() -> None:
    assert sorted(bfm.MIRRORED) == list(range(68))
    assert (bfm.MIRRORED[bfm.MIRRORED] == np.arange(68)).all()
    assert [bfm.MIRRORED[i] for i in (8, 36, 39, 48, 51, 60, 62, 66)] == [8, 45, 42, 54, 51, 64, 62, 66]


def test_align_undoes_a_similarity_and_never_mirrors() -> None:
    rng = np.random.default_rng(0)
    face = _face(rng)
    posed = _posed(np.repeat(face[None], 4, axis=0), rng)
    assert np.abs(bfm.align(posed, face) - face).max() < 1e-9
    flipped = face * (-1.0, 1.0, 1.0)
    assert np.abs(bfm.align(flipped[None], face) - face).max() > 0.1


def test_build_recovers_a_known_expression_and_orders_components() -> None:
    rng = np.random.default_rng(1)
    mean = _face(rng)
    opening = np.zeros((68, 3))
    opening[LOWER, 1] = -0.4  # symmetric: the lower lip drops
    opening[57, 1] = -0.4
    people = {}
    for person in range(6):
        offset = 0.05 * rng.normal(size=(68, 3))
        offset[[*UPPER, *LOWER]] = 0.0
        amount = rng.uniform(0.0, 1.0, size=40)
        amount[:10] = 0.0
        people[f"p{person}"] = _posed(mean + offset + amount[:, None, None] * opening, rng)
    model = bfm.build(people, {}, bfm.FaceModelConfig(num_identity=5, num_expression=3))
    assert model.mean.shape == (68, 3)
    assert np.linalg.norm(model.mean[bfm.RIGHT] - model.mean[bfm.LEFT]) == pytest.approx(1.0)
    assert np.abs(model.mean - bfm.mirrored(model.mean)).max() < 1e-9
    assert (np.diff(model.identity_std) <= 1e-12).all() and (np.diff(model.expression_std) <= 1e-12).all()
    first = model.expression_basis[0].ravel()
    wanted = opening.ravel()
    cosine = abs(first @ wanted) / np.linalg.norm(first) / np.linalg.norm(wanted)
    assert cosine > 0.98
    # a coefficient of one is one standard deviation of the data
    size = np.sqrt((model.expression_basis[0] ** 2).mean(axis=0).sum())
    assert size == pytest.approx(model.expression_std[0])
    neutral = model.mean + np.tensordot(model.neutral[:3], model.expression_basis, axes=1)
    opened = model.mean + 2.0 * model.expression_basis[0] * np.sign(-first @ -wanted)
    assert bfm.mean_lip_gap(neutral) < bfm.mean_lip_gap(opened)
    assert (model.neutral[3:] == 0).all() and model.neutral.shape == (64,)


def test_templates_follow_their_measures() -> None:
    """The bundled file: rest is more closed than the average expression, the smile smiles more."""
    path = Path(bfm.__file__).parent.parent / "checkpoints/demo/face_model.safetensors"
    tensors, metadata = read_checkpoint(path)
    values = {name: tensor.numpy().astype(np.float64) for name, tensor in tensors.items()}
    assert metadata["network"] == "face_model"
    basis = values["expression_basis"]

    def shape(name: str) -> np.ndarray:
        return values["mean"] + np.tensordot(values[name][: len(basis)], basis, axes=1)

    assert bfm.mean_lip_gap(shape("neutral")) < 0.06
    assert bfm.smile_measure(shape("smile")) > bfm.smile_measure(shape("neutral")) + 0.1
    assert values["mean"][8, 1] < values["mean"][33, 1] < values["mean"][27, 1]  # y points up
    assert values["mean"][30, 2] > values["mean"][36, 2]  # the nose points to the viewer


def test_load_shapes_turns_the_axes_and_drops_profiles(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    mesh = rng.normal(size=(3, 478, 3)).astype(np.float32)
    mesh[:, 33], mesh[:, 263] = (-1, 0, 0), (1, 0, 0)  # outer corners of the eyes
    mesh[1, 33, 2] = 3.0  # turned by more than half a right angle
    path = tmp_path / "labels.npz"
    np.savez(path, mesh=mesh, found=np.array([True, True, False]))
    shapes = bfm.load_shapes(path)
    assert shapes.shape == (1, 68, 3)
    assert shapes[0, 30] == pytest.approx(mesh[0, 4] * (1, -1, -1))

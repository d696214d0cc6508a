"""A compact linear model of the 68 landmarks: mean + identity + expression, and a weak-perspective camera.

It stands in for the licensed morphable models: fitting it to tracked landmarks gives pose and expression
without any network (``scripts/build_face_model.py`` makes its file and documents the tensors).

Axes: x to the right, y up, z towards the viewer. Unit and origin are those of the standard face of the 3DMM
regressor (:data:`faces.align.RECON_TEMPLATE`), so that the poses of both mean the same. A coefficient of 1 is
one standard deviation of its component over people or expressions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64
from videoretalking.core.checkpoint import read_checkpoint
from videoretalking.core.coefficients import IDENTITY, NUM_EXPRESSION
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import CHIN_LINE, JAW_SIDES, NUM_LANDMARKS, RIGID

NETWORK_NAME = "face_model"

# The file's unit is the distance of the outer eye corners and its origin their middle; the same in the
# standard face of the regressor.
_OUTER_EYE_DISTANCE = 0.8627
_OUTER_EYE_MIDDLE = np.array([0.0004, 0.2913, 0.1037])


# On a turned head the visible contour is not the same points of the skin, so the jaw counts for less.
_JAW_SIDE_WEIGHT = 0.1
_CHIN_WEIGHT = 0.5

_POSE_STEPS = 4  # Gauss-Newton
_PERSON_FRAMES, _PERSON_ROUNDS = 64, 12  # sample of the clip that decides on the identity
_FRAME_ROUNDS = 2  # of pose and expression once the identity is known
_CHUNK = 512  # frames solved at once, which bounds the memory
_INDEPENDENT_FRAMES = 25.0  # frames of one clip share their errors; more do not tell more about the identity


@dataclass(frozen=True)
class Pose:
    """Weak-perspective cameras: image = scale * (rotation @ point)[:2] + shift.

    Attributes:
        rotation: [N, 3, 3].
        scale: [N] image units per model unit.
        shift: [N, 2] image position of the model's origin.
    """

    rotation: Floats64
    scale: Floats64
    shift: Floats64

    @property
    def angles(self) -> Floats64:
        """[N, 3] pitch, yaw, roll in radians, with rotation = Rz(roll) Ry(yaw) Rx(pitch)."""
        return rotation_angles(self.rotation)

    def project(self, shapes: Floats64) -> Floats64:
        """[N, P, 3] model points -> [N, P, 2] image points, y up."""
        turned = shapes @ self.rotation[:, :2].transpose(0, 2, 1)
        return np.asarray(self.scale[:, None, None] * turned + self.shift[:, None])


@dataclass(frozen=True)
class FaceFit:
    """What :meth:`FaceModel.fit` finds.

    Attributes:
        identity: [K] one person's.
        expression: [N, E] one row a frame.
        pose: cameras of the N frames.
    """

    identity: Floats64
    expression: Floats64
    pose: Pose


@dataclass(frozen=True)
class FaceModel:
    """Mean, bases and templates.

    Attributes:
        mean: [68, 3] mouth at rest.
        identity_basis: [K, 68, 3], K <= 80.
        expression_basis: [E, 68, 3], E <= 64.
        neutral: [64] expression at rest, mouth closed; zero beyond E.
        smile: [64] smile with closed mouth; zero beyond E.
    """

    mean: Floats64
    identity_basis: Floats64
    expression_basis: Floats64
    neutral: Floats64
    smile: Floats64

    @classmethod
    def load(cls, path: str | Path) -> FaceModel:
        """Read the file written by ``scripts/build_face_model.py``.

        Raises:
            UserError: missing or damaged file, or not a face model.
        """
        tensors, metadata = read_checkpoint(path)
        if metadata["network"] != NETWORK_NAME:
            raise UserError(f"checkpoint {path} holds the network {metadata['network']!r}, not a face model")
        arrays = {name: tensor.double().numpy() for name, tensor in tensors.items()}
        try:
            model = cls(
                mean=arrays["mean"] * _OUTER_EYE_DISTANCE + _OUTER_EYE_MIDDLE,
                identity_basis=arrays["identity_basis"] * _OUTER_EYE_DISTANCE,
                expression_basis=arrays["expression_basis"] * _OUTER_EYE_DISTANCE,
                neutral=arrays["neutral"],
                smile=arrays["smile"],
            )
        except KeyError as error:
            raise UserError(f"face model {path} lacks the tensor {error}") from None
        if not model._consistent():
            raise UserError(f"face model {path} holds tensors of unexpected shapes")
        return model

    def _consistent(self) -> bool:
        points = (NUM_LANDMARKS, 3)
        return (
            self.mean.shape == points
            and self.identity_basis.shape[1:] == points
            and self.expression_basis.shape[1:] == points
            and len(self.identity_basis) <= IDENTITY.stop - IDENTITY.start
            and len(self.expression_basis) <= NUM_EXPRESSION
            and self.neutral.shape == self.smile.shape == (NUM_EXPRESSION,)
        )

    def shapes(self, identity: Floats64, expression: Floats64) -> Floats64:
        """Faces from coefficients.

        Args:
            identity: [80] or [N, 80], components beyond K are ignored.
            expression: [N, 64], likewise.

        Returns:
            [N, 68, 3].
        """
        person = np.tensordot(identity[..., : len(self.identity_basis)], self.identity_basis, axes=1)
        change = np.tensordot(expression[:, : len(self.expression_basis)], self.expression_basis, axes=1)
        return np.asarray(self.mean + person + change)

    def fit(self, points: Floats64, noise: float, identity: Floats64 | None = None) -> FaceFit:
        """Fit one person's frames: one identity, and pose and expression for each frame.

        Alternates between the pose from the rigid points alone, so that a moving mouth never turns the
        head, and ridge solutions for identity and expression, which are the most probable ones under unit
        normal priors.

        Args:
            points: [N, 68, 2] image points, y up.
            noise: standard deviation of a landmark in image units.
            identity: [K] of the person where it is known; None fits it.
        """
        if identity is None:
            spread = np.linspace(0, len(points) - 1, min(len(points), _PERSON_FRAMES)).round().astype(int)
            identity = self._fit_person(points[spread], noise)
        parts = [
            self._fit_frames(points[start : start + _CHUNK], identity, noise)
            for start in range(0, len(points), _CHUNK)
        ]
        poses = [pose for _, pose in parts]
        return FaceFit(
            identity=identity,
            expression=np.concatenate([expression for expression, _ in parts]),
            pose=Pose(
                rotation=np.concatenate([pose.rotation for pose in poses]),
                scale=np.concatenate([pose.scale for pose in poses]),
                shift=np.concatenate([pose.shift for pose in poses]),
            ),
        )

    def _fit_person(self, points: Floats64, noise: float) -> Floats64:
        """[K] identity from a sample of frames."""
        identity = np.zeros(len(self.identity_basis))
        change = np.zeros((len(points), NUM_LANDMARKS, 3))
        pose: Pose | None = None
        for _ in range(_PERSON_ROUNDS):
            person = self._person(identity)
            pose = fit_pose((person + change)[:, RIGID], points[:, RIGID], pose)
            identity = self._fit_identity(points, self.mean + change, pose, noise)
            expression = self._fit_expression(points, self._person(identity), pose, noise)
            change = np.tensordot(expression, self.expression_basis, axes=1)
        return identity

    def _fit_frames(self, points: Floats64, identity: Floats64, noise: float) -> tuple[Floats64, Pose]:
        """Expression [N, E] and pose of frames of a known person."""
        person = self._person(identity)
        shapes = np.broadcast_to(person, (len(points), NUM_LANDMARKS, 3))
        pose: Pose | None = None
        for _ in range(_FRAME_ROUNDS):
            pose = fit_pose(shapes[:, RIGID], points[:, RIGID], pose)
            expression = self._fit_expression(points, person, pose, noise)
            shapes = person + np.tensordot(expression, self.expression_basis, axes=1)
        assert pose is not None
        return expression, pose

    def _person(self, identity: Floats64) -> Floats64:
        return np.asarray(self.mean + np.tensordot(identity, self.identity_basis, axes=1))

    def _fit_identity(self, points: Floats64, base: Floats64, pose: Pose, noise: float) -> Floats64:
        """[K] ridge solution over all frames, for shapes that are ``base`` plus the identity."""
        gram, pull = _normal_terms(points, base, pose)
        certainty = min(len(points), _INDEPENDENT_FRAMES) / noise**2
        basis = self.identity_basis
        matrix = np.einsum("p,kpi,ij,lpj->kl", _WEIGHTS, basis, gram.mean(axis=0), basis, optimize=True)
        target = np.einsum("p,kpi,pi->k", _WEIGHTS, basis, pull.mean(axis=0), optimize=True)
        return np.linalg.solve(certainty * matrix + np.eye(len(basis)), certainty * target)

    def _fit_expression(self, points: Floats64, person: Floats64, pose: Pose, noise: float) -> Floats64:
        """[N, E] ridge solutions of every frame."""
        gram, pull = _normal_terms(points, person[None], pose)
        certainty = 1.0 / noise**2
        basis = self.expression_basis
        products = np.einsum("p,kpi,lpj->ijkl", _WEIGHTS, basis, basis, optimize=True)
        matrix = np.tensordot(gram, products, axes=2)
        target = np.einsum("p,kpi,npi->nk", _WEIGHTS, basis, pull, optimize=True)
        solution = np.linalg.solve(certainty * matrix + np.eye(len(basis)), certainty * target[..., None])
        return np.asarray(solution[..., 0])


def _weights() -> Floats64:
    weights = np.ones(NUM_LANDMARKS)
    weights[JAW_SIDES] = _JAW_SIDE_WEIGHT
    weights[CHIN_LINE] = _CHIN_WEIGHT
    return weights


_WEIGHTS = _weights()


def _normal_terms(points: Floats64, base: Floats64, pose: Pose) -> tuple[Floats64, Floats64]:
    """Terms of the normal equations of a shape offset: [N, 3, 3] camera products, [N, 68, 3] pulled residuals."""
    camera = pose.scale[:, None, None] * pose.rotation[:, :2]  # [N, 2, 3]
    residual = points - pose.project(base)
    return camera.transpose(0, 2, 1) @ camera, residual @ camera


def fit_pose(shapes: Floats64, points: Floats64, start: Pose | None = None) -> Pose:
    """Weak-perspective cameras by Gauss-Newton.

    Args:
        shapes: [N, P, 3] model points.
        points: [N, P, 2] image points, y up.
        start: first guess; None starts from the linear solution.
    """
    pose = start or _linear_pose(shapes, points)
    count, num_points = points.shape[:2]
    for _ in range(_POSE_STEPS):
        turned = shapes @ pose.rotation.transpose(0, 2, 1)
        residual = points - pose.project(shapes)
        # columns: turn about x, y, z; growth of the scale; shift
        jacobian = np.zeros((count, num_points, 2, 6))
        jacobian[..., 0, 1], jacobian[..., 0, 2] = turned[..., 2], -turned[..., 1]
        jacobian[..., 1, 0], jacobian[..., 1, 2] = -turned[..., 2], turned[..., 0]
        jacobian[..., 3] = turned[..., :2]
        jacobian *= pose.scale[:, None, None, None]
        jacobian[..., 0, 4] = jacobian[..., 1, 5] = 1.0
        flat = jacobian.reshape(count, -1, 6)
        normal = flat.transpose(0, 2, 1) @ flat
        # a trace of damping keeps degenerate point sets solvable
        normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        step = np.linalg.solve(normal, flat.transpose(0, 2, 1) @ residual.reshape(count, -1, 1))[..., 0]
        pose = Pose(
            rotation=_rotation_about(step[:, :3]) @ pose.rotation,
            scale=pose.scale * np.exp(np.clip(step[:, 3], -1.0, 1.0)),
            shift=pose.shift + step[:, 4:],
        )
    return pose


def _linear_pose(shapes: Floats64, points: Floats64) -> Pose:
    """Affine least squares, then the nearest camera with orthonormal axes of one scale."""
    shape_mean, point_mean = shapes.mean(axis=1, keepdims=True), points.mean(axis=1, keepdims=True)
    affine = np.linalg.pinv(shapes - shape_mean) @ (points - point_mean)  # [N, 3, 2]
    left, sizes, right = np.linalg.svd(affine.transpose(0, 2, 1), full_matrices=False)
    first_rows = left @ right
    third = np.cross(first_rows[:, 0], first_rows[:, 1])
    rotation = np.concatenate([first_rows, third[:, None]], axis=1)
    scale = np.maximum(sizes.mean(axis=1), 1e-9)
    shift = point_mean[:, 0] - scale[:, None] * (shape_mean @ rotation[:, :2].transpose(0, 2, 1))[:, 0]
    return Pose(rotation, scale, shift)


def _rotation_about(vectors: npt.NDArray[np.floating]) -> Floats64:
    """Rotation matrices [N, 3, 3] of rotation vectors [N, 3] (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=1)[:, None, None]
    axis = vectors / np.maximum(angle[:, 0], 1e-12)
    cross = np.zeros((len(vectors), 3, 3))
    cross[:, 0, 1], cross[:, 0, 2], cross[:, 1, 2] = -axis[:, 2], axis[:, 1], -axis[:, 0]
    cross -= cross.transpose(0, 2, 1)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1.0 - np.cos(angle)) * (cross @ cross))


def rotation_matrices(angles: npt.ArrayLike) -> Floats64:
    """Rz(roll) Ry(yaw) Rx(pitch): [N, 3] radians (pitch, yaw, roll) -> [N, 3, 3]."""
    values = np.asarray(angles, dtype=np.float64)
    about_x, about_y, about_z = (_rotation_about(values[:, [axis]] * np.eye(3)[axis]) for axis in range(3))
    return np.asarray(about_z @ about_y @ about_x)


def rotation_angles(rotation: Floats64) -> Floats64:
    """Inverse of :func:`rotation_matrices` for yaws within a quarter turn: [N, 3, 3] -> [N, 3] radians."""
    pitch = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    yaw = np.arcsin(np.clip(-rotation[:, 2, 0], -1.0, 1.0))
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.stack([pitch, yaw, roll], axis=1)

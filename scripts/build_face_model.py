"""Build the bundled linear face model from face-mesh labels: mean, bases, template expressions.

The licensed morphable models cannot ship with the code, so the offline 3DMM stage fits this compact model of
the 68 iBUG points instead. It fills the same 257 coefficients (core/coefficients.py) as far as points can:
identity, expression, angles and translation; texture and lighting stay zero.

Recipe: every labeled frame is brought to the mean shape by a similarity on its rigid points. A person's
shape is the mean of the frames with a nearly closed mouth, expressions are the differences from it. Both are
taken together with their mirror images, so the bases split into symmetric and one-sided components, and every
person counts the same however long the clip. Stills first lose the part of their shape that the expression
basis explains, and then add to the identities.

    python -m scripts.build_face_model --media MEDIA --labels data/labels \
        --output checkpoints/demo/face_model.safetensors

Tensors of the file (K identity and E expression components; a coefficient of 1 is one standard deviation):

====================  ============  ======================================================================
``mean``              [68, 3]       mean face with the mouth at rest
``identity_basis``    [K, 68, 3]    shape = mean + identity @ identity_basis + expression @ expression_basis
``expression_basis``  [E, 68, 3]    ordered by variance
``identity_std``      [K]           size of each component: root mean square over the points, in model units
``expression_std``    [E]           likewise
``neutral``           [64]          expression at rest, mouth closed; zero beyond E
``smile``             [64]          closed-mouth smile; zero beyond E
====================  ============  ======================================================================

Axes: x to the right of the image, y up, z towards the viewer. Unit: the distance between the outer corners of
the eyes (points 36 and 45) of the mean face is 1; its origin is the middle of these corners.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats64
from videoretalking.core.checkpoint import save_checkpoint
from videoretalking.core.coefficients import NUM_EXPRESSION
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.landmarks import (
    INNER_LIP_PAIRS,
    MIRRORED,
    MOUTH_CORNERS,
    NUM_LANDMARKS,
    OUTER_EYE_CORNERS,
    OUTER_LIP_GAP,
    RIGID,
)
from videoretalking.scripts.preprocess.label_landmarks import mesh_to_ibug
from videoretalking.scripts.preprocess.sources import list_sources

logger = logging.getLogger(__name__)


LICENSE = "made by this project from labels of clips whose licenses allow it; see the model card"

# Points that expressions hardly move: temples, nose, corners of the eyes.
LEFT, RIGHT = OUTER_EYE_CORNERS
STEADY = np.array([0, 1, 15, 16, *RIGID])

_MAX_YAW = np.deg2rad(35.0)  # beyond it the far half of a mesh is a guess
_CLOSED_SHARE = 0.2  # of a person's frames, those with the most closed mouth
_ROUNDS = 4  # of aligning to the mean and averaging again
_SMILE_SIZE = 3.2  # standard deviations of the smile measure


@dataclass(frozen=True)
class FaceModelConfig:
    """Sizes of the model.

    Attributes:
        num_identity: identity components kept, at most 80.
        num_expression: expression components kept, at most 64.
    """

    num_identity: int = 40
    num_expression: int = 32


@dataclass(frozen=True)
class FaceModelTensors:
    """The tensors of the file, in float64; see the module's text."""

    mean: Floats64
    identity_basis: Floats64
    expression_basis: Floats64
    identity_std: Floats64
    expression_std: Floats64
    neutral: Floats64
    smile: Floats64


def load_shapes(path: Path) -> Floats64:
    """The usable frames of one label file.

    Args:
        path: ``.npz`` written by ``label_landmarks``.

    Returns:
        [N, 68, 3], x right, y up, z towards the viewer, pixels; faces turned too far are left out.
    """
    with np.load(path) as archive:
        meshes = archive["mesh"][archive["found"]]
    if not len(meshes):
        return np.zeros((0, NUM_LANDMARKS, 3))
    shapes = np.stack([mesh_to_ibug(mesh) for mesh in meshes]).astype(np.float64) * (1.0, -1.0, -1.0)
    across = shapes[:, RIGHT] - shapes[:, LEFT]
    return shapes[np.abs(np.arctan2(across[:, 2], across[:, 0])) < _MAX_YAW]


def align(shapes: Floats64, target: Floats64, points: npt.NDArray[np.int64] = STEADY) -> Floats64:
    """Bring shapes onto a target by the similarity that is best on some points (Umeyama 1991).

    Args:
        shapes: [N, 68, 3].
        target: [68, 3].
        points: indices of the points that decide.

    Returns:
        [N, 68, 3].
    """
    source = shapes[:, points]
    source_mean, target_mean = source.mean(axis=1, keepdims=True), target[points].mean(axis=0)
    centered, goal = source - source_mean, target[points] - target_mean
    left, sizes, right = np.linalg.svd(centered.transpose(0, 2, 1) @ goal)
    sign = np.ones_like(sizes)
    sign[:, -1] = np.sign(np.linalg.det(left @ right))
    rotation = (left * sign[:, None]) @ right
    scale = (sizes * sign).sum(axis=1) / (centered**2).sum(axis=(1, 2))
    return scale[:, None, None] * ((shapes - source_mean) @ rotation) + target_mean


def mirrored(shapes: Floats64) -> Floats64:
    """Mirror images [..., 68, 3] of shapes, with the points renamed."""
    return shapes[..., MIRRORED, :] * (-1.0, 1.0, 1.0)


def mean_lip_gap(shapes: Floats64) -> Floats64:
    """Gap between the lips [...], mean of three point pairs, in the unit of the shapes."""
    upper, lower = np.transpose(INNER_LIP_PAIRS)
    return np.linalg.norm(shapes[..., upper, :] - shapes[..., lower, :], axis=-1).mean(axis=-1)


def smile_measure(shapes: Floats64) -> Floats64:
    """How much the mouth smiles [...]: its width plus twice the lift of its corners over its middle."""
    corners = shapes[..., MOUTH_CORNERS, :]
    width = np.linalg.norm(corners[..., 1, :] - corners[..., 0, :], axis=-1)
    lift = corners[..., 1].mean(axis=-1) - shapes[..., OUTER_LIP_GAP, 1].mean(axis=-1)
    return width + 2.0 * lift


def build(
    people: dict[str, Floats64], stills: dict[str, Floats64], config: FaceModelConfig
) -> FaceModelTensors:
    """Build the model.

    Args:
        people: identity -> [N, 68, 3] frames of video, any scale and pose, N of at least 5.
        stills: identity -> [N, 68, 3] single pictures.
        config: sizes.
    """
    mean = _mean_shape(list(people.values()))
    aligned = {name: align(shapes, mean) for name, shapes in people.items()}
    rest = {name: _rest_shape(shapes) for name, shapes in aligned.items()}

    # expressions: every person weighs the same
    residuals = np.concatenate([aligned[name] - rest[name] for name in aligned])
    weights = np.concatenate([np.full(len(aligned[name]), 1.0 / len(aligned[name])) for name in aligned])
    residuals = np.concatenate([residuals, mirrored(residuals)])
    weights = np.tile(weights, 2) / (2.0 * len(aligned))
    expression_basis, expression_std = _components(residuals, weights, config.num_expression)

    identities = np.stack(list(rest.values()))
    mean = _symmetric(identities.mean(axis=0))
    if stills:
        pictures = align(np.concatenate(list(stills.values())), mean)
        identities = np.concatenate(
            [identities, _without_expression(pictures - mean, expression_basis) + mean]
        )
    offsets = align(identities, mean) - mean
    offsets = np.concatenate([offsets, mirrored(offsets)])
    identity_basis, identity_std = _components(
        offsets, np.full(len(offsets), 1.0 / len(offsets)), config.num_identity
    )
    coefficients = fit_linear(residuals, expression_basis)
    neutral, smile = _templates(residuals + mean, coefficients, weights, mean, expression_basis)

    unit = float(np.linalg.norm(mean[RIGHT] - mean[LEFT]))
    origin = (mean[RIGHT] + mean[LEFT]) / 2.0
    return FaceModelTensors(
        mean=(mean - origin) / unit,
        identity_basis=identity_basis / unit,
        expression_basis=expression_basis / unit,
        identity_std=identity_std / unit,
        expression_std=expression_std / unit,
        neutral=_padded(neutral),
        smile=_padded(smile),
    )


def fit_linear(offsets: Floats64, basis: Floats64, prior: float = 0.0) -> Floats64:
    """Least-squares coefficients of shape offsets.

    Args:
        offsets: [N, 68, 3].
        basis: [C, 68, 3].
        prior: weight of the coefficients' squares (variance of the noise, squared unit of the offsets).

    Returns:
        [N, C].
    """
    flat = basis.reshape(len(basis), -1)
    gram = flat @ flat.T + prior * np.eye(len(flat))
    return np.asarray(np.linalg.solve(gram, flat @ offsets.reshape(len(offsets), -1).T).T)


def _mean_shape(people: list[Floats64]) -> Floats64:
    """Generalized Procrustes mean over people, mirror-symmetric about x = 0, in the average pose."""
    centered = [shapes - shapes[:, STEADY].mean(axis=1, keepdims=True) for shapes in people]
    sized = [shapes / np.sqrt((shapes**2).mean(axis=(1, 2), keepdims=True)) for shapes in centered]
    mean: Floats64 = _symmetric(np.stack([shapes.mean(axis=0) for shapes in sized]).mean(axis=0))
    for _ in range(_ROUNDS):
        mean = _symmetric(np.stack([align(shapes, mean).mean(axis=0) for shapes in people]).mean(axis=0))
    return mean


def _symmetric(shape: Floats64) -> Floats64:
    return (shape + mirrored(shape)) / 2.0


def _rest_shape(shapes: Floats64) -> Floats64:
    """A person's shape [68, 3]: the mean of the frames in which the mouth is most closed."""
    opening = mean_lip_gap(shapes)
    return shapes[opening <= np.quantile(opening, _CLOSED_SHARE)].mean(axis=0)


def _components(offsets: Floats64, weights: Floats64, count: int) -> tuple[Floats64, Floats64]:
    """Principal components scaled to one standard deviation [C, 68, 3], and their sizes per point [C].

    Signs are fixed by the largest entry, so that the same data give the same file.
    """
    flat = offsets.reshape(len(offsets), -1)
    covariance = (flat * weights[:, None]).T @ flat
    variances, vectors = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:count]
    order = order[variances[order] > 1e-12 * variances.max()]
    vectors = vectors[:, order].T
    vectors *= np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(axis=1)])[:, None]
    deviations = np.sqrt(variances[order])
    basis = (vectors * deviations[:, None]).reshape(-1, *offsets.shape[1:])
    return basis, deviations / np.sqrt(offsets.shape[1])


def _without_expression(offsets: Floats64, basis: Floats64) -> Floats64:
    """Offsets from the mean minus what the expression basis explains under its prior.

    The people differ more than an expression moves a face, so the noise of the fit is set to what the basis
    leaves unexplained.
    """
    coefficients = fit_linear(offsets, basis)
    left = offsets - np.tensordot(coefficients, basis, axes=1)
    noise = float((left**2).mean())
    return offsets - np.tensordot(fit_linear(offsets, basis, prior=noise), basis, axes=1)


def _templates(
    shapes: Floats64, coefficients: Floats64, weights: Floats64, mean: Floats64, basis: Floats64
) -> tuple[Floats64, Floats64]:
    """Expression coefficients of the rest and of the smile: [E] each.

    Both follow from a linear regression of the coefficients on the opening of the mouth and on the smile
    measure: rest is the closed mouth at the mean smile measure of closed mouths, the smile raises it.
    """
    measures = np.stack([mean_lip_gap(shapes), smile_measure(shapes)], axis=1)
    average = np.average(measures, axis=0, weights=weights)
    design = np.concatenate([np.ones((len(measures), 1)), measures - average], axis=1)
    weighted = design * weights[:, None]
    slope = np.linalg.solve(weighted.T @ design, weighted.T @ coefficients)
    closed = float(np.quantile(measures[:, 0], 0.02))
    rest_smile = float(measures[measures[:, 0] <= np.quantile(measures[:, 0], _CLOSED_SHARE), 1].mean())
    deviation = float(np.sqrt(np.average((measures[:, 1] - average[1]) ** 2, weights=weights)))

    def template(smile: float) -> Floats64:
        return np.asarray(np.array([1.0, closed - average[0], smile - average[1]]) @ slope)

    return template(rest_smile), template(rest_smile + _SMILE_SIZE * deviation)


def _padded(values: Floats64) -> Floats64:
    return np.pad(values, (0, NUM_EXPRESSION - len(values)))


def save(model: FaceModelTensors, path: Path, num_people: int, num_stills: int) -> None:
    """Write the model, made from so many people, as a checkpoint of the network name ``face_model``."""
    state = {name: torch.tensor(values, dtype=torch.float32) for name, values in vars(model).items()}
    described = {
        "num_identity": len(model.identity_basis),
        "num_expression": len(model.expression_basis),
    }
    save_checkpoint(
        path,
        state,
        network="face_model",
        config=described,
        license=LICENSE,
        extra={
            "unit": "distance of the outer eye corners",
            "axes": "x right, y up, z to the viewer",
            "num_people": num_people,
            "num_stills": num_stills,
        },
    )


def read_shapes(media: Path, labels: Path) -> tuple[dict[str, Floats64], dict[str, Floats64]]:
    """Shapes of the people in publishable videos, and of those in stills.

    Raises:
        UserError: no labels of such videos.
    """
    people: dict[str, list[Floats64]] = {}
    stills: dict[str, list[Floats64]] = {}
    for source in list_sources("table", media):
        path = labels / f"{source.name}.npz"
        if source.release_training and path.is_file() and len(shapes := load_shapes(path)):
            (stills if source.is_still else people).setdefault(source.identity, []).append(shapes)
    if not people:
        raise UserError(
            f"{labels} has no labels of publishable videos of {media}: "
            "run scripts.preprocess.label_landmarks first"
        )
    return (
        {name: np.concatenate(parts) for name, parts in people.items()},
        {name: np.concatenate(parts) for name, parts in stills.items()},
    )


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Build the linear face model from labels")
    parser.add_argument("--media", type=Path, required=True, help="folder with manifest.csv")
    parser.add_argument("--labels", type=Path, required=True, help="folder written by label_landmarks")
    parser.add_argument("--output", type=Path, required=True, help="the .safetensors file to write")
    arguments = parser.parse_args()
    people, stills = read_shapes(arguments.media, arguments.labels)
    save(build(people, stills, FaceModelConfig()), arguments.output, len(people), len(stills))
    logger.info("%s from %d people and %d stills", arguments.output, len(people), len(stills))


if __name__ == "__main__":
    run_command(main)

"""The expression that D-Net gives to every frame: template, blend of templates, or taken from a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats32
from videoretalking.core.coefficients import EXPRESSION, NUM_COEFFICIENTS, NUM_EXPRESSION, ROW_LENGTH
from videoretalking.core.errors import UserError
from videoretalking.faces.detect import FaceDetector
from videoretalking.faces.reconstruct import NetworkReconstructor
from videoretalking.faces.types import FaceTrack
from videoretalking.media.images import is_still_image, load_image
from videoretalking.pipeline.analyze import FaceTools, Reconstructor
from videoretalking.pipeline.config import RenderConfig


def choose_expression(
    options: RenderConfig, templates: Callable[[], dict[str, Floats32]], tools: FaceTools
) -> Floats32:
    """Resolve ``--exp-img`` and ``--exp-blend``.

    Args:
        options: settings.
        templates: reads the templates ``neutral`` and ``smile``.
        tools: detector and reconstructor, loaded only for a picture.

    Returns:
        [64] float32 expression coefficients.

    Raises:
        UserError: not a template, picture or coefficient file; no face in the picture; blend out of range.
    """
    named = templates()
    target = options.expression
    blend = options.expression_blend
    if blend is not None and not 0.0 <= blend <= 1.0:
        raise UserError(f"--exp-blend {blend} is not between 0 and 1")
    if target == "neutral" and blend is not None:
        target = "smile"
    expression = named[target] if target in named else _from_file(Path(target), tools)
    weight = 1.0 if blend is None else blend
    return ((1.0 - weight) * named["neutral"] + weight * expression).astype(np.float32)


def _from_file(path: Path, tools: FaceTools) -> Floats32:
    if not path.is_file():
        raise UserError(f"--exp-img {path} is neither neutral nor smile nor a file")
    if path.suffix == ".npz":
        track = FaceTrack.load(path)
        if not track.present.any():
            raise UserError(f"--exp-img {path}: the face track holds no face")
        return track.rows[track.present][:, EXPRESSION].mean(axis=0)
    if path.suffix == ".npy":
        return _from_array(path)
    if not is_still_image(path):
        raise UserError(f"--exp-img {path} is neither a picture nor a coefficient file (.npy, .npz)")
    return _from_picture(path, *tools.load())


def _from_array(path: Path) -> Floats32:
    try:
        values = np.atleast_2d(np.load(path, allow_pickle=False)).astype(np.float32)
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"--exp-img {path} cannot be read: {error}") from None
    if values.shape[-1] in (NUM_COEFFICIENTS, ROW_LENGTH):
        values = values[..., EXPRESSION]
    if values.ndim != 2 or values.shape[1] != NUM_EXPRESSION or not np.isfinite(values).all():
        raise UserError(
            f"--exp-img {path} must hold finite rows of {NUM_EXPRESSION} expression numbers, or of "
            f"{NUM_COEFFICIENTS} or {ROW_LENGTH} coefficients, found shape {values.shape}"
        )
    return np.asarray(values.mean(axis=0))


def _from_picture(path: Path, detector: FaceDetector, reconstructor: Reconstructor) -> Floats32:
    image = load_image(path)
    faces = [face for face in detector.detect(image, thorough=True) if face.landmarks is not None]
    if not faces:
        raise UserError(f"--exp-img {path}: no face was found in the picture")
    largest = max(faces, key=lambda face: float((face.box[2:] - face.box[:2]).prod()))
    assert largest.landmarks is not None
    if isinstance(reconstructor, NetworkReconstructor):
        return reconstructor(image, largest.landmarks)[EXPRESSION]
    size = (image.shape[1], image.shape[0])
    return reconstructor.rows(largest.landmarks[None], size)[0, EXPRESSION]

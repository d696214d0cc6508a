"""What stored 3DMM rows say about a face, read by the published conventions."""

from __future__ import annotations

import numpy as np

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.core.coefficients import ALIGNMENT, ANGLES, EXPRESSION, IDENTITY, TRANSLATION
from videoretalking.faces.align import ReconAlignment, flip_y
from videoretalking.faces.face_model import FaceModel, rotation_matrices

FOCAL, DISTANCE, CENTER = 1015.0, 10.0, 112.0  # the regressor's camera (Deng et al. 2019)


def described_landmarks(model: FaceModel, rows: Floats32) -> Floats64:
    """[N, 262] rows of the face model -> [N, 68, 2] pixels of the frame, y down, by weak perspective."""
    found = []
    shapes = model.shapes(rows[:, IDENTITY].astype(np.float64), rows[:, EXPRESSION].astype(np.float64))
    for row, shape in zip(rows.astype(np.float64), shapes, strict=True):
        x, y, z = row[TRANSLATION]
        scale = FOCAL / (DISTANCE - z)
        turned = shape @ rotation_matrices(row[None, ANGLES])[0].T
        in_crop = scale * (turned[:, :2] + [x, y]) + CENTER
        alignment = ReconAlignment.from_params(row[ALIGNMENT])
        found.append(flip_y(alignment.from_crop_up(in_crop), alignment.frame_size[1]))
    return np.stack(found)

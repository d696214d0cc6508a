"""Expression templates and upper-face emotions: names and numbers of the published program."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# Intensities that GANimation's generator reads, in its order (FACS, Ekman and Friesen 1978).
ACTION_UNITS = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45",
)  # fmt: skip

# Differs from paper: "sad" is all zeros, i.e. neutral, in the published program (requirement 53).
UPPER_FACE_EMOTIONS: Mapping[str, Mapping[str, float]] = {
    "sad": {},
    "angry": {"AU04": 0.3},
    "surprise": {"AU05": 0.2},
}

# Option -> entry of the released expression file. Any option but "smile" means the neutral template.
EXPRESSION_TEMPLATES: Mapping[str, str] = {"neutral": "expression_center", "smile": "expression_mouth"}


def action_units(emotion: str) -> npt.NDArray[np.float32]:
    """The 17 intensities (0 to 1) of an upper-face emotion of :data:`UPPER_FACE_EMOTIONS`."""
    intensities = UPPER_FACE_EMOTIONS[emotion]
    return np.array([intensities.get(unit, 0.0) for unit in ACTION_UNITS], dtype=np.float32)

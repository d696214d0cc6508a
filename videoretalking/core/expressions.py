"""Expression templates and upper-face emotions: their names and numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

# Intensities that GANimation's generator reads, in its order (FACS, Ekman and Friesen 1978).
ACTION_UNITS = (
    "AU01", "AU02", "AU04", "AU05", "AU06", "AU07", "AU09", "AU10", "AU12",
    "AU14", "AU15", "AU17", "AU20", "AU23", "AU25", "AU26", "AU45",
)  # fmt: skip

# The paper edits anger and surprise (section 3.1); their units and intensities are those of the published program.
# Differs from paper: "sad", which the published program offers with all units at 0, so that it shows nothing. Here
# it is the brows of sadness (1 inner brow raised, 4 brow lowered), as strong as "angry".
UPPER_FACE_EMOTIONS: Mapping[str, Mapping[str, float]] = {
    "sad": {"AU01": 0.3, "AU04": 0.3},
    "angry": {"AU04": 0.3},
    "surprise": {"AU05": 0.2},
}

# Option -> entry of the released expression file. Any option but "smile" means the neutral template.
EXPRESSION_TEMPLATES: Mapping[str, str] = {"neutral": "expression_center", "smile": "expression_mouth"}


def action_units(emotion: str) -> npt.NDArray[np.float32]:
    """The 17 intensities (0 to 1) of an upper-face emotion of :data:`UPPER_FACE_EMOTIONS`."""
    intensities = UPPER_FACE_EMOTIONS[emotion]
    return np.array([intensities.get(unit, 0.0) for unit in ACTION_UNITS], dtype=np.float32)

"""Names of the array types that several packages share, so that one name means one thing everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Image8 = npt.NDArray[np.uint8]  # [H, W, 3] RGB, or one channel where a docstring says so
ImageF = npt.NDArray[np.float32]  # [H, W, 3] RGB in [0, 1]
AnyImage = npt.NDArray[Any]  # either of them
Mask = npt.NDArray[np.float32]  # [H, W] in [0, 1]
Floats32 = npt.NDArray[np.float32]
Floats64 = npt.NDArray[np.float64]
Floats = Floats32 | Floats64  # in the precision of what was given
Ints64 = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

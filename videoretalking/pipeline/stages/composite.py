"""Last stage of the paper: the new face goes back into the frame (section 3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from videoretalking.core.arrays import AnyImage, Mask
from videoretalking.faces.align import Placed, place
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.stages.blend import blend_into

# Rows of the face crop, as shares of its height, over which the new face takes over from the original. L-Net
# sees everything above 0.5, so down to there both show the same and the passage cannot be seen.
_TAKEOVER = (0.38, 0.50)
_ALIKE = (0.20, 0.30)  # from these rows down to the takeover the colors of both are compared
_MAX_SHIFT = 0.12  # of the full range; more is no matter of color


class Compositor:
    """Pastes new faces into frames; pixels away from them keep their bytes.

    Args:
        whole_face: replace the upper face too (needed when it was edited); otherwise its pixels stay original.
        color_match: 0 leaves the colors of the new face .. 1 moves them to those of the frame.
    """

    def __init__(self, whole_face: bool, color_match: float = 1.0) -> None:
        self.whole_face = whole_face
        self.color_match = color_match

    def __call__(self, frame: AnyImage, faces: Sequence[FaceJob], painted: Mask | None = None) -> AnyImage:
        """A copy of ``frame`` with every face's patch in it.

        Args:
            frame: [H, W, 3] uint8.
            faces: with patch and mask.
            painted: [H, W] zeros, which receive the weights of the edit; pixels left at 0 kept their bytes.

        Returns:
            [H, W, 3] uint8; ``frame`` itself without faces.
        """
        if not faces:
            return frame
        result = frame.copy()
        for face in faces:
            self._paste(result, face, painted)
        return result

    def _paste(self, frame: AnyImage, face: FaceJob, painted: Mask | None) -> None:
        assert face.patch is not None and face.mask is not None
        mask, height = face.mask, len(face.mask)
        weights = mask if self.whole_face else mask * _rise(height, _TAKEOVER)
        alike = mask * _rise(height, _ALIKE) * (1.0 - _rise(height, _TAKEOVER))
        frame_size = (frame.shape[1], frame.shape[0])
        placed = place(np.dstack([weights, alike]), face.crop, frame_size)
        if placed is None:
            return
        region = frame[placed.rows, placed.columns]
        patch = cast(Placed, place(face.patch, face.crop, frame_size)).pixels
        weights, alike = np.split(np.asarray(placed.pixels), 2, axis=2)
        patch = patch + self.color_match * _color_shift(region, patch, alike)
        reach = blend_into(region, patch, np.ascontiguousarray(weights[..., 0]), placed.coverage)
        if painted is not None:
            place_in = painted[placed.rows, placed.columns]
            np.maximum(place_in, reach, out=place_in)


def _color_shift(region: AnyImage, patch: AnyImage, weights: AnyImage) -> AnyImage:
    """[3] weighted mean of region - patch, bounded."""
    total = float(weights.sum())
    if total < 1.0:
        return np.zeros(3, np.float32)
    difference = region.astype(np.float32) / 255.0 - patch
    return np.clip((difference * weights).sum(axis=(0, 1)) / total, -_MAX_SHIFT, _MAX_SHIFT)


def _rise(height: int, rows: tuple[float, float]) -> AnyImage:
    """[H, 1] weights that rise smoothly from 0 to 1 between two rows given as shares of the height."""
    first, last = rows
    position = np.clip(((np.arange(height) + 0.5) / height - first) / (last - first), 0.0, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * position)).astype(np.float32)[:, None]

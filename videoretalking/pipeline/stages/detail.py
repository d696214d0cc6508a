"""Fine detail: networks paint softly, and the pictures that they paint from are sharp.

Colors that drift and likeness vary slowly over a picture, so both are measured and kept at a quarter of its size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoretalking.core.arrays import Floats64
from videoretalking.faces.masks import MOUTH_SOFTNESS, eye_distance, mouth_outline
from videoretalking.pipeline.raster import Pixels, Raster

REDUCTION = 4  # how many pixels of a side become one; sides are multiples
_CHANGE_BLUR = 0.02  # of the side: finer differences are those of sharpness, not of what is shown
_SAME = 0.04  # difference of two colors at which a quarter of the likeness is left, white is 1
_COLOR_BLUR = 0.05  # of the side: colors that vary over a longer way are those of the frame
_LEAST_SEEN = 1e-3  # keeps the mean finite where nothing is seen
MOUTH_MARGIN = 0.2  # eye distances around the lips whose colors are not measured
LIPS_MARGIN = 0.15  # eye distances around the lips within which nothing is kept
# Variance that comes of reducing and of enlarging in straight lines, in reduced pixels.
_OWN_VARIANCE = (1 - REDUCTION**-2) / 12 + 1 / 6


def keep_detail(raster: Raster, edited: Pixels, warped: Pixels, landmarks: Sequence[Floats64]) -> Pixels:
    """Give painted images the sharpness of what they were painted from.

    Differs from paper: D-Net's editing network softens what its warping network only moved, and E-Net what L-Net
    only moved. Where both show the same, the moved pixels are shown; on the lips, which are new, they are not. The
    lips get the colors of the picture too, as far as these vary slowly.

    Args:
        raster: for the pixel work.
        edited: [N, S, S, 3] float32 in [0, 1], what a network painted.
        warped: [N, S, S, 3] likewise, what it painted from, moved to the same places.
        landmarks: N times [68, 2] pixels of the images.

    Returns:
        [N, S, S, 3] float32 in [0, 1].
    """
    difference = warped - edited
    reduced = raster.shrink(difference, REDUCTION)
    side = reduced.shape[1]
    drift = slow_colors(raster, reduced, 1.0 - lips_mask(raster, landmarks, side, MOUTH_MARGIN))
    kept = likeness(raster, reduced - drift) * (1.0 - lips_mask(raster, landmarks, side, LIPS_MARGIN))
    kept = raster.stack([kept] * 3, axis=3)
    difference *= raster.enlarge(kept, REDUCTION)
    difference += raster.enlarge((1.0 - kept) * drift, REDUCTION)
    difference += edited
    return difference.clip(0.0, 1.0)


def slow_colors(raster: Raster, differences: Pixels, seen: Pixels) -> Pixels:
    """How far the colors of a picture are from those of another one of the same, as far as this varies slowly.

    Args:
        raster: for the pixel work.
        differences: [N, s, s, 3] the other minus the one, reduced.
        seen: [N, s, s] in [0, 1], where both show the same; elsewhere the colors around are taken.

    Returns:
        [N, s, s, 3].
    """
    blurs = _blurs(differences, _COLOR_BLUR)
    drift = raster.soften(seen[..., None] * differences, blurs)
    return drift / (raster.soften(seen, blurs)[..., None] + _LEAST_SEEN)


def likeness(raster: Raster, differences: Pixels) -> Pixels:
    """[N, s, s] near 1 where reduced differences [N, s, s, 3] are small but for detail, else near 0."""
    coarse = raster.soften(differences, _blurs(differences, _CHANGE_BLUR))
    return 1.0 / (1.0 + (coarse**2).mean(-1) / _SAME**2) ** 2


def lips_mask(raster: Raster, landmarks: Sequence[Floats64], side: int, margin: float) -> Pixels:
    """[N, side, side] the lips on a reduced picture, with a margin in eye distances and a soft edge.

    Args:
        raster: for the pixel work.
        landmarks: N times [68, 2] pixels of the picture before it was reduced.
        side: of the reduced one.
        margin: see above.
    """
    points = (np.stack(landmarks) + 0.5) / REDUCTION - 0.5
    softness = MOUTH_SOFTNESS * eye_distance(points)
    return raster.polygons(list(mouth_outline(points, margin)), (side, side), softness.tolist())


def _blurs(reduced: Pixels, share: float) -> list[float]:
    """A blur of a share of the side for each reduced picture, less what reducing and enlarging blur anyway."""
    variance = (share * reduced.shape[1]) ** 2 - _OWN_VARIANCE
    return [max(variance, 0.0) ** 0.5] * len(reduced)

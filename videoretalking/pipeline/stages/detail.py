"""Fine detail: networks paint softly, and the pictures that they paint from are sharp."""

from __future__ import annotations

from collections.abc import Sequence

from videoretalking.core.arrays import Floats64
from videoretalking.faces.masks import MOUTH_SOFTNESS, eye_distance, mouth_outline
from videoretalking.pipeline.raster import Pixels, Raster

_CHANGE_BLUR = 0.02  # of the side: finer differences are those of sharpness, not of what is shown
_SAME = 0.04  # difference of two colors at which a quarter of the likeness is left, white is 1
_COLOR_BLUR = 0.05  # of the side: colors that vary over a longer way are those of the frame
_LEAST_SEEN = 1e-3  # keeps the mean finite where nothing is seen
MOUTH_MARGIN = 0.2  # eye distances around the lips whose colors are not measured
LIPS_MARGIN = 0.15  # eye distances around the lips within which nothing is kept


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
    side = edited.shape[1]
    edited = match_colors(raster, edited, warped, 1.0 - lips_mask(raster, landmarks, side, MOUTH_MARGIN))
    kept = likeness(raster, edited - warped) * (1.0 - lips_mask(raster, landmarks, side, LIPS_MARGIN))
    return edited + kept[..., None] * (warped - edited)


def match_colors(raster: Raster, images: Pixels, goals: Pixels, seen: Pixels) -> Pixels:
    """Take the colors that vary slowly from other pictures of the same.

    Args:
        raster: for the pixel work.
        images: [N, S, S, 3] float32 in [0, 1], in colors that drifted.
        goals: [N, S, S, 3] likewise, in the right ones.
        seen: [N, S, S] in [0, 1], where both show the same; elsewhere the colors around are taken.

    Returns:
        [N, S, S, 3] float32 in [0, 1].
    """
    blurs = [_COLOR_BLUR * images.shape[1]] * len(images)
    drift = raster.soften(seen[..., None] * (goals - images), blurs)
    return (images + drift / (raster.soften(seen, blurs)[..., None] + _LEAST_SEEN)).clip(0.0, 1.0)


def likeness(raster: Raster, differences: Pixels) -> Pixels:
    """[N, H, W] near 1 where differences [N, H, W, 3] are small but for detail, near 0 where they are not."""
    coarse = raster.soften(differences, [_CHANGE_BLUR * differences.shape[1]] * len(differences))
    return 1.0 / (1.0 + (coarse**2).mean(-1) / _SAME**2) ** 2


def lips_mask(raster: Raster, landmarks: Sequence[Floats64], side: int, margin: float) -> Pixels:
    """[N, side, side] the lips, with a margin in eye distances and a soft edge."""
    return raster.polygons(
        [mouth_outline(found, margin) for found in landmarks],
        (side, side),
        [MOUTH_SOFTNESS * eye_distance(found) for found in landmarks],
    )

"""Multi-band blending with Laplacian pyramids (paper, section 3.4; Burt and Adelson 1983).

``docs/deviations.md`` says where and why it differs from the published program, which
:mod:`scripts.parity.published.blend` repeats to the last rounding.
"""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np

from videoretalking.core.arrays import AnyImage

SPREAD = 0.08  # share of the region's size over which the edit may run out beyond the mask
_MASK_FLOOR = 1.0 / 255.0
_COVERED = 0.999
_MIN_BASE = 12  # pixels of the shorter side below which a level would mix unrelated parts of the face


def num_bands(height: int, width: int, limit: int = 6) -> int:
    """Bands that an image of this size can be split into, at most ``limit``."""
    return max(0, min(limit, int(math.log2(max(1, min(height, width) / _MIN_BASE)))))


def gaussian_pyramid(image: AnyImage, bands: int) -> list[AnyImage]:
    """The image and ``bands`` reduced levels, each half the size of the one before (rounded up)."""
    levels = [image]
    for _ in range(bands):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels


def laplacian_pyramid(image: AnyImage, bands: int) -> list[AnyImage]:
    """``bands`` band-pass levels and the low-pass base; :func:`collapse` restores the image."""
    levels = gaussian_pyramid(image, bands)
    return [*(fine - _expand(coarse, fine) for fine, coarse in itertools.pairwise(levels)), levels[-1]]


def collapse(pyramid: list[AnyImage]) -> AnyImage:
    """Image of a Laplacian pyramid."""
    image = pyramid[-1]
    for band in reversed(pyramid[:-1]):
        image = _expand(image, band) + band
    return image


def blend(inside: AnyImage, outside: AnyImage, mask: AnyImage, bands: int | None = None) -> AnyImage:
    """Mix two images band by band, so that coarse colors meet softly and fine detail meets sharply.

    Unlike the published program, the levels are not rounded to 8 bit, every band counts, and images keep
    their size.

    Args:
        inside: [H, W, 3] image wanted where the mask is 1, any range.
        outside: [H, W, 3] image wanted where the mask is 0, same range.
        mask: [H, W] weights in [0, 1].
        bands: number of bands above the base; None chooses by size.

    Returns:
        [H, W, 3] float32, not clipped.
    """
    bands = num_bands(*mask.shape) if bands is None else bands
    mixed = [
        low + weight[..., None] * (high - low)
        for high, low, weight in zip(
            laplacian_pyramid(inside, bands),
            laplacian_pyramid(outside, bands),
            gaussian_pyramid(mask, bands),
            strict=True,
        )
    ]
    return collapse(mixed)


def blend_into(region: AnyImage, patch: AnyImage, mask: AnyImage, coverage: AnyImage) -> AnyImage:
    """Blend a patch into a region of a frame, in place; every pixel away from the mask keeps its bytes.

    Coarse bands carry the patch's color far beyond the mask. That spread hides the seam, but it must not
    tint the background: it fades to nothing within a short distance of the mask and where the patch ends.

    Args:
        region: [H, W, 3] uint8 RGB view of the frame, changed in place.
        patch: [H, W, 3] float32 RGB in [0, 1], the new content.
        mask: [H, W] float32 weights in [0, 1].
        coverage: [H, W] float32, 1 where the patch has content, less where it ends; not at frame borders.

    Returns:
        [H, W] weights of the edit; pixels at 0 kept their bytes.
    """
    outside = region.astype(np.float32) / 255.0
    reach = reach_window(mask, coverage)
    mixed = outside + reach[..., None] * (blend(patch, outside, mask * (coverage > _COVERED)) - outside)
    np.copyto(region, np.clip(np.rint(mixed * 255.0), 0.0, 255.0).astype(np.uint8))
    return reach


def reach_window(mask: AnyImage, coverage: AnyImage) -> AnyImage:
    """[H, W] weights that allow an edit: 1 on the mask, 0 from ``SPREAD`` of the region's size outside it.

    They are also 0 where the patch ends, and rise to 1 over the same distance inwards.
    """
    distance = max(1.0, SPREAD * max(mask.shape))
    outside_mask = cv2.distanceTransform((mask < _MASK_FLOOR).astype(np.uint8), cv2.DIST_L2, 5)
    reach = _fade(1.0 - outside_mask / distance)
    if coverage.min() < _COVERED:
        inside_patch = cv2.distanceTransform((coverage > _COVERED).astype(np.uint8), cv2.DIST_L2, 5)
        reach *= _fade((inside_patch - 1.0) / distance)
    return reach


def fade_window(width: int, height: int, share: float) -> AnyImage:
    """[H, W] weights: 0 at the border, 1 from ``share`` of the size inwards."""

    def rise(length: int) -> AnyImage:
        return _fade(np.minimum(np.arange(length), np.arange(length)[::-1]) / (share * length))

    return np.outer(rise(height), rise(width))


def _fade(position: AnyImage) -> AnyImage:
    """Raised cosine: 0 up to position 0, 1 from position 1."""
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(position, 0.0, 1.0))).astype(np.float32)


def _expand(coarse: AnyImage, fine: AnyImage) -> AnyImage:
    return cv2.pyrUp(coarse, dstsize=(fine.shape[1], fine.shape[0]))

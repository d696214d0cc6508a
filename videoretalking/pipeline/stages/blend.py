"""Multi-band blending with Laplacian pyramids (paper, section 3.4; Burt and Adelson 1983).

``docs/deviations.md`` says where and why it differs from the published program, which
:mod:`scripts.parity.published.blend` repeats to the last rounding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from videoretalking.core.arrays import AnyImage
from videoretalking.pipeline.raster import Pixels, Raster, Size

SPREAD = 0.08  # share of the region's size over which the edit may run out beyond the mask
_MASK_FLOOR = 1.0 / 255.0
_COVERED = 0.999
_MIN_BASE = 12  # pixels of the shorter side below which a level would mix unrelated parts of the face


def num_bands(height: int, width: int, limit: int = 6) -> int:
    """Bands that an image of this size can be split into, at most ``limit``."""
    return max(0, min(limit, int(math.log2(max(1, min(height, width) / _MIN_BASE)))))


class Pyramids:
    """Gaussian and Laplacian pyramids of a batch of images.

    Args:
        sizes: (width, height) of each image.
        bands: reduced levels, each half the size of the one before (rounded up).
        raster: of the images.
    """

    def __init__(self, sizes: Sequence[Size], bands: int, raster: Raster) -> None:
        self.raster = raster
        self.sizes = [list(sizes)]
        for _ in range(bands):
            self.sizes.append([((width + 1) // 2, (height + 1) // 2) for width, height in self.sizes[-1]])

    def gaussian(self, images: Pixels) -> list[Pixels]:
        """The images and their reduced levels."""
        levels = [images]
        for sizes in self.sizes[:-1]:
            levels.append(self.raster.reduce(levels[-1], sizes))
        return levels

    def laplacian(self, images: Pixels) -> list[Pixels]:
        """Band-pass levels and the low-pass base; :meth:`collapse` restores the images."""
        levels = self.gaussian(images)
        differences = (
            fine - self.raster.expand(coarse, fine.shape[1:3], sizes)
            for (fine, coarse), sizes in zip(itertools.pairwise(levels), self.sizes[:-1], strict=True)
        )
        return [*differences, levels[-1]]

    def collapse(self, pyramid: list[Pixels]) -> Pixels:
        """Images of a Laplacian pyramid."""
        images = pyramid[-1]
        for band, sizes in zip(pyramid[-2::-1], self.sizes[-2::-1], strict=True):
            images = self.raster.expand(images, band.shape[1:3], sizes) + band
        return images


def blend(inside: Pixels, outside: Pixels, masks: Pixels, pyramids: Pyramids) -> Pixels:
    """Mix images band by band, so that coarse colors meet softly and fine detail meets sharply.

    Unlike the published program, the levels are not rounded to 8 bit, every band counts, and images keep
    their size.

    Args:
        inside: [N, H, W, 3] images wanted where the mask is 1, any range.
        outside: [N, H, W, 3] images wanted where the mask is 0, same range.
        masks: [N, H, W] weights in [0, 1].
        pyramids: of these images.

    Returns:
        [N, H, W, 3] float32, not clipped.
    """
    mixed = [
        low + weight[..., None] * (high - low)
        for high, low, weight in zip(
            pyramids.laplacian(inside), pyramids.laplacian(outside), pyramids.gaussian(masks), strict=True
        )
    ]
    return pyramids.collapse(mixed)


def blend_into(
    regions: Pixels,
    patches: Pixels,
    masks: Pixels,
    coverage: Pixels,
    sizes: Sequence[Size],
    raster: Raster,
) -> tuple[Pixels, Pixels]:
    """Blend patches into regions of frames; every pixel away from the mask keeps its bytes.

    Coarse bands carry the patch's color far beyond the mask. That spread hides the seam, but it must not
    tint the background: it fades to nothing within a short distance of the mask and where the patch ends.

    Args:
        regions: [N, H, W, 3] uint8 RGB, cut out of frames.
        patches: [N, H, W, 3] float32 RGB in [0, 1], the new content.
        masks: [N, H, W] float32 weights in [0, 1].
        coverage: [N, H, W] float32, 1 where the patch has content, less where it ends; not at frame borders.
        sizes: (width, height) of each region, which may be filled up to that of the largest.
        raster: of the images.

    Returns:
        [N, H, W, 3] uint8, and [N, H, W] the weights of the edit; pixels at 0 kept their bytes.
    """
    outside = raster.to_floats(regions)
    masks, coverage = raster.filled(masks, sizes, 0.0), raster.filled(coverage, sizes, 1.0)
    reach = reach_window(masks, coverage, sizes, raster)
    pyramids = Pyramids(sizes, max(num_bands(height, width) for width, height in sizes), raster)
    mixed = blend(patches, outside, masks * (coverage > _COVERED), pyramids)
    return raster.to_bytes(outside + reach[..., None] * (mixed - outside)), reach


def reach_window(masks: Pixels, coverage: Pixels, sizes: Sequence[Size], raster: Raster) -> Pixels:
    """[N, H, W] weights that allow an edit: 1 on the mask, 0 from ``SPREAD`` of the edit's size outside it.

    They are also 0 where the patch ends, and rise to 1 over the same distance inwards.
    """
    distances = [max(1.0, SPREAD * max(size)) for size in sizes]
    limit, distance = max(distances), raster.constant(np.array(distances, dtype=np.float32))[:, None, None]
    reach = _fade(1.0 - raster.distance(masks < _MASK_FLOOR, limit) / distance, raster)
    inside_patch = raster.distance(coverage > _COVERED, limit + 1.0)
    return reach * _fade((inside_patch - 1.0) / distance, raster)


def fade_window(width: int, height: int, share: float) -> AnyImage:
    """[H, W] weights: 0 at the border, 1 from ``share`` of the size inwards."""

    def rise(length: int) -> AnyImage:
        position = np.minimum(np.arange(length), np.arange(length)[::-1]) / (share * length)
        return (0.5 - 0.5 * np.cos(np.pi * np.clip(position, 0.0, 1.0))).astype(np.float32)

    return np.outer(rise(height), rise(width))


def _fade(positions: Pixels, raster: Raster) -> Pixels:
    """Raised cosine: 0 up to position 0, 1 from position 1."""
    return 0.5 - 0.5 * raster.cos(np.pi * positions.clip(0.0, 1.0))

"""Multi-band blending and paste-back exactly as the published program does them."""

from __future__ import annotations

import itertools

import cv2
import numpy as np

from videoretalking.core.arrays import AnyImage, Image8

_SIZE = 512  # the published program squeezes every frame through this square


def blend(inside: AnyImage, outside: AnyImage, mask: AnyImage, levels: int) -> AnyImage:
    """Blend two square byte images as the published program does.

    Every reduced level is rounded to 8 bit, and ``levels`` gives only ``levels - 1`` bands above the base.

    Args:
        inside: [S, S, 3] uint8, wanted where the mask is 1; S a power of two.
        outside: [S, S, 3] uint8.
        mask: [S, S] float32 in [0, 1].
        levels: levels of the pyramid, base included.

    Returns:
        [S, S, 3] float32 in byte units; neither rounded nor clipped, and it overshoots.
    """
    bands = levels - 1
    weights = _pyramid(mask, bands)
    high, low = (_bands_of_bytes(image, bands) for image in (inside, outside))
    mixed = [
        weight[..., None] * a + (1.0 - weight[..., None]) * b
        for weight, a, b in zip(weights, high, low, strict=True)
    ]
    image = mixed[-1]
    for band in reversed(mixed[:-1]):
        image = cv2.pyrUp(image, dstsize=band.shape[1::-1]) + band
    return image


def paste(inside: AnyImage, outside: AnyImage, mask: AnyImage, levels: int) -> AnyImage:
    """The published paste-back: the whole frame squeezed to 512x512, blended, stretched back, truncated.

    Args:
        inside: [H, W, 3] uint8 frame with the new face.
        outside: [H, W, 3] uint8 original frame.
        mask: [H, W] weights, 1 on the face.
        levels: levels of the pyramid: 10 for the mouth step, 6 for the face step.

    Returns:
        [H, W, 3] uint8; pixels with mask 0 change too.
    """
    size = (_SIZE, _SIZE)
    squeezed = [cv2.resize(image, size) for image in (inside, outside)]
    weights = cv2.resize(mask.astype(np.float32), size)
    mixed = np.clip(blend(squeezed[0], squeezed[1], weights, levels), 0.0, 255.0)
    return cv2.resize(mixed, (outside.shape[1], outside.shape[0])).astype(np.uint8)


def _bands_of_bytes(image: Image8, bands: int) -> list[AnyImage]:
    levels = [level.astype(np.float32) for level in _pyramid(image, bands)]
    expanded = [cv2.pyrUp(coarse, dstsize=fine.shape[1::-1]) for fine, coarse in itertools.pairwise(levels)]
    return [*(fine - coarse for fine, coarse in zip(levels, expanded, strict=False)), levels[-1]]


def _pyramid(image: AnyImage, bands: int) -> list[AnyImage]:
    levels = [image]
    for _ in range(bands):
        levels.append(cv2.pyrDown(levels[-1]))
    return levels

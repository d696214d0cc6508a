"""Degradation of E-Net's inputs: differentiable JPEG and bilinear down-sampling (paper, section C.3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from videoretalking.core.colors import BT601_LUMA

_BLOCK = 8
_BLUR_RADIUS = 5  # pixels; enough for a standard deviation of 2
_LEAST_SIGMA = 1e-3
_LUMA_TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA_TABLE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8 for _ in range(4)),
)
# ITU-T T.871: full-range YCbCr
_RGB_TO_YCBCR = (
    BT601_LUMA,
    (-0.168736, -0.331264, 0.5),
    (0.5, -0.418688, -0.081312),
)
_YCBCR_TO_RGB = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def degrade(image: torch.Tensor, quality: torch.Tensor, size: int, antialias: bool) -> torch.Tensor:
    """Compress at full size, then reduce: what E-Net's low-resolution input has gone through.

    Args:
        image: [B, 3, H, W] in [0, 1].
        quality: [B] JPEG quality in [1, 100]; 0 leaves a sample uncompressed.
        size: side of the result in pixels.
        antialias: reduce as L-Net was trained, by the mean of the pixels that each new one covers, or bilinearly.

    Returns:
        [B, 3, size, size] in [0, 1].
    """
    with torch.autocast(
        image.device.type, enabled=False
    ):  # matrix products in bfloat16 would spoil whole levels
        compressed = torch.where((quality > 0)[:, None, None, None], jpeg(image, quality), image)
    if antialias:
        return F.interpolate(compressed, size=size, mode="area").clamp(0.0, 1.0)
    return _resize(compressed, (size, size)).clamp(0.0, 1.0)


def blur(image: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Gaussian blur, each image with its own width.

    Args:
        image: [B, C, H, W].
        sigma: [B] standard deviations in pixels, at most 2; 0 leaves an image as it is.

    Returns:
        [B, C, H, W].
    """
    offsets = torch.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1, device=image.device, dtype=torch.float32)
    weights = torch.exp(-0.5 * (offsets / sigma.float().clamp(min=_LEAST_SIGMA)[:, None]).square())
    weights = weights / weights.sum(dim=1, keepdim=True)
    batch, channels = image.shape[:2]
    kernel = weights.repeat_interleave(channels, dim=0)[:, None, :, None]  # [B * C, 1, taps, 1]
    flat = F.pad(image.float().flatten(0, 1)[None], [_BLUR_RADIUS] * 4, mode="replicate")
    with torch.autocast(image.device.type, enabled=False):
        flat = F.conv2d(flat, kernel, groups=batch * channels)
        flat = F.conv2d(flat, kernel.transpose(2, 3), groups=batch * channels)
    return flat[0].unflatten(0, (batch, channels))


def recolor(image: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] in [0, 1] under one [3, 4] matrix an image: the same shape, in [0, 1]."""
    with torch.autocast(image.device.type, enabled=False):
        mixed = torch.einsum("bij,bjhw->bihw", matrix[:, :, :3].float(), image.float())
    return (mixed + matrix[:, :, 3, None, None]).clamp(0.0, 1.0)


def jpeg(image: torch.Tensor, quality: torch.Tensor, subsampled: bool = True) -> torch.Tensor:
    """JPEG as a differentiable function: the standard's example tables, the usual quality scale.

    Rounding keeps its value in the forward pass and acts as the identity in the backward pass.

    Args:
        image: [B, 3, H, W] in [0, 1].
        quality: [B] in [1, 100].
        subsampled: halve the planes of color (4:2:0), as nearly all files do.

    Returns:
        [B, 3, H, W] in [0, 1].
    """
    height, width = image.shape[-2:]
    pad = (0, -width % (2 * _BLOCK), 0, -height % (2 * _BLOCK))
    levels = F.pad(image.float(), pad, mode="replicate") * 255.0
    planes = torch.einsum("ij,bjhw->bihw", levels.new_tensor(_RGB_TO_YCBCR), levels)
    factor = _quality_factor(quality.float())
    luma = _quantize(planes[:, :1] - 128.0, levels.new_tensor(_LUMA_TABLE), factor) + 128.0
    chroma = F.avg_pool2d(planes[:, 1:], 2) if subsampled else planes[:, 1:]
    chroma = _quantize(chroma, levels.new_tensor(_CHROMA_TABLE), factor)
    chroma = _resize(chroma, (luma.shape[-2], luma.shape[-1])) if subsampled else chroma
    planes = torch.cat([luma, chroma], dim=1)
    result = torch.einsum("ij,bjhw->bihw", levels.new_tensor(_YCBCR_TO_RGB), planes)
    return (result[..., :height, :width] / 255.0).clamp(0.0, 1.0)


def _resize(image: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(image, size=size, mode="bilinear", align_corners=False)


def _quality_factor(quality: torch.Tensor) -> torch.Tensor:
    """Percent by which the tables are scaled (the scale of libjpeg): [B] -> [B]."""
    quality = quality.clamp(1.0, 100.0)
    return torch.where(quality < 50.0, 5000.0 / quality, 200.0 - 2.0 * quality)


def _quantize(plane: torch.Tensor, table: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Cosine transform of 8x8 blocks, division by the table, rounding, and back: [B, C, H, W]."""
    steps = ((table * factor[:, None, None] + 50.0) / 100.0).floor().clamp(1.0, 255.0)  # [B, 8, 8]
    steps = steps[:, None, None, None]
    basis = _dct_basis(plane.device)
    blocks = plane.unfold(2, _BLOCK, _BLOCK).unfold(3, _BLOCK, _BLOCK)  # [B, C, H/8, W/8, 8, 8]
    frequencies = basis @ blocks @ basis.t() / steps
    rounded = frequencies + (frequencies.round() - frequencies).detach()
    blocks = basis.t() @ (rounded * steps) @ basis
    return blocks.transpose(3, 4).reshape(plane.shape)


def _dct_basis(device: torch.device) -> torch.Tensor:
    """[8, 8] orthonormal DCT-II, frequency by position."""
    position = torch.arange(_BLOCK, device=device, dtype=torch.float32)
    basis = torch.cos(math.pi / _BLOCK * (position + 0.5) * position[:, None]) * math.sqrt(2.0 / _BLOCK)
    basis[0] *= math.sqrt(0.5)
    return basis

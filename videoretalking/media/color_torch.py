"""RGB to the planes of an encoder on frames that are tensors, without leaving their device.

The same as :func:`~videoretalking.media.color.rgb_to_planes`, but for OpenCV's rounding: a byte may differ by one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videoretalking.media.color import HALF_BAND, Chroma, ColorTags, rgb_to_yuv_matrix


def tensor_to_planes(frames: Tensor, tags: ColorTags, chroma: Chroma) -> Tensor:
    """RGB -> planar YUV, in as many operations for a batch as for one frame.

    Args:
        frames: [N, height, width, 3] uint8; both even unless ``chroma`` is ``full``.
        tags: matrix and range to use.
        chroma: as for :func:`~videoretalking.media.color.rgb_to_planes`.

    Returns:
        uint8, [N, height * 3 / 2, width] or [N, 3, height, width].
    """
    # numbers and not tensors of them: making one on a GPU would wait for it
    luma, *differences = rgb_to_yuv_matrix(tags).tolist()
    colors = frames.permute(3, 0, 1, 2).float()
    bright = _mix(colors, luma)
    if chroma == "full":
        return _to_bytes(torch.stack([bright, *(_mix(colors, weights) for weights in differences)], dim=1))
    rows = 0.5 * (colors[:, :, 0::2] + colors[:, :, 1::2])
    full = torch.stack([_mix(rows, weights) for weights in differences], dim=1)
    half = _halve(full) if chroma == "left" else 0.5 * (full[..., 0::2] + full[..., 1::2])
    planes = torch.cat([bright.flatten(1), half.flatten(1)], dim=1)
    return _to_bytes(planes).unflatten(1, (-1, frames.shape[2]))


def _mix(colors: Tensor, weights: list[float]) -> Tensor:
    red, green, blue, constant = weights
    return colors[0] * red + colors[1] * green + colors[2] * blue + constant


def _halve(planes: Tensor) -> Tensor:
    """Every other column of [N, 2, height, width], low-pass filtered; the border is mirrored."""
    reach, width = HALF_BAND.shape[1] // 2, planes.shape[-1]
    mode = "reflect" if width > reach else "replicate"
    padded = F.pad(planes.flatten(0, 1), (reach, reach), mode=mode).unflatten(0, planes.shape[:2])
    taps = [
        weight * padded[..., tap : tap + width : 2]
        for tap, weight in enumerate(HALF_BAND[0].tolist())
        if weight
    ]
    return torch.stack(taps).sum(dim=0)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0.0, 255.0).to(torch.uint8)

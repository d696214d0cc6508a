"""RGB to the planes of an encoder on frames that are tensors, without leaving their device.

The same as :func:`~videoretalking.media.color.rgb_to_planes`, but for OpenCV's rounding: a byte may differ by one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from videoretalking.media.color import HALF_BAND, Chroma, ColorTags, rgb_to_yuv_matrix


def tensor_to_planes(frame: Tensor, tags: ColorTags, chroma: Chroma) -> Tensor:
    """RGB -> planar YUV.

    Args:
        frame: [height, width, 3] uint8; both even unless ``chroma`` is ``full``.
        tags: matrix and range to use.
        chroma: as for :func:`~videoretalking.media.color.rgb_to_planes`.

    Returns:
        uint8, [height * 3 / 2, width] or [3, height, width].
    """
    # numbers and not tensors of them: making one on a GPU would wait for it
    luma, *differences = rgb_to_yuv_matrix(tags).tolist()
    colors = frame.permute(2, 0, 1).float()
    bright = _mix(colors, luma)
    if chroma == "full":
        return _to_bytes(torch.stack([bright, *(_mix(colors, weights) for weights in differences)]))
    rows = 0.5 * (colors[:, 0::2] + colors[:, 1::2])
    full = torch.stack([_mix(rows, weights) for weights in differences])
    half = _halve(full) if chroma == "left" else 0.5 * (full[..., 0::2] + full[..., 1::2])
    planes = torch.cat([bright.flatten(), half.flatten()])
    return _to_bytes(planes).reshape(frame.shape[0] * 3 // 2, frame.shape[1])


def _mix(colors: Tensor, weights: list[float]) -> Tensor:
    red, green, blue, constant = weights
    return colors[0] * red + colors[1] * green + colors[2] * blue + constant


def _halve(planes: Tensor) -> Tensor:
    """Every other column of [2, height, width], low-pass filtered; the border is mirrored."""
    reach, width = HALF_BAND.shape[1] // 2, planes.shape[-1]
    padded = F.pad(planes, (reach, reach), mode="reflect" if width > reach else "replicate")
    taps = [
        weight * padded[..., tap : tap + width : 2]
        for tap, weight in enumerate(HALF_BAND[0].tolist())
        if weight
    ]
    return torch.stack(taps).sum(dim=0)


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0.0, 255.0).to(torch.uint8)

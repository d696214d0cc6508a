"""The regressor's crops on its device: the very bytes of :func:`faces.align.recon_crop`, as matrix products.

On a CPU a crop of a face as high as 1080p takes 19 milliseconds, half of them to bring the frame into RGB.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from videoretalking.core.constants import RECON_SIZE
from videoretalking.core.devices import to_device
from videoretalking.faces.align import FIXED_POINT_BITS, ReconAlignment, recon_taps

_PIXELS_TOGETHER = 4 << 20  # of the faces' parts of frames, each of which takes 24 bytes


def recon_crops(frames: Sequence[torch.Tensor], alignments: Sequence[ReconAlignment]) -> torch.Tensor:
    """The 224 x 224 inputs of the 3DMM regressor.

    Pillow computes in integers below 2^31; float64 holds all of them, so products in any order give the same.

    Args:
        frames: N times [H, W, 3] uint8 RGB on one device.
        alignments: of the faces in them.

    Returns:
        [N, 224, 224, 3] uint8 on the device; black outside of the frames.
    """
    device = frames[0].device
    (left, columns), (top, rows) = (_filters(alignments, axis, device) for axis in (0, 1))
    width, height = columns.shape[2], rows.shape[2]
    step = max(1, _PIXELS_TOGETHER // (width * height))
    crops = []
    for first in range(0, len(frames), step):
        group = slice(first, first + step)
        parts = []
        for frame, x, y in zip(frames[group], left[group], top[group], strict=True):
            part = frame[y : y + height, x : x + width]
            missing = (0, 0, 0, width - part.shape[1], 0, height - part.shape[0])
            parts.append(F.pad(part, missing) if any(missing) else part)
        image = torch.stack(parts).permute(0, 3, 1, 2).double()
        across = _rounded(image @ columns[group, None].mT)
        crops.append(_rounded(rows[group, None] @ across).permute(0, 2, 3, 1).to(torch.uint8))
    return torch.cat(crops)


def _filters(
    alignments: Sequence[ReconAlignment], axis: int, device: torch.device
) -> tuple[list[int], torch.Tensor]:
    """Where the part of each frame begins along an axis, and [N, 224, L] weights of the L pixels from there on."""
    found = [recon_taps(alignment, axis) for alignment in alignments]
    most = max(taps.shape[1] for _, taps, _ in found)
    places = np.zeros((len(found), RECON_SIZE, most), dtype=np.int64)
    weights = np.zeros(places.shape)
    starts, length = [], 1
    for number, (first, taps, own) in enumerate(found):
        start = int(taps.min()) if taps.size else 0
        span = np.s_[number, first : first + len(taps), : taps.shape[1]]
        places[span], weights[span] = taps - start, own
        starts.append(start)
        length = max(length, int(places[number].max()) + 1)
    filters = torch.zeros(len(found), RECON_SIZE, length, dtype=torch.float64, device=device)
    indices, values = (to_device(torch.from_numpy(numbers), device) for numbers in (places, weights))
    return starts, filters.scatter_add_(2, indices, values)


def _rounded(sums: torch.Tensor) -> torch.Tensor:
    """Fixed-point sums to the nearest level."""
    half, unit = 1 << (FIXED_POINT_BITS - 1), 1 << FIXED_POINT_BITS
    return ((sums + half) / unit).floor().clamp(0.0, 255.0)

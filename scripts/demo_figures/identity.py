"""Whether E-Net looks at the person: what another person's picture as reference changes, and whether it harms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.quality import psnr
from videoretalking.datasets.collection import to_image
from videoretalking.datasets.crops import cut, cut_low, face_crop
from videoretalking.models.enet import ENet
from videoretalking.scripts.demo_figures.clips import HeldOutClip, mean

_FRAMES = 3  # of each clip


def measure_identity(clips: Sequence[HeldOutClip], enet: ENet, antialias: bool = True) -> dict[str, Any]:
    """Frames of each clip, reduced and enlarged by E-Net under a picture of the person and under one of another.

    Args:
        clips: of two people or more.
        enet: E-Net.
        antialias: how faces are reduced.

    Returns:
        ``reference_levels``: mean absolute difference that the other picture makes, in levels of 255;
        ``own_nearer``: share of the frames that are nearer to the truth, in decibels, under the own picture. None
        where nobody else is there.
    """
    changes, nearer = [], []
    for place, item in enumerate(tqdm(clips, desc="identity")):
        others = [other for other in [*clips[place + 1 :], *clips[:place]] if other.identity != item.identity]
        if not others:
            continue
        count = len(item.clip)
        frames = sorted({round(number * (count - 1) / _FRAMES) for number in range(_FRAMES)})
        own = _picture(item, count - 1)
        other = _picture(others[0], len(others[0].clip) // 2)
        for frame in frames:
            low = to_image(cut_low(item.clip, frame, face_crop(item.clip, frame), antialias))
            truth = _picture(item, frame)
            with_own, with_other = (
                enet(torch.from_numpy(low)[None], reference).clamp(0.0, 1.0) for reference in (own, other)
            )
            changes.append(255.0 * float((with_own - with_other).abs().mean()))
            nearer.append(float(psnr(with_own, truth) > psnr(with_other, truth)))
    return {"reference_levels": mean(changes), "own_nearer": mean(nearer)}


def _picture(item: HeldOutClip, frame: int) -> torch.Tensor:
    """[1, 3, 384, 384] in [0, 1]: the face in a frame."""
    view = face_crop(item.clip, frame, ENET_SIZE)
    return torch.from_numpy(np.ascontiguousarray(to_image(cut(item.clip, frame, view))))[None]

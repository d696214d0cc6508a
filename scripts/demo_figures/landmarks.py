"""Error of the landmark network against the labels of the preparation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.collection import to_image
from videoretalking.datasets.crops import cut
from videoretalking.faces.align import landmark_crop
from videoretalking.losses.landmarks import normalized_mean_error
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.scripts.demo_figures.clips import HeldOutClip, mean

_STRIDE = 2  # every how many frames landmarks are measured


def measure_landmarks(clips: Sequence[HeldOutClip], network: LandmarkNet) -> dict[str, Any]:
    """Normalized mean error in parts of the distance of the outer eye corners; means over clips."""
    labeled = {item.name: landmark_error(item.clip, network) for item in tqdm(clips, desc="landmarks")}
    tracked = {
        item.name: tracked_landmark_error(item.clip, network)
        for item in tqdm(clips, desc="landmarks, tracked")
        if len(item.clip) > 1
    }
    videos = [labeled[name] for name in tracked]
    stills = [value for name, value in labeled.items() if name not in tracked]
    return {
        "nme": mean([*videos, *stills]),
        "nme_videos": mean(videos),
        "nme_stills": mean(stills),
        "nme_tracked": mean(list(tracked.values())),
        "nme_of_clips": labeled,
        "nme_tracked_of_clips": tracked,
    }


def landmark_error(clip: PreparedClip, network: LandmarkNet) -> float:
    """Mean over every second frame; the crop is made from the label, as usual for this figure."""
    found, wanted = [], []
    for index in range(0, len(clip), _STRIDE):
        found.append(_find_landmarks(clip, index, clip.landmarks[index], network))
        wanted.append(clip.landmarks[index])
    return _landmark_error(found, wanted)


def tracked_landmark_error(clip: PreparedClip, network: LandmarkNet) -> float:
    """Mean over all frames but the first; each crop is made from what was found in the frame before."""
    points: npt.ArrayLike = clip.landmarks[0]
    found = []
    for index in range(len(clip)):
        points = _find_landmarks(clip, index, points, network)
        found.append(points)
    return _landmark_error(found[1:], list(clip.landmarks[1:]))


def _find_landmarks(clip: PreparedClip, index: int, around: npt.ArrayLike, network: LandmarkNet) -> Floats32:
    crop = landmark_crop(around)
    points = network(torch.from_numpy(to_image(cut(clip, index, crop)))[None]).points
    return crop.to_image(points[0].numpy()).astype(np.float32)


def _landmark_error(found: Sequence[Floats32], wanted: Sequence[Floats32]) -> float:
    errors = normalized_mean_error(torch.from_numpy(np.stack(found)), torch.from_numpy(np.stack(wanted)))
    return float(errors.mean())

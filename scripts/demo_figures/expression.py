"""What D-Net does to the expression: does the neutral template still a talking mouth, does a smile show?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats32
from videoretalking.core.coefficients import driving_window
from videoretalking.core.constants import DNET_SIZE
from videoretalking.core.landmarks import MOUTH_CORNERS
from videoretalking.datasets.collection import to_image
from videoretalking.datasets.crops import cut
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.faces.align import box_crop
from videoretalking.models.dnet import DNet
from videoretalking.models.landmarks import LandmarkNet
from videoretalking.scripts.demo_figures.clips import HeldOutClip, mean, to_frame
from videoretalking.scripts.demo_figures.find import find_landmarks
from videoretalking.scripts.demo_figures.hearing import correlation
from videoretalking.scripts.demo_figures.pictures import eye_span

_BATCH = 8


def measure_expression(
    clips: Sequence[HeldOutClip],
    dnet: DNet,
    templates: Mapping[str, Floats32],
    landmarks: LandmarkNet,
    num_frames: int,
) -> dict[str, Any]:
    """Figures of D-Net on the first frames of some clips.

    Args:
        clips: with 3DMM rows.
        dnet: D-Net.
        templates: expressions ``neutral`` and ``smile``, [64] each.
        landmarks: sees frames and results alike.
        num_frames: most frames of a clip.

    Returns:
        Means over the clips: ``neutral_opening_r``, the correlation of the opening under the neutral template with
        the source's own (0 is ideal); ``neutral_opening_spread``, its standard deviation over the source's; and
        ``smile_corners``, how far smile moves the corners of the mouth from where neutral has them, in distances
        of the outer eye corners. Each clip's beside them.
    """
    by_clip = {
        item.name: expression_figures(*_openings(item, dnet, templates, landmarks, num_frames))
        for item in tqdm(clips, desc="expression")
    }
    names = ("neutral_opening_r", "neutral_opening_spread", "smile_corners")
    means = {
        name: mean([value for figures in by_clip.values() if (value := figures[name]) is not None])
        for name in names
    }
    return {**means, "expression_of_clips": by_clip}


def expression_figures(source: Floats32, neutral: Floats32, smile: Floats32) -> dict[str, float | None]:
    """The figures of one clip from landmarks [N, 68, 2] of its frames and of D-Net's images of them."""
    opening, still = inner_lip_gap(source), inner_lip_gap(neutral)
    moved = np.linalg.norm(smile[:, MOUTH_CORNERS] - neutral[:, MOUTH_CORNERS], axis=2).mean(axis=1)
    units = np.array([eye_span(points) for points in source])
    return {
        "neutral_opening_r": correlation(opening, still),
        "neutral_opening_spread": float(still.std() / max(float(opening.std()), 1e-6)),
        "smile_corners": float((moved / units).mean()),
    }


def _openings(
    item: HeldOutClip,
    dnet: DNet,
    templates: Mapping[str, Floats32],
    landmarks: LandmarkNet,
    num_frames: int,
) -> tuple[Floats32, Floats32, Floats32]:
    clip = item.clip
    frames = range(min(num_frames, len(clip)))
    view = box_crop(clip.meta.dnet_window, (DNET_SIZE, DNET_SIZE))
    around = [view.to_crop(clip.landmarks[frame]).astype(np.float32) for frame in frames]
    shown = np.stack([to_image(cut(clip, frame, view)) for frame in frames])
    found = [find_landmarks([to_frame(image) for image in shown], around, landmarks)]
    for name in ("neutral", "smile"):
        windows = np.stack(
            [
                driving_window(
                    clip.rows,
                    frame,
                    templates[name],
                    length=dnet.config.window,
                    overshoot=dnet.config.overshoot,
                )
                for frame in frames
            ]
        )
        images = [
            dnet(
                torch.from_numpy(shown[first : first + _BATCH]),
                torch.from_numpy(windows[first : first + _BATCH]),
            ).image.clamp(0.0, 1.0)
            for first in range(0, len(frames), _BATCH)
        ]
        rendered = [to_frame(image) for image in torch.cat(images).numpy()]
        found.append(find_landmarks(rendered, around, landmarks))
    source, neutral, smile = found
    return source, neutral, smile

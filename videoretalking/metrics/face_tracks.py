"""Face tracks of the published lip-sync evaluation: linking, smoothing and the 224-pixel crops.

The tracker is deliberately the published one (SyncNet's pipeline, used by the Wav2Lip evaluation), not the
tracker of the main job: the scores depend on its crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats64
from videoretalking.core.config import require_range
from videoretalking.faces.boxes import iou
from videoretalking.metrics.offset import median_filter

CROP_SIZE = 224  # pixels
BORDER_GRAY = 110  # 8-bit level beyond the frame's edge


@dataclass(frozen=True)
class TrackingConfig:
    """Settings of the published tracker.

    Attributes:
        min_iou: overlap with the track's last box that continues a track (exclusive).
        max_gap: frames without a detection that a track survives.
        min_detections: a track needs more detections than this; shorter clips are not scored at all.
        min_face: mean width or height in pixels that a track must exceed.
        crop_scale: how far the crop reaches beyond the face.
        smoothing: length of the median filter over center and size, in frames.
    """

    min_iou: float = 0.5
    max_gap: int = 25
    min_detections: int = 100
    min_face: float = 100.0
    crop_scale: float = 0.4
    smoothing: int = 13

    def __post_init__(self) -> None:
        """Refuse numbers with which no track can be made."""
        require_range(self, "min_iou", least=0.0, below=1.0)
        require_range(self, "max_gap", "min_detections", "min_face", "crop_scale", least=0)
        require_range(self, "smoothing", least=1)
        if self.smoothing % 2 == 0:
            raise ValueError(f"smoothing of TrackingConfig must be odd, is {self.smoothing}")


@dataclass(frozen=True)
class SyncTrack:
    """One face followed through consecutive frames of one shot.

    Attributes:
        start: index of its first frame.
        boxes: [N, 4] float64 x1, y1, x2, y2 in pixels, gaps interpolated.
        half_size: [N] float64 half of the longer side, smoothed.
        centers: [N, 2] float64 x, y, smoothed.
    """

    start: int
    boxes: Floats64
    half_size: Floats64
    centers: Floats64

    def __len__(self) -> int:
        return len(self.boxes)


def link_faces(detections: Sequence[npt.ArrayLike], config: TrackingConfig | None = None) -> list[SyncTrack]:
    """Link the detections of one shot into tracks.

    Args:
        detections: for each frame the boxes [K, 4] found in it (already above the confidence limit).
        config: settings of the tracker.

    Returns:
        The tracks that are long and large enough, in the order in which they were found.
    """
    config = config or TrackingConfig()
    waiting = [list(np.asarray(boxes, dtype=np.float64).reshape(-1, 4)) for boxes in detections]
    tracks = []
    while any(waiting):
        frames, boxes = _take_track(waiting, config)
        if len(frames) <= config.min_detections:
            continue
        filled = _fill_gaps(frames, boxes)
        if (filled[:, 2:] - filled[:, :2]).mean(axis=0).max() > config.min_face:
            tracks.append(_smooth(frames[0], filled, config.smoothing))
    return tracks


def _take_track(waiting: list[list[Floats64]], config: TrackingConfig) -> tuple[list[int], list[Floats64]]:
    """Remove from ``waiting`` the detections that follow the earliest one; returns frames and boxes."""
    frames: list[int] = []
    boxes: list[Floats64] = []
    for frame, candidates in enumerate(waiting):
        if frames and frame - frames[-1] > config.max_gap:
            break
        for index, box in enumerate(candidates):
            if not frames or iou(box, boxes[-1]) > config.min_iou:
                frames.append(frame)
                boxes.append(candidates.pop(index))
                break
    return frames, boxes


def _fill_gaps(frames: list[int], boxes: list[Floats64]) -> Floats64:
    every = np.arange(frames[0], frames[-1] + 1)
    columns = np.stack(boxes).T
    return np.stack([np.interp(every, frames, column) for column in columns], axis=1)


def _smooth(start: int, boxes: Floats64, length: int) -> SyncTrack:
    sizes: Floats64 = boxes[:, 2:] - boxes[:, :2]
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    return SyncTrack(
        start=start,
        boxes=boxes,
        half_size=median_filter(sizes.max(axis=1) / 2, length),
        centers=np.stack([median_filter(column, length) for column in centers.T], axis=1),
    )


def crop_face(
    frame: npt.NDArray[np.uint8], center: npt.ArrayLike, half_size: float, crop_scale: float = 0.4
) -> npt.NDArray[np.uint8]:
    """Cut the scoring crop of one frame: wider than the face and reaching further down than up.

    Args:
        frame: [H, W, 3] uint8.
        center: x, y of the face in pixels.
        half_size: half of the face's longer side in pixels.
        crop_scale: how far the crop reaches beyond the face.

    Returns:
        [224, 224, 3] uint8.
    """
    x, y = np.asarray(center, dtype=np.float64)
    border = int(half_size * (1 + 2 * crop_scale))
    gray = (BORDER_GRAY,) * 3
    padded = cv2.copyMakeBorder(frame, border, border, border, border, cv2.BORDER_CONSTANT, value=gray)
    top, bottom = y + border - half_size, y + border + half_size * (1 + 2 * crop_scale)
    left, right = (x + border + side * half_size * (1 + crop_scale) for side in (-1, 1))
    crop = padded[max(0, int(top)) : int(bottom), max(0, int(left)) : int(right)]
    return cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_LINEAR).astype(
        np.uint8, copy=False
    )

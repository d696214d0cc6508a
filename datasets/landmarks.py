"""Samples of the bundled landmark network: jittered face crops, and crops without a face."""

from __future__ import annotations

from typing import Any

import numpy as np

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.landmarks import MIRRORED
from videoretalking.datasets.augment import ImageAugment
from videoretalking.datasets.base import ClipDataset, SampleSource
from videoretalking.datasets.collection import to_image
from videoretalking.datasets.crops import Jitter, cut, mirror
from videoretalking.faces.align import box_crop, box_landmark_crop, landmark_crop, landmarks_box
from videoretalking.faces.types import Crop

_MAX_OVERLAP = 0.15  # of a crop without a face with the face's box, in parts of the crop
_NEGATIVE_TRIES = 16


class LandmarkCrops(ClipDataset):
    """Crops of one random frame of each clip.

    ``crop_jitter`` and ``rotation`` of the augmentation imitate a tracker that lags behind.

    Args:
        source: where samples come from; the clips' ``landmarks`` are the labels.
        negatives: share of crops without a face.
        size: side of the crops in pixels.
    """

    def __init__(self, source: SampleSource, negatives: float = 0.0, size: int = LANDMARK_SIZE) -> None:
        super().__init__(source, ("frames_index", "landmarks"), min_frames=1)
        self.negatives = negatives
        self.size = size

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The crop of one clip.

        Returns:
            ``image`` float32 [3, S, S] in [0, 1]; ``points`` float32 [68, 2] in pixels of the crop (zeros
            without a face); ``is_face`` float32 scalar.
        """
        clip = self.clips.clip(index)
        frame = int(rng.integers(len(clip)))
        landmarks = clip.landmarks[frame]
        jitter = Jitter.draw(rng, self.augment.crop_jitter, np.deg2rad(self.augment.rotation))
        changes = ImageAugment.draw(self.augment, rng)
        level = bool(rng.uniform() < 0.5)  # tracking hands over levelled crops, detection upright ones
        is_face = bool(rng.uniform() >= self.negatives)
        if is_face:
            view = (
                landmark_crop(landmarks, self.size)
                if level
                else box_landmark_crop(landmarks_box(landmarks), self.size)
            )
            crop = jitter.apply(view)
        else:
            crop = self._away_from_face(landmarks, (clip.meta.width, clip.meta.height), rng)
        if changes.flip:
            crop = mirror(crop)
        points = np.zeros((len(landmarks), 2), np.float32)
        if is_face:
            points = crop.to_crop(landmarks[MIRRORED] if changes.flip else landmarks).astype(np.float32)
        image = changes.degrade(changes.recolor(cut(clip, frame, crop)))
        return {"image": to_image(image), "points": points, "is_face": np.float32(is_face)}

    def _away_from_face(self, landmarks: Floats32, frame: tuple[int, int], rng: np.random.Generator) -> Crop:
        """A random square that hardly touches the face; a corner of the frame where none is found."""
        x1, y1, x2, y2 = landmarks_box(landmarks)
        for _ in range(_NEGATIVE_TRIES):
            side = float(rng.uniform(0.1, 0.5)) * min(frame)
            left, top = rng.uniform(0.0, 1.0, 2) * (np.asarray(frame) - side)
            width = min(left + side, x2) - max(left, x1)
            height = min(top + side, y2) - max(top, y1)
            if max(0.0, width) * max(0.0, height) <= _MAX_OVERLAP * side**2:
                return box_crop([left, top, left + side, top + side], (self.size, self.size))
        side = 0.1 * min(frame)
        return box_crop([0.0, 0.0, side, side], (self.size, self.size))

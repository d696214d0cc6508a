"""Samples of the lip-sync expert: windows of five frames of one clip, each with its speech."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import LNET_SIZE, SYNC_FRAMES
from videoretalking.datasets.augment import MIX_LEVELS, AugmentConfig, ImageAugment, VoiceAugment, mix_speech
from videoretalking.datasets.collection import ClipCollection, DataConfig, sample_rng, to_image
from videoretalking.datasets.crops import Jitter, cut, face_crop, mirror, mouth_gestures, mouth_points
from videoretalking.faces.types import Crop

_QUIET = 1.5  # log-mel units (19 dB) below the clip's mean: nothing is said there that lips could show
_QUIET_TRIES = 4


class SyncWindows(Dataset[dict[str, Any]]):
    """``num_windows`` windows of one clip, in sync; each is a negative of all the others.

    The published training takes any other window of the clip as negative, also one that is a single frame
    off, and windows of silence as positives; both blur the task and feed the well-known plateau at 0.69. Here
    the windows keep a distance and quiet draws are repeated. All windows of a sample look and sound alike (one
    person, one augmentation), so that nothing but the lips tells them apart.

    Args:
        data: prepared data.
        split: split of the manifest.
        augment: changes of images and sound.
        seed: of all random draws.
        release_only: leave out clips whose weights may not be published.
        num_windows: windows per sample, W below; at least 2.
        min_shift: least distance of two windows, in frames.
        with_mouth: also return where the lips are (needs landmarks).
    """

    def __init__(
        self,
        data: DataConfig,
        split: str,
        augment: AugmentConfig,
        seed: int,
        release_only: bool = False,
        num_windows: int = 2,
        min_shift: int = 5,
        with_mouth: bool = False,
    ) -> None:
        needs = ["frames_index", "boxes", "mel"] + (["landmarks"] if with_mouth else [])
        min_frames = (num_windows - 1) * min_shift + SYNC_FRAMES
        self.clips = ClipCollection(data, split, needs, min_frames, release_only)
        self.augment = augment
        self.seed = seed
        self.num_windows = num_windows
        self.min_shift = min_shift
        self.with_mouth = with_mouth

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of one clip.

        Args:
            key: (epoch, index of the clip).

        Returns:
            ``audio`` [W, 1, 80, 16]; ``faces`` [W, 15, 48, 96] lower halves in [0, 1], frame after frame;
            ``mouth`` [W, 5, 20, 2] of :func:`mouth_points`
            and ``gestures`` [W, 5, 3] of :func:`mouth_gestures` (with ``with_mouth``); ``clip`` the name.
        """
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        starts = self._draw_starts(index, rng)
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        voice = VoiceAugment.draw(self.augment, rng)
        audio = np.stack([self.clips.clip_window(index, start) for start in starts])
        if rng.uniform() < self.augment.speaker_mix:
            other = self.clips.draw_other(index, SYNC_FRAMES, rng)
            audio = mix_speech(audio, self.clips.clip_window(*other), float(rng.uniform(*MIX_LEVELS)))
        views = [self._views(index, start, jitter, changes.flip) for start in starts]
        sample: dict[str, Any] = {
            "audio": voice.apply(audio),
            "faces": np.stack([self._faces(index, crops, changes) for crops in views]),
            "clip": self.clips.names[index],
        }
        if self.with_mouth:
            landmarks = self.clips.clip(index).landmarks
            gestures = mouth_gestures(landmarks)
            sample["gestures"] = np.stack([gestures[start : start + SYNC_FRAMES] for start in starts])
            sample["mouth"] = np.stack(
                [
                    [mouth_points(landmarks[frame], crop, changes.flip) for frame, crop in crops.items()]
                    for crops in views
                ]
            )
        return sample

    def _draw_starts(self, index: int, rng: np.random.Generator) -> list[int]:
        """First frames of the windows, in order, at least ``min_shift`` apart."""
        usable = self.clips.usable_frames(index)
        gaps = (self.num_windows - 1) * self.min_shift
        slack = len(usable) - SYNC_FRAMES - gaps
        quiet = float(self.clips.clip(index).mel.mean()) - _QUIET
        best: list[int] = []
        most = -1
        for _ in range(_QUIET_TRIES):
            shifts = np.sort(rng.integers(0, slack + 1, self.num_windows))
            starts = [
                usable.start + number * self.min_shift + int(shift) for number, shift in enumerate(shifts)
            ]
            loud = sum(float(self.clips.clip_window(index, start).mean()) > quiet for start in starts)
            if loud > most:
                best, most = starts, loud
        return best

    def _views(self, index: int, start: int, jitter: Jitter, flip: bool) -> dict[int, Crop]:
        """The crop of each frame of a window."""
        clip = self.clips.clip(index)
        crops = {
            frame: face_crop(clip, frame, LNET_SIZE, jitter) for frame in range(start, start + SYNC_FRAMES)
        }
        return {frame: mirror(crop) if flip else crop for frame, crop in crops.items()}

    def _faces(self, index: int, views: dict[int, Crop], changes: ImageAugment) -> Floats32:
        clip = self.clips.clip(index)
        halves = []
        for frame, crop in views.items():
            image = changes.recolor(cut(clip, frame, crop))
            halves.append(to_image(changes.degrade(image)[LNET_SIZE // 2 :]))
        return np.concatenate(halves)

"""Samples of the lip-sync expert: five frames, their speech, and speech that does not belong to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch.utils.data import Dataset

from core.constants import LNET_SIZE, SYNC_FRAMES
from datasets.augment import MIX_LEVELS, AugmentConfig, ImageAugment, VoiceAugment, mix_speech
from datasets.clips import Floats
from datasets.collection import ClipCollection, DataConfig, sample_rng, to_image
from datasets.crops import MIRRORED, Jitter, cut, face_crop, mirror, mouth_shape

_QUIET = 1.5  # log-mel units (19 dB) below the clip's mean: nothing is said there that lips could show
_QUIET_TRIES = 8


class SyncWindows(Dataset[dict[str, Any]]):
    """One window in sync and ``num_negatives`` speech windows out of sync.

    The published training takes any other window of the clip as negative, also one that is a single frame
    off, and windows of silence as positives; both blur the task and feed the well-known plateau at 0.69. Here
    negatives keep a distance, quiet windows are drawn again, and a share of negatives may come from other
    clips.

    Args:
        data: prepared data.
        split: split of the manifest.
        augment: changes of images and sound.
        seed: of all random draws.
        release_only: leave out clips whose weights may not be published.
        num_negatives: windows out of sync per sample.
        min_shift: least distance of a negative from the window, in frames.
        other_clip: share of negatives taken from another clip.
        with_mouth: also return the shape of the mouth (needs landmarks).
    """

    def __init__(
        self,
        data: DataConfig,
        split: str,
        augment: AugmentConfig,
        seed: int,
        release_only: bool = False,
        num_negatives: int = 1,
        min_shift: int = 5,
        other_clip: float = 0.0,
        with_mouth: bool = False,
    ) -> None:
        needs = ["frames_index", "boxes", "mel"] + (["landmarks"] if with_mouth else [])
        # so many frames that every window of the clip has a negative in the same clip
        self.clips = ClipCollection(data, split, needs, SYNC_FRAMES + 2 * min_shift, release_only)
        self.augment = augment
        self.seed = seed
        self.num_negatives = num_negatives
        self.min_shift = min_shift
        self.other_clip = other_clip if len(self.clips) > 1 else 0.0
        self.with_mouth = with_mouth

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of one clip.

        Args:
            key: (epoch, index of the clip).

        Returns:
            ``audio`` [1 + K, 1, 80, 16], the window in sync first; ``faces`` [15, 48, 96] lower halves in
            [0, 1], frame after frame; ``mouth`` [5, 20, 2] (with ``with_mouth``); ``clip`` the name.
        """
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        start = self._loud_start(index, rng)
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        voice = VoiceAugment.draw(self.augment, rng)
        windows = [self.clips.clip_window(index, start)]
        windows += [self._negative(index, start, rng) for _ in range(self.num_negatives)]
        audio = np.stack(windows)
        if rng.uniform() < self.augment.speaker_mix:
            other = self._other_window(index, rng)
            audio = mix_speech(audio, other, float(rng.uniform(*MIX_LEVELS)))
        sample: dict[str, Any] = {
            "audio": voice.apply(audio),
            "faces": self._faces(index, start, jitter, changes),
            "clip": self.clips.names[index],
        }
        if self.with_mouth:
            landmarks = self.clips.clip(index).landmarks[start : start + SYNC_FRAMES]
            if changes.flip:
                landmarks = landmarks[:, MIRRORED] * np.array([-1.0, 1.0], np.float32)
            sample["mouth"] = mouth_shape(landmarks)
        return sample

    def _starts(self, index: int) -> range:
        usable = self.clips.usable_frames(index)
        return range(usable.start, usable.stop - SYNC_FRAMES + 1)

    def _loud_start(self, index: int, rng: np.random.Generator) -> int:
        starts = self._starts(index)
        mean = float(self.clips.clip(index).mel.mean())
        start = int(rng.choice(starts))
        for _ in range(_QUIET_TRIES):
            if self.clips.clip_window(index, start).mean() > mean - _QUIET:
                break
            start = int(rng.choice(starts))
        return start

    def _negative(self, index: int, start: int, rng: np.random.Generator) -> Floats:
        if rng.uniform() < self.other_clip:
            return self._other_window(index, rng)
        far = [other for other in self._starts(index) if abs(other - start) >= self.min_shift]
        return self.clips.clip_window(index, int(rng.choice(far)))

    def _other_window(self, index: int, rng: np.random.Generator) -> Floats:
        return self.clips.clip_window(*self.clips.draw_other(index, SYNC_FRAMES, rng))

    def _faces(self, index: int, start: int, jitter: Jitter, changes: ImageAugment) -> Floats:
        clip = self.clips.clip(index)
        halves = []
        for frame in range(start, start + SYNC_FRAMES):
            crop = face_crop(clip, frame, LNET_SIZE, jitter)
            image = changes.recolour(cut(clip, frame, mirror(crop) if changes.flip else crop))
            halves.append(to_image(changes.degrade(image)[LNET_SIZE // 2 :]))
        return np.concatenate(halves)

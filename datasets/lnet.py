"""Samples of L-Net and Wav2Lip: five consecutive frames, five references and their speech (section C.2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import LNET_SIZE, MEL_BANDS, MEL_WINDOW, SYNC_FRAMES
from videoretalking.datasets.augment import (
    MIX_LEVELS,
    AugmentConfig,
    ImageAugment,
    VoiceAugment,
    mix_speech,
    silent_mel,
)
from videoretalking.datasets.collection import ClipCollection, DataConfig, sample_rng, to_image
from videoretalking.datasets.crops import (
    Jitter,
    aligned_crop,
    cut,
    face_crop,
    mirror,
    mouth_opening,
    pose_distance,
)
from videoretalking.faces.types import Crop

# Frames whose mouth is open by less than this part of the distance of the outer eye corners count as closed; nearly
# every speaker closes it that far within seconds.
_CLOSED = 0.02


class LNetClips(Dataset[dict[str, Any]]):
    """A window of consecutive frames, lower halves masked, beside random reference frames of the same clip.

    Args:
        data: prepared data.
        split: split of the manifest.
        augment: changes of images and sound.
        seed: of all random draws.
        release_only: leave out clips whose weights may not be published.
        num_frames: length of the window; the sync loss needs five.
        size: side of the faces in pixels.
        reference_gap: least and largest distance of a reference from its frame, in frames; None for any frame of
            the clip, as in the paper. At inference the reference shows the frame's own pose (D-Net rendered it),
            so near references teach a small network sooner what to copy; too near, they give the lips away.
        align_references: turn, move and scale references so that eyes and nose lie as in their frames (needs
            landmarks); what D-Net does at inference, in the plane.
    """

    def __init__(
        self,
        data: DataConfig,
        split: str,
        augment: AugmentConfig,
        seed: int,
        release_only: bool = False,
        num_frames: int = SYNC_FRAMES,
        size: int = LNET_SIZE,
        reference_gap: tuple[int, int] | None = None,
        align_references: bool = False,
    ) -> None:
        needs = ["frames_index", "boxes", "mel"]
        needs += ["landmarks"] if augment.silence or align_references else []
        self.clips = ClipCollection(data, split, needs, num_frames, release_only)
        self.augment = augment
        self.seed = seed
        self.num_frames = num_frames
        self.size = size
        self.reference_gap = reference_gap
        self.align_references = align_references

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """The sample of one clip, T frames of S pixels.

        Args:
            key: (epoch, index of the clip).

        Returns:
            ``audio`` [T, 1, 80, 16], one window a frame; ``sync_audio`` [1, 80, 16], the window of the whole
            clip for the expert; ``faces`` [6, T, S, S], masked frames then references, in [0, 1]; ``target``
            [3, T, S, S]; ``speech`` float32 scalar, 0 where silence replaced the sound; ``clip`` the name.

        Under silence the target's lower half is that of one frame with a closed mouth, in the pose of the others,
        so that the mouth rests whatever the upper half does.
        """
        epoch, index = key
        rng = sample_rng(self.seed, epoch, index)
        usable = self.clips.usable_frames(index)
        start = int(rng.integers(usable.start, usable.stop - self.num_frames + 1))
        frames = list(range(start, start + self.num_frames))
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        voice = VoiceAugment.draw(self.augment, rng)
        silent = bool(rng.uniform() < self.augment.silence)
        if silent:
            closed = np.flatnonzero(mouth_opening(self.clips.clip(index).landmarks) < _CLOSED)
            silent = len(closed) > 0
        if silent:
            audio = silent_mel((self.num_frames, 1, MEL_BANDS, MEL_WINDOW), rng)
            sync_audio = audio[0]
        else:
            audio = self.clips.speech_windows(index, frames)
            sync_audio = self.clips.clip_window(index, start)
            if rng.uniform() < self.augment.speaker_mix:
                other, first = self.clips.draw_other(index, self.num_frames, rng)
                level = float(rng.uniform(*MIX_LEVELS))
                babble = self.clips.speech_windows(other, range(first, first + self.num_frames))
                audio = mix_speech(audio, babble, level)
                sync_audio = mix_speech(sync_audio, self.clips.clip_window(other, first), level)
            audio, sync_audio = voice.apply(audio), voice.apply(sync_audio)
        references = self._draw_references(frames, len(self.clips.clip(index)), rng)
        views = self._views(index, frames, jitter, changes.flip)
        target = self._cut(index, frames, views, changes)
        if silent:
            resting = [self._nearest(index, frames[len(frames) // 2], closed)] * len(frames)
            lips = self._cut(index, resting, self._aligned_views(index, resting, frames, views), changes)
            target = [replace_lower_half(*pair) for pair in zip(target, lips, strict=True)]
        reference = self._cut_references(index, references, frames, views, jitter, changes)
        return {
            "audio": audio,
            "sync_audio": sync_audio,
            "faces": lnet_faces(changes.degrade_all(target), changes.degrade_all(reference)),
            "target": to_clip(target),
            "speech": np.float32(not silent),
            "clip": self.clips.names[index],
        }

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frames of a clip with its first frame as the only reference: a batch of one long clip."""
        frames = list(self.clips.usable_frames(index)[:num_frames])
        none = ImageAugment.draw(AugmentConfig(), sample_rng(self.seed, 0, index))
        views = self._views(index, frames, Jitter(), flip=False)
        target = self._cut(index, frames, views, none)
        reference = self._cut_references(index, frames[:1] * len(frames), frames, views, Jitter(), none)
        return {
            "audio": self.clips.speech_windows(index, frames)[None],
            "faces": lnet_faces(target, reference)[None],
            "target": to_clip(target)[None],
            "clip": [self.clips.names[index]],
        }

    def _draw_references(self, frames: Sequence[int], count: int, rng: np.random.Generator) -> list[int]:
        """A reference for each frame, from a clip of ``count`` frames."""
        if self.reference_gap is None:
            return rng.choice(count, len(frames)).tolist()
        least, largest = self.reference_gap
        distances = np.abs(np.arange(count) - np.asarray(frames)[:, None])  # [T, count]
        allowed = (distances >= least) & (distances <= largest)
        # a frame whose whole clip is nearer than that takes any other moment
        return [
            int(rng.choice(np.flatnonzero(row))) if row.any() else int(rng.integers(count)) for row in allowed
        ]

    def _views(self, index: int, frames: Sequence[int], jitter: Jitter, flip: bool) -> list[Crop]:
        clip = self.clips.clip(index)
        crops = [face_crop(clip, frame, self.size, jitter) for frame in frames]
        return [mirror(crop) for crop in crops] if flip else crops

    def _cut(
        self, index: int, frames: Sequence[int], views: Sequence[Crop], changes: ImageAugment
    ) -> list[Image8]:
        clip = self.clips.clip(index)
        return [changes.recolor(cut(clip, frame, view)) for frame, view in zip(frames, views, strict=True)]

    def _cut_references(
        self,
        index: int,
        references: Sequence[int],
        frames: Sequence[int],
        views: Sequence[Crop],
        jitter: Jitter,
        changes: ImageAugment,
    ) -> list[Image8]:
        """References for ``frames``, which are seen in ``views``."""
        if self.align_references:
            views = self._aligned_views(index, references, frames, views)
        else:
            views = self._views(index, references, jitter, changes.flip)
        return self._cut(index, references, views, changes)

    def _aligned_views(
        self, index: int, others: Sequence[int], frames: Sequence[int], views: Sequence[Crop]
    ) -> list[Crop]:
        """Other frames in the pose that ``frames`` have in ``views``."""
        points = self.clips.clip(index).landmarks
        return [
            aligned_crop(view, points[frame], points[other])
            for view, frame, other in zip(views, frames, others, strict=True)
        ]

    def _nearest(self, index: int, frame: int, others: npt.NDArray[np.intp]) -> int:
        """The one of some frames whose head is turned most like that of ``frame``."""
        points = self.clips.clip(index).landmarks
        return int(others[np.argmin([pose_distance(points[other], points[frame]) for other in others])])


def to_clip(frames: Sequence[Image8]) -> Floats32:
    """uint8 frames [S, S, 3] -> float32 [3, T, S, S] in [0, 1]."""
    return to_image(np.stack(frames)).swapaxes(0, 1)


def replace_lower_half(frame: Image8, other: Image8) -> Image8:
    """A frame with the lower half of another one, faded in over the first twelfth of the height below the middle.

    Args:
        frame: uint8 [S, S, 3].
        other: the same shape.

    Returns:
        uint8 [S, S, 3].
    """
    height = len(frame)
    share = np.clip((np.arange(height) - height // 2 + 1) / (height / 12), 0.0, 1.0)[:, None, None]
    return np.rint(frame + share * (other.astype(np.float32) - frame)).astype(np.uint8)


def lnet_faces(frames: Sequence[Image8], references: Sequence[Image8]) -> Floats32:
    """Frames with their lower half black, then references: float32 [6, T, S, S] in [0, 1]."""
    masked = to_clip(frames)
    masked[:, :, masked.shape[2] // 2 :] = 0.0
    return np.concatenate([masked, to_clip(references)])

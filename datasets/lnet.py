"""Samples of L-Net and Wav2Lip: five consecutive frames, five references and their speech (section C.2.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.datasets.augment import MIX_LEVELS, ImageAugment, VoiceAugment, mix_speech
from videoretalking.datasets.base import ClipDataset, Layout, Picture, SampleSource
from videoretalking.datasets.clips import Version
from videoretalking.datasets.crops import Jitter, face_views
from videoretalking.faces.types import Crop

NEEDS = ("frames_index", "boxes", "mel")


class LNetClips(ClipDataset):
    """A window of consecutive frames beside random reference frames of the same clip.

    Args:
        source: where samples come from.
        antialias: how faces are reduced (:func:`cut_low`).
        needs: arrays that a clip must have.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {"target": "clip", "frame": "clip", "reference": "clip"}

    def __init__(self, source: SampleSource, antialias: bool = False, needs: Sequence[str] = NEEDS) -> None:
        super().__init__(source, needs, SYNC_FRAMES)
        self.antialias = antialias

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The sample of one clip, T frames of 96 pixels.

        Returns:
            ``audio`` [T, 1, 80, 16], one window a frame; ``sync_audio`` [1, 80, 16], the window of the whole
            clip for the expert; ``frame``, ``reference`` and ``target`` [3, T, 96, 96] in [0, 1]. ``frame`` is the
            target, degraded where augmentation says so; the step masks its lower half.
        """
        usable = self.clips.usable_frames(index)
        start = int(rng.integers(usable.start, usable.stop - SYNC_FRAMES + 1))
        frames = list(range(start, start + SYNC_FRAMES))
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        voice = VoiceAugment.draw(self.augment, rng)
        sound = self.draw_sound(index, frames, voice, rng)
        references, version = self.draw_references(index, frames, rng)
        views = face_views(self.clips.clip(index), frames, jitter, changes.flip)
        reference_views = self.reference_views(index, references, frames, views, jitter, changes.flip)
        target = self.cut_target(index, frames, views, changes, sound)
        reference = self.cut(index, references, reference_views, changes, version)
        return sound | {
            "frame": self.lay_out("frame", self.degrade(target, changes)),
            "reference": self.lay_out("reference", self.degrade(reference, changes)),
            "target": self.lay_out("target", target),
            **self.describe(index, frames, views, references, reference_views, sound, version),
        }

    def describe(
        self,
        index: int,
        frames: Sequence[int],
        views: Sequence[Crop],
        references: Sequence[int],
        reference_views: Sequence[Crop],
        sound: dict[str, Any],
        version: Version,
    ) -> dict[str, Any]:
        """Further arrays of a sample whose frames and references (of that version) are seen in these views."""
        return {}

    def preview(self, index: int, num_frames: int) -> dict[str, Any]:
        """The first frames of a clip with its first frame as the only reference: a batch of one long clip."""
        frames = list(self.clips.usable_frames(index)[:num_frames])
        references = frames[:1] * len(frames)
        views = face_views(self.clips.clip(index), frames, Jitter(), mirrored=False)
        reference_views = self.reference_views(index, references, frames, views, Jitter(), flip=False)
        target = self.lay_out("target", self.cut(index, frames, views, ImageAugment.none()))
        reference = self.lay_out(
            "reference", self.cut(index, references, reference_views, ImageAugment.none())
        )
        return {
            "audio": self.clips.speech_windows(index, frames)[None],
            "frame": target[None],
            "reference": reference[None],
            "target": target[None],
            "clip": [self.clips.names[index]],
        }

    def draw_sound(
        self, index: int, frames: Sequence[int], voice: VoiceAugment, rng: np.random.Generator
    ) -> dict[str, Any]:
        """``audio`` and ``sync_audio`` of the frames, in another voice and with other people's speech under it."""
        audio = self.clips.speech_windows(index, frames)
        sync_audio = self.clips.clip_window(index, frames[0])
        if rng.uniform() < self.augment.speaker_mix:
            other, first = self.clips.draw_other(index, len(frames), rng)
            level = float(rng.uniform(*MIX_LEVELS))
            babble = self.clips.speech_windows(other, range(first, first + len(frames)))
            audio = mix_speech(audio, babble, level)
            sync_audio = mix_speech(sync_audio, self.clips.clip_window(other, first), level)
        return {"audio": voice.apply(audio), "sync_audio": voice.apply(sync_audio)}

    def draw_references(
        self, index: int, frames: Sequence[int], rng: np.random.Generator
    ) -> tuple[list[int], Version]:
        """A reference for each frame, any frame of the clip; and which version of it."""
        return rng.choice(len(self.clips.clip(index)), len(frames)).tolist(), "frames"

    def reference_views(
        self,
        index: int,
        references: Sequence[int],
        frames: Sequence[int],
        views: Sequence[Crop],
        jitter: Jitter,
        flip: bool,
    ) -> list[Crop]:
        """The crops of the references for ``frames``, which are seen in ``views``: their own face boxes."""
        return face_views(self.clips.clip(index), references, jitter, flip)

    def cut_target(
        self,
        index: int,
        frames: Sequence[int],
        views: Sequence[Crop],
        changes: ImageAugment,
        sound: dict[str, Any],
    ) -> list[Picture]:
        """The faces that belong to the sound: those of the frames."""
        return self.cut(index, frames, views, changes)

    def cut(
        self,
        index: int,
        frames: Sequence[int],
        views: Sequence[Crop],
        changes: ImageAugment,
        version: Version | None = None,
    ) -> list[Picture]:
        """Frames of a clip as seen in ``views``, in other light and color."""
        return [
            self.take(index, frame, view, changes, self.antialias, version)
            for frame, view in zip(frames, views, strict=True)
        ]

"""Samples of the lip-sync expert: windows of five frames of one clip, each with its speech."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.datasets.augment import MIX_LEVELS, ImageAugment, VoiceAugment, mix_speech
from videoretalking.datasets.base import ClipDataset, Layout, SampleSource
from videoretalking.datasets.crops import Jitter, face_views
from videoretalking.faces.types import Crop

NEEDS = ("frames_index", "boxes", "mel")
_QUIET = 1.5  # log-mel units (19 dB) below the clip's mean: nothing is said there that lips could show
_QUIET_TRIES = 4


class SyncWindows(ClipDataset):
    """``num_windows`` windows of one clip, in sync; each is a negative of all the others.

    The published training takes any other window of the clip as negative, also one that is a single frame
    off, and windows of silence as positives; both blur the task and feed the well-known plateau at 0.69. Here
    the windows keep a distance and quiet draws are repeated. All windows of a sample look and sound alike (one
    person, one augmentation), so that nothing but the lips tells them apart.

    Args:
        source: where samples come from.
        num_windows: windows per sample, W below; at least 2.
        min_shift: least distance of two windows, in frames.
        antialias: how faces are reduced (:func:`cut_low`).
        needs: arrays that a clip must have.
    """

    layouts: ClassVar[Mapping[str, Layout]] = {"faces": "halves"}

    def __init__(
        self,
        source: SampleSource,
        num_windows: int = 2,
        min_shift: int = 5,
        antialias: bool = False,
        needs: Sequence[str] = NEEDS,
    ) -> None:
        super().__init__(source, needs, min_frames=(num_windows - 1) * min_shift + SYNC_FRAMES)
        self.num_windows = num_windows
        self.min_shift = min_shift
        self.antialias = antialias

    def sample(self, index: int, rng: np.random.Generator) -> dict[str, Any]:
        """The sample of one clip.

        Returns:
            ``audio`` [W, 1, 80, 16]; ``faces`` [W, 15, 48, 96] lower halves in [0, 1], frame after frame.
        """
        starts = self._draw_starts(index, rng)
        jitter = Jitter.draw(rng, self.augment.crop_jitter)
        changes = ImageAugment.draw(self.augment, rng)
        voice = VoiceAugment.draw(self.augment, rng)
        audio = np.stack([self.clips.clip_window(index, start) for start in starts])
        if rng.uniform() < self.augment.speaker_mix:
            other = self.clips.draw_other(index, SYNC_FRAMES, rng)
            audio = mix_speech(audio, self.clips.clip_window(*other), float(rng.uniform(*MIX_LEVELS)))
        views = [self._views(index, start, jitter, changes.flip) for start in starts]
        return {
            "audio": voice.apply(audio),
            "faces": np.stack([self._faces(index, crops, changes) for crops in views]),
            **self.describe(index, views, changes.flip),
        }

    def describe(self, index: int, views: Sequence[Mapping[int, Crop]], flip: bool) -> dict[str, Any]:
        """What else a sample says of its windows, each seen in the crops of its frames: nothing."""
        return {}

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
        frames = range(start, start + SYNC_FRAMES)
        crops = face_views(self.clips.clip(index), frames, jitter, flip)
        return dict(zip(frames, crops, strict=True))

    def _faces(self, index: int, views: Mapping[int, Crop], changes: ImageAugment) -> npt.NDArray[Any]:
        shown = [self.take(index, frame, crop, changes, self.antialias) for frame, crop in views.items()]
        return self.lay_out("faces", self.degrade(shown, changes))

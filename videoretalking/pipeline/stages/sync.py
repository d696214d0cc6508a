"""Sync confidence of the rendered mouths, by the lip-sync expert, for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from videoretalking.core.constants import SYNC_FRAMES, TRAIN_FPS
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.pipeline.engine import Runner, fetch
from videoretalking.pipeline.jobs import FaceJob

_STEP_TOLERANCE = 0.25  # of a frame at 25 a second, the rate that the expert was trained at


@dataclass(frozen=True)
class _Shown:
    """A rendered mouth: when, [3, 96, 96] L-Net's image, and [80, 16] the sound."""

    time: float
    image: torch.Tensor
    sound: torch.Tensor

    def follows(self, other: _Shown) -> bool:
        """Whether it is the next frame at about 25 a second."""
        return abs((self.time - other.time) * TRAIN_FPS - 1.0) <= _STEP_TOLERANCE


class SyncScorer:
    """Cosine between lips and speech over the last five frames of each face.

    Args:
        expert: lip-sync expert.
    """

    def __init__(self, expert: Runner[nn.Module]) -> None:
        self.expert = expert
        self.cosine = expert.using(self._cosine)
        self._history: dict[int, list[_Shown]] = {}  # of each track, frames that follow each other

    def __call__(self, faces: Sequence[FaceJob], low_res: torch.Tensor, audio: torch.Tensor) -> None:
        """Set ``sync`` of the faces whose last five frames follow each other at about 25 a second.

        Args:
            faces: in the order of their time.
            low_res: [N, 3, 96, 96] L-Net's images of them.
            audio: [N, 80, 16] their windows.
        """
        scored: list[FaceJob] = []
        clips: list[torch.Tensor] = []
        sounds: list[torch.Tensor] = []
        for track in sorted({face.track for face in faces}):
            places = [place for place, face in enumerate(faces) if face.track == track]
            shown = self._history.get(track, [])
            run, starts = len(shown), []
            for place in places:
                item = _Shown(faces[place].time, low_res[place], audio[place])
                run = run + 1 if shown and item.follows(shown[-1]) else 1
                shown = [*shown, item]
                if run >= SYNC_FRAMES:
                    starts.append(len(shown) - SYNC_FRAMES)
                    scored.append(faces[place])
            self._history[track] = shown[len(shown) - min(run, SYNC_FRAMES - 1) :]
            if starts:
                # every five frames as a view of all: to stack each five would take a GPU's thread longer
                fives = torch.stack([item.image for item in shown]).unfold(0, SYNC_FRAMES, 1)
                clips += [fives[start] for start in starts]
                sounds += [shown[start].sound for start in starts]
        if not scored:
            return
        lips = stack_lower_half(torch.stack(clips).movedim(-1, 2))
        cosines = self.cosine(torch.stack(sounds)[:, None], lips)
        for face, cosine in zip(scored, fetch(cosines), strict=True):
            face.sync = cosine

    def _cosine(self, audio: torch.Tensor, lips: torch.Tensor) -> torch.Tensor:
        heard, seen = self.expert.network(audio, lips)
        return (heard * seen).sum(dim=1)

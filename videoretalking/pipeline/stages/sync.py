"""Sync confidence of the rendered mouths, by the lip-sync expert, for the report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from videoretalking.core.constants import SYNC_FRAMES, TRAIN_FPS
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.pipeline.engine import Runner, fetch
from videoretalking.pipeline.jobs import FaceJob

_STEP_TOLERANCE = 0.25  # of a frame at 25 a second, the rate that the expert was trained at


class SyncScorer:
    """Cosine between lips and speech over the last five frames of each face.

    Args:
        expert: lip-sync expert.
    """

    def __init__(self, expert: Runner[nn.Module]) -> None:
        self.expert = expert
        self.cosine = expert.using(self._cosine)
        self._history: dict[int, list[tuple[float, torch.Tensor, torch.Tensor]]] = {}

    def __call__(self, faces: Sequence[FaceJob], low_res: torch.Tensor, audio: torch.Tensor) -> None:
        """Set ``sync`` of the faces whose last five frames follow each other at about 25 a second.

        Args:
            faces: in the order of their time.
            low_res: [N, 3, 96, 96] L-Net's images of them.
            audio: [N, 80, 16] their windows.
        """
        scored, clips, windows = [], [], []
        for face, image, window in zip(faces, low_res, audio, strict=True):
            history = self._history.setdefault(face.track, [])
            if history and abs((face.time - history[-1][0]) * TRAIN_FPS - 1.0) > _STEP_TOLERANCE:
                history.clear()
            history.append((face.time, image, window))
            del history[:-SYNC_FRAMES]
            if len(history) == SYNC_FRAMES:
                scored.append(face)
                clips.append(torch.stack([entry[1] for entry in history], dim=1))
                windows.append(history[0][2])
        if not scored:
            return
        lips = stack_lower_half(torch.stack(clips))
        cosines = self.cosine(torch.stack(windows)[:, None], lips)
        for face, cosine in zip(scored, fetch(cosines), strict=True):
            face.sync = cosine

    def _cosine(self, audio: torch.Tensor, lips: torch.Tensor) -> torch.Tensor:
        heard, seen = self.expert.network(audio, lips)
        return (heard * seen).sum(dim=1)

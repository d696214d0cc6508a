"""What steps share whose network is judged by the lip-sync expert, or is that expert."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from videoretalking.losses.sync import sync_loss, sync_probability
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.train.config import TrainingConfig
from videoretalking.train.plateau import PlateauWatch
from videoretalking.train.steps.base import Step


class SyncStep(Step):
    """A step that warns when its sync loss does not fall.

    Args:
        config: the training config.
        device: where to compute.

    Attributes:
        sync_name: name of that loss.
    """

    sync_name: ClassVar[str] = "sync"

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.watch = PlateauWatch(self.sync_name, config.loop.plateau_steps)

    def after_step(self, losses: Mapping[str, torch.Tensor], step: int) -> None:
        """Watch the sync loss."""
        self.watch.update(losses, step)

    def state_dict(self) -> dict[str, Any]:
        """What the watch has seen."""
        return {"watch": self.watch.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the watch."""
        self.watch.load_state_dict(state["watch"])


def judge_sync(
    expert: nn.Module, clip: torch.Tensor, audio: torch.Tensor, sample_weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip-sync loss of generated clips and the mean probability behind it.

    Args:
        expert: frozen lip-sync expert.
        clip: [B, 3, 5, 96, 96] in [0, 1].
        audio: [B, 1, 80, 16], the speech of the five frames.
        sample_weight: [B], 0 for samples that do not count.

    Returns:
        Two scalars: the loss of equation 7, and the mean cosine.
    """
    heard, seen = expert(audio, stack_lower_half(clip))
    return sync_loss(heard, seen, sample_weight), sync_probability(heard, seen).detach().mean()

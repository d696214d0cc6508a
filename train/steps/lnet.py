"""Training of L-Net (paper, section C.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from videoretalking.losses.perceptual import l1_loss
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lnet import LNet, LNetConfig
from videoretalking.train.config import FrozenConfig, PerceptualConfig, TrainingConfig
from videoretalking.train.frozen import load_expert, load_features, make_perceptual_loss
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.sync import judge_sync
from videoretalking.train.steps.talking import TalkingStep, face_metrics, paint, show_clips


@dataclass(frozen=True)
class LNetLossWeights:
    """Factors of the losses (eq. 9).

    Attributes:
        l1: pixel loss (eq. 5).
        perceptual: perceptual loss (eq. 6).
        sync: lip-sync loss (eq. 7); 0 trains without the expert.
    """

    l1: float
    perceptual: float
    sync: float


@dataclass(frozen=True, kw_only=True)
class LNetTrainingConfig(TrainingConfig):
    """Config of L-Net's training.

    Attributes:
        loss_weights: factors of the losses.
        perceptual: feature network.
        expert: the frozen lip-sync expert.
        model: sizes.
    """

    network: Literal["lnet"] = "lnet"
    loss_weights: LNetLossWeights
    perceptual: PerceptualConfig
    expert: FrozenConfig
    model: LNetConfig = field(default_factory=LNetConfig)


class LNetStep(TalkingStep):
    """Paint the masked lower half of five consecutive frames.

    Args:
        config: the training config.
        device: where to compute.
    """

    config: LNetTrainingConfig

    def __init__(self, config: LNetTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.loss_weights = dataclasses.asdict(config.loss_weights)
        self.network: LNet = LNet(config.model).to(device)
        self.perceptual = make_perceptual_loss(config.perceptual, load_features(config.perceptual, device))
        self.expert = load_expert(config.expert, device) if config.loss_weights.sync else None

    def sample_options(self) -> dict[str, Any]:
        """How faces are reduced."""
        return {"antialias": self.config.model.antialias}

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``l1``, ``perceptual`` and ``sync``."""
        output = paint(network, batch)
        losses, metrics = self.compare(network, output, batch["target"])
        if self.expert is not None:
            losses["sync"], metrics["sync_probability"] = judge_sync(self.expert, output, batch["sync_audio"])
        return StepOutput(losses, show_clips(batch, output), metrics)

    def compare(
        self, network: nn.Module, output: torch.Tensor, target: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Losses ``l1`` and ``perceptual`` of clips [B, 3, T, H, W], and metrics."""
        frames, target_frames = unroll_clip(output), unroll_clip(target)
        losses = {"l1": l1_loss(output, target), "perceptual": self.perceptual(frames, target_frames)}
        return losses, face_metrics(network, frames, target_frames)

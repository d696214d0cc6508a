"""Training of Wav2Lip, the baseline of table 1 (Prajwal et al. 2020)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from videoretalking.losses.adversarial import discriminator_loss, generator_loss
from videoretalking.losses.perceptual import l1_loss
from videoretalking.losses.sync import sync_bce_loss, sync_probability
from videoretalking.models.discriminators import QualityDiscriminator, QualityDiscriminatorConfig
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.models.wav2lip import Wav2Lip, Wav2LipConfig
from videoretalking.train.config import FrozenConfig, OptimizerConfig, TrainingConfig
from videoretalking.train.frozen import load_expert
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.talking import TalkingStep, face_metrics, paint, show_clips

logger = logging.getLogger(__name__)

_PROBABILITY_EPS = 1e-6


@dataclass(frozen=True)
class Wav2LipLossWeights:
    """Factors of the losses.

    Attributes:
        l1: pixel loss.
        sync: the expert's cross-entropy; 0 until the gate opens.
        adversarial: quality discriminator; 0 trains without it (the variant without GAN).
    """

    l1: float
    sync: float
    adversarial: float


@dataclass(frozen=True, kw_only=True)
class Wav2LipTrainingConfig(TrainingConfig):
    """Config of Wav2Lip's training.

    Attributes:
        loss_weights: factors of the losses.
        expert: the frozen lip-sync expert.
        sync_gate: the sync loss counts once its validation value has fallen below this (published: 0.75).
        model: sizes.
        discriminator: sizes of the quality discriminator.
    """

    network: Literal["wav2lip"] = "wav2lip"
    loss_weights: Wav2LipLossWeights
    expert: FrozenConfig
    sync_gate: float
    model: Wav2LipConfig = field(default_factory=Wav2LipConfig)
    discriminator: QualityDiscriminatorConfig = field(default_factory=QualityDiscriminatorConfig)


class Wav2LipStep(TalkingStep):
    """Paint the masked lower half, under the expert and the quality discriminator.

    Args:
        config: the training config.
        device: where to compute.
    """

    config: Wav2LipTrainingConfig

    def __init__(self, config: Wav2LipTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.gate_open = False
        self.network: Wav2Lip = Wav2Lip(config.model).to(device)
        self.expert = load_expert(config.expert, device)
        if config.loss_weights.sync and not (config.data.val_split and config.loop.validate_every):
            logger.warning(
                "loss_weights.sync: the sync loss will never count, since a validation opens its gate and this run "
                "has none (loop.validate_every, data.val_split)"
            )
        if config.loss_weights.adversarial:
            self.discriminator = QualityDiscriminator(config.discriminator).to(device)
            self.discriminator_loss_weights = {"discriminator": 1.0}

    def sample_options(self) -> dict[str, Any]:
        """How faces are reduced."""
        return {"antialias": self.config.model.antialias}

    @property
    def loss_weights(self) -> Mapping[str, float]:  # type: ignore[override]
        """Loss weights; the sync loss counts once the gate has opened."""
        weights = dataclasses.asdict(self.config.loss_weights)
        return weights if self.gate_open else weights | {"sync": 0.0}

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``l1``, ``sync`` and ``adversarial``."""
        output = paint(network, batch)
        target = batch["target"]
        losses = {"l1": l1_loss(output, target)}
        metrics = face_metrics(network, unroll_clip(output), unroll_clip(target))
        if self.gate_open or not network.training:  # its value in validation opens the gate
            heard, seen = self.expert(batch["sync_audio"], stack_lower_half(self.judged(output, target)))
            losses["sync"] = sync_bce_loss(heard, seen, seen.new_ones(len(seen)))
            metrics["sync_probability"] = sync_probability(heard, seen).detach().mean()
        if self.discriminator is not None:
            losses["adversarial"] = generator_loss(_logits(self.discriminator, output))
        return StepOutput(losses, show_clips(batch, output), metrics, output, target)

    def judged(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """What the expert sees of the output."""
        return output

    def discriminate(
        self, discriminator: nn.Module, output: StepOutput, step: int
    ) -> dict[str, torch.Tensor]:
        """Loss ``discriminator``."""
        assert output.fake is not None and output.real is not None
        real, fake = _logits(discriminator, output.real), _logits(discriminator, output.fake.detach())
        return {"discriminator": discriminator_loss(real, fake)}

    def discriminator_optimizer(self) -> OptimizerConfig:
        """The same as the generator's."""
        return self.config.optimizer

    def after_validation(self, values: Mapping[str, float]) -> None:
        """Open the gate of the sync loss for good once its validation value is low enough."""
        if not self.gate_open and values["sync"] < self.config.sync_gate:
            self.gate_open = True
            logger.info("validation sync loss %.3f: from now on the sync loss counts", values["sync"])

    def state_dict(self) -> dict[str, Any]:
        """Whether the gate is open, and what the watch has seen."""
        return super().state_dict() | {"gate_open": self.gate_open}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore gate and watch."""
        super().load_state_dict(state)
        self.gate_open = bool(state["gate_open"])


def _logits(discriminator: nn.Module, clip: torch.Tensor) -> torch.Tensor:
    """The published discriminator ends in a sigmoid; the losses take logits."""
    return torch.logit(discriminator(clip).float(), eps=_PROBABILITY_EPS)

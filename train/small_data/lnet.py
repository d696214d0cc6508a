"""L-Net on little data: losses on the lips."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.small_data import NearLNetClips
from videoretalking.losses.landmarks import LandmarkLoss, cut_mouths, movement_loss
from videoretalking.losses.perceptual import l1_loss
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.train.config import FrozenConfig
from videoretalking.train.frozen import load_frozen
from videoretalking.train.small_data.talking import TalkingAids, start_audio_encoder
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.lnet import LNetLossWeights, LNetStep, LNetTrainingConfig
from videoretalking.train.steps.sync import judge_sync
from videoretalking.train.steps.talking import paint, show_clips


@dataclass(frozen=True)
class LNetSmallDataLossWeights(LNetLossWeights):
    """Factors of the losses; further ones beside those of equation 9.

    Attributes:
        landmarks: distance of the lips' landmarks.
        movement: difference of how much these landmarks move; goes with ``landmarks``.
        mouth: the weighted sum of pixel and perceptual loss again, on the enlarged mouth, which is a tenth of the
            picture; goes with ``landmarks``.
        change: difference of how much the pixels of the enlarged mouth change within the five frames; goes with
            ``landmarks``.
    """

    landmarks: float = 0.0
    movement: float = 0.0
    mouth: float = 0.0
    change: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LNetSmallDataConfig(LNetTrainingConfig, TalkingAids):
    """Config of L-Net's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        freeze_audio: leave the audio encoder as it is. On three minutes of speech a trained one soon overfits.
        picture_steps: steps in which only pixels and features count, on the mouth as well. Landmarks and expert
            find nothing in an image that is no face yet, so their gradients are arbitrary there.
    """

    step: Literal["lnet_small_data"] = "lnet_small_data"
    loss_weights: LNetSmallDataLossWeights
    landmarks: FrozenConfig = field(default_factory=FrozenConfig.none)
    freeze_audio: bool = False
    picture_steps: int = 0


class LNetSmallDataStep(LNetStep):
    """L-Net's step with losses on the lips.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a weight for movement, mouth or change without one for the landmarks.
    """

    samples = NearLNetClips
    config: LNetSmallDataConfig

    def __init__(self, config: LNetSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        lips = ("movement", "mouth", "change")
        if any(self.loss_weights[name] for name in lips) and not config.loss_weights.landmarks:
            raise UserError(
                f"{', '.join(lips)} go with the landmarks: set loss_weights.landmarks, or "
                + " and ".join(f"loss_weights.{name}=0" for name in lips)
            )
        start_audio_encoder(self.network.audio_encoder, config.audio_encoder)
        self.network.audio_encoder.requires_grad_(not config.freeze_audio)
        self.landmarks: LandmarkLoss | None = None
        if config.loss_weights.landmarks:
            self.landmarks = LandmarkLoss(load_frozen(config.landmarks, "landmarks", device), LIPS)

    def sample_options(self) -> dict[str, Any]:
        """References and silence."""
        return super().sample_options() | self.config.sample_options()

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``l1``, ``perceptual``, ``mouth``, ``change``, ``landmarks``, ``movement`` and ``sync``."""
        if self.config.freeze_audio:
            self.network.audio_encoder.eval()  # statistics of its norms included
        output, target = paint(network, batch), batch["target"]
        losses, metrics = self.compare(network, output, target)
        early = network.training and step < self.config.picture_steps
        if self.landmarks is not None:
            losses |= self._compare_lips(self.landmarks, output, target, early)
        if self.expert is not None and not early:
            losses["sync"], metrics["sync_probability"] = judge_sync(
                self.expert, output, batch["sync_audio"], batch["speech"]
            )
        return StepOutput(losses, show_clips(batch, output), metrics)

    def _compare_lips(
        self, landmarks: LandmarkLoss, output: torch.Tensor, target: torch.Tensor, early: bool
    ) -> dict[str, torch.Tensor]:
        """Losses on the mouth; ``early`` leaves out those that need lips in the output."""

        def by_clip(items: torch.Tensor) -> torch.Tensor:  # frames come time-major
            return items.unflatten(0, (output.shape[2], len(output))).transpose(0, 1)

        losses = {}
        frames, target_frames = unroll_clip(output), unroll_clip(target)
        with torch.no_grad():
            true_lips = landmarks.find(target_frames)
        if self.loss_weights["mouth"] or self.loss_weights["change"]:
            mouths, true_mouths = cut_mouths(frames, true_lips), cut_mouths(target_frames, true_lips)
            losses["change"] = movement_loss(by_clip(mouths), by_clip(true_mouths))
            if self.loss_weights["mouth"]:
                losses["mouth"] = self.loss_weights["l1"] * l1_loss(mouths, true_mouths)
                losses["mouth"] += self.loss_weights["perceptual"] * self.perceptual(mouths, true_mouths)
        if not early:
            lips = landmarks.find(frames)
            losses["landmarks"] = F.l1_loss(lips, true_lips)
            shape, true_shape = (points - points.mean(dim=1, keepdim=True) for points in (lips, true_lips))
            losses["movement"] = movement_loss(by_clip(shape), by_clip(true_shape))
        return losses

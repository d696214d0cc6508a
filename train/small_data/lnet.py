"""L-Net on little data: losses on the lips, on share and flow, and a limit to the networks that judge."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.mouths import MOUTH_POINTS
from videoretalking.datasets.small_data import NearLNetClips
from videoretalking.losses.adversarial import discriminator_loss, generator_loss
from videoretalking.losses.blending import flow_variation, mouth_ellipse, reference_flow_loss, share_loss
from videoretalking.losses.judges import limit_factors, scale_gradient, with_colors_of
from videoretalking.losses.landmarks import LandmarkLoss, cut_mouths, movement_loss, opening_loss
from videoretalking.losses.perceptual import l1_loss
from videoretalking.models.discriminators import PatchDiscriminator, PatchDiscriminatorConfig
from videoretalking.models.layers.blocks import roll_clip, unroll_audio, unroll_clip
from videoretalking.models.lnet import Painting
from videoretalking.train.config import FrozenConfig, OptimizerConfig
from videoretalking.train.frozen import load_frozen
from videoretalking.train.small_data.talking import TalkingAids, start_audio_encoder
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.lnet import LNetLossWeights, LNetStep, LNetTrainingConfig
from videoretalking.train.steps.sync import judge_sync
from videoretalking.train.steps.talking import paint_parts, show_clips

# Losses that a network judges which was never asked about colors or texture -> name of that network.
_JUDGES = {"sync": "expert", "landmarks": "landmarks", "movement": "landmarks", "opening": "landmarks"}


@dataclass(frozen=True)
class LNetSmallDataLossWeights(LNetLossWeights):
    """Factors of the losses; further ones beside those of equation 9, none of them in the paper.

    Attributes:
        landmarks: distance of the lips' landmarks.
        movement: difference of how much these landmarks move; goes with ``landmarks``.
        opening: difference of the gap between the inner lips; goes with ``landmarks``.
        mouth: the weighted sum of pixel and perceptual loss again, on the enlarged mouth, which is a tenth of the
            picture; goes with ``landmarks``.
        change: difference of how much the pixels of the enlarged mouth change within the five frames; goes with
            ``landmarks``.
        flow: how far the flow on the reference misses the landmarks of the prepared data, in pixels; needs
            ``model.warp_reference``.
        flow_variation: how much that flow differs between neighbors.
        share: cross-entropy of the share of the painting against the ellipse of both mouths; needs
            ``model.blend_reference``.
        adversarial: a discriminator of patches, on the enlarged mouth and on the lower half; goes with
            ``landmarks``.
    """

    landmarks: float = 0.0
    movement: float = 0.0
    opening: float = 0.0
    mouth: float = 0.0
    change: float = 0.0
    flow: float = 0.0
    flow_variation: float = 0.0
    share: float = 0.0
    adversarial: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LNetSmallDataConfig(LNetTrainingConfig, TalkingAids):
    """Config of L-Net's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        freeze_audio: leave the audio encoder as it is. On three minutes of speech a trained one soon overfits.
        picture_steps: steps in which only pixels and features count, on the mouth as well. Landmarks and expert
            find nothing in an image that is no face yet, so their gradients are arbitrary there.
        judge_limit: largest ratio of the gradients of expert and landmark network, each with its weights, to that
            of the pixels, on the mouth; 0 for no limit. Goes with ``landmarks``. The ratio is taken anew in each
            micro-batch of each process.
        adversarial_from: step from which on the adversary judges the network. It sharpens what is there, and would
            hinder a picture that is still to come.
        discriminator_steps: steps before that in which the adversary learns already: while it knows nothing its
            verdicts are noise.
        discriminator_rate: learning rate of the adversary in those of the network.
        discriminator: sizes of the adversary.
    """

    step: Literal["lnet_small_data"] = "lnet_small_data"
    loss_weights: LNetSmallDataLossWeights
    landmarks: FrozenConfig = field(default_factory=FrozenConfig.none)
    freeze_audio: bool = False
    picture_steps: int = 0
    judge_limit: float = 0.0
    adversarial_from: int = 0
    discriminator_steps: int = 0
    discriminator_rate: float = 1.0
    discriminator: PatchDiscriminatorConfig = field(default_factory=PatchDiscriminatorConfig)


class LNetSmallDataStep(LNetStep):
    """L-Net's step with losses on the lips, and on share and flow where the network has them.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a limit, or a weight for movement, opening, mouth, change or the adversary, without one for the
            landmarks; one for flow or share without that part of the network.
    """

    samples = NearLNetClips
    config: LNetSmallDataConfig

    def __init__(self, config: LNetSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        _check_weights(config)
        start_audio_encoder(self.network.audio_encoder, config.audio_encoder)
        self.network.audio_encoder.requires_grad_(not config.freeze_audio)
        self.landmarks: LandmarkLoss | None = None
        if config.loss_weights.landmarks:
            self.landmarks = LandmarkLoss(load_frozen(config.landmarks, "landmarks", device), LIPS)
        if config.loss_weights.adversarial:
            self.first_adversarial_step = max(0, config.adversarial_from - config.discriminator_steps)
            self.discriminator = PatchDiscriminator(config.discriminator).to(device)
            self.discriminator_loss_weights = {"discriminator": 1.0}

    def sample_options(self) -> dict[str, Any]:
        """References and silence, and landmarks where a loss looks at them."""
        weights = self.config.loss_weights
        options = super().sample_options() | self.config.sample_options()
        return options | {"with_points": bool(weights.flow or weights.share)}

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses of the paper and those of :class:`LNetSmallDataLossWeights`."""
        if self.config.freeze_audio:
            self.network.audio_encoder.eval()  # statistics of its norms included
        output, painting = paint_parts(network, batch)
        target = batch["target"]
        losses, metrics = self.compare(network, output, target)
        losses |= self._compare_parts(painting, batch)
        judged = with_colors_of(output, target) if self.config.gray_judges else output
        early = network.training and step < self.config.picture_steps
        if self.landmarks is not None:
            true_lips = self._find_lips(self.landmarks, target)
            losses |= self._compare_mouths(output, target, true_lips)
            if not early:
                losses |= self._compare_lips(self.landmarks, judged, true_lips)
        if self.expert is not None and not early:
            losses["sync"], metrics["sync_probability"] = judge_sync(
                self.expert, judged, batch["sync_audio"], batch["speech"]
            )
        if self.discriminator is not None and step >= self.config.adversarial_from:
            losses["adversarial"] = torch.stack(
                [generator_loss(self.discriminator(view)) for view in _show_lower(output, true_lips)]
            ).sum()
        if self.config.judge_limit and network.training and not early:
            losses, factors = self._limit_judges(output, target, true_lips, losses)
            metrics |= {f"{judge}_factor": factor for judge, factor in factors.items()}
        return StepOutput(losses, show_clips(batch, output), metrics, output, target)

    def discriminate(
        self, discriminator: nn.Module, output: StepOutput, step: int
    ) -> dict[str, torch.Tensor]:
        """Loss ``discriminator``."""
        assert output.fake is not None and output.real is not None and self.landmarks is not None
        lips = self._find_lips(self.landmarks, output.real)
        views = zip(_show_lower(output.real, lips), _show_lower(output.fake.detach(), lips), strict=True)
        losses = [discriminator_loss(discriminator(real), discriminator(fake)) for real, fake in views]
        return {"discriminator": torch.stack(losses).sum()}

    def discriminator_optimizer(self) -> OptimizerConfig:
        """That of the network, with its own rate."""
        optimizer = self.config.optimizer
        return dataclasses.replace(optimizer, lr=self.config.discriminator_rate * optimizer.lr)

    @staticmethod
    @torch.no_grad()
    def _find_lips(landmarks: LandmarkLoss, target: torch.Tensor) -> torch.Tensor:
        """[T * B, 20, 2] of clips [B, 3, T, H, W], time-major."""
        return landmarks.find(unroll_clip(target))

    def _compare_parts(self, painting: Painting, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Losses on flow and share."""
        losses: dict[str, torch.Tensor] = {}
        if not self.loss_weights["flow"] and not self.loss_weights["share"]:
            return losses
        target, reference = (unroll_audio(batch[f"{name}_points"]) for name in ("target", "reference"))
        if self.loss_weights["flow"] and painting.flow is not None:
            losses["flow"] = reference_flow_loss(painting.flow, reference, target)
            losses["flow_variation"] = flow_variation(painting.flow)
        if self.loss_weights["share"] and painting.share is not None:
            lips = torch.cat([target[:, -MOUTH_POINTS:], reference[:, -MOUTH_POINTS:]], dim=1)
            wanted = mouth_ellipse(lips, painting.share.shape[-1])
            losses["share"] = share_loss(painting.share, wanted)
        return losses

    def _compare_mouths(
        self, output: torch.Tensor, target: torch.Tensor, true_lips: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses on the pixels of the enlarged mouth."""
        losses: dict[str, torch.Tensor] = {}
        if self.loss_weights["mouth"] or self.loss_weights["change"]:
            mouths, true_mouths = _cut_both(output, target, true_lips)
            losses["change"] = movement_loss(_by_clip(mouths, output), _by_clip(true_mouths, output))
            if self.loss_weights["mouth"]:
                losses["mouth"] = self.loss_weights["l1"] * l1_loss(mouths, true_mouths)
                losses["mouth"] += self.loss_weights["perceptual"] * self.perceptual(mouths, true_mouths)
        return losses

    def _compare_lips(
        self, landmarks: LandmarkLoss, judged: torch.Tensor, true_lips: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Losses on the landmarks that are found in what is to be judged."""
        lips = landmarks.find(unroll_clip(judged))
        shape, true_shape = (points - points.mean(dim=1, keepdim=True) for points in (lips, true_lips))
        return {
            "landmarks": F.l1_loss(lips, true_lips),
            "movement": movement_loss(_by_clip(shape, judged), _by_clip(true_shape, judged)),
            "opening": opening_loss(lips, true_lips),
        }

    def _limit_judges(
        self,
        output: torch.Tensor,
        target: torch.Tensor,
        true_lips: torch.Tensor,
        losses: dict[str, torch.Tensor],
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The losses with those of judges weakened where they outvote the pixels, and the factor of each judge."""
        weights = self.loss_weights
        pixels = weights["l1"] * losses["l1"]
        if weights["mouth"]:
            pixels = pixels + weights["mouth"] * weights["l1"] * l1_loss(
                *_cut_both(output, target, true_lips)
            )
        judges: dict[str, torch.Tensor] = {}
        for name, judge in _JUDGES.items():
            if name in losses and weights[name]:
                judges[judge] = judges.get(judge, output.new_zeros(())) + weights[name] * losses[name]
        mask = mouth_mask(true_lips, output)
        factors = limit_factors(output, pixels, judges, self.config.judge_limit, mask)
        limited = {
            name: scale_gradient(loss, factors[_JUDGES[name]])
            if name in _JUDGES and _JUDGES[name] in factors
            else loss
            for name, loss in losses.items()
        }
        return limited, factors


def mouth_mask(lips: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Where the mouths are in clips [B, 3, T, H, H]: [B, 1, T, H, H] in [0, 1].

    Args:
        lips: [T * B, 20, 2] as :class:`losses.landmarks.LandmarkLoss` finds them, time-major.
        clips: the clips.
    """
    from_border = 2.0 * lips + 1.0 / LANDMARK_SIZE - 1.0
    return roll_clip(mouth_ellipse(from_border, clips.shape[-1]), clips.shape[2])


def _check_weights(config: LNetSmallDataConfig) -> None:
    weights, model = config.loss_weights, config.model
    names = ("movement", "opening", "mouth", "change", "adversarial")
    lips = [name for name in names if getattr(weights, name)]
    if lips and not weights.landmarks:
        raise UserError(
            f"{', '.join(lips)} go with the landmarks: set loss_weights.landmarks, or "
            + " and ".join(f"loss_weights.{name}=0" for name in lips)
        )
    if config.judge_limit and not weights.landmarks:
        raise UserError("judge_limit goes with the landmarks: set loss_weights.landmarks, or judge_limit=0")
    if (weights.flow or weights.flow_variation) and not model.warp_reference:
        raise UserError(
            "loss_weights.flow: this network moves no reference: set model.warp_reference, or the weight to 0"
        )
    if weights.flow_variation and not weights.flow:
        raise UserError("loss_weights.flow_variation goes with the flow: set loss_weights.flow, or it to 0")
    if weights.share and not model.blend_reference:
        raise UserError(
            "loss_weights.share: this network has no share: set model.blend_reference, or the weight to 0"
        )


def _cut_both(
    output: torch.Tensor, target: torch.Tensor, true_lips: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The enlarged mouths [T * B, 3, H, H] of two batches of clips."""
    return cut_mouths(unroll_clip(output), true_lips), cut_mouths(unroll_clip(target), true_lips)


def _show_lower(clips: torch.Tensor, lips: torch.Tensor) -> list[torch.Tensor]:
    """What the adversary sees of clips [B, 3, T, H, H]: enlarged mouths and lower halves [T * B, 3, ...]."""
    frames = unroll_clip(clips)
    return [cut_mouths(frames, lips), frames[:, :, frames.shape[2] // 2 :].float()]


def _by_clip(items: torch.Tensor, clips: torch.Tensor) -> torch.Tensor:
    """Time-major [T * B, ...] -> [B, T, ...] for clips [B, C, T, H, W]."""
    return items.unflatten(0, (clips.shape[2], len(clips))).transpose(0, 1)

"""Aids for training on minutes of film, beside the steps of the paper, which needs none of them.

A config asks for them by ``step: lnet_small_data`` and the like (:data:`train.catalog.STEPS`), as ``configs/demo``
does. All are off by default: without further options each of these steps trains as its parent does. The weights
that it leaves are of the same network.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.mouths import MOUTH_GESTURES, MOUTH_POINTS
from videoretalking.datasets.small_data import MouthWindows, NearDNetPairs, NearLNetClips
from videoretalking.losses.landmarks import LandmarkLoss, cut_mouths, flow_loss, movement_loss
from videoretalking.losses.perceptual import l1_loss
from videoretalking.losses.sync import contrastive_sync_loss
from videoretalking.models.catalog import load_network
from videoretalking.models.dnet import DNetOutput, sampling_grid
from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.train.config import FrozenConfig
from videoretalking.train.frozen import load_frozen
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.dnet import DNetLossWeights, DNetStep, DNetTrainingConfig
from videoretalking.train.steps.expert import (
    ExpertLossWeights,
    ExpertStep,
    ExpertTrainingConfig,
    compare_windows,
    pairwise_bce,
    show_windows,
)
from videoretalking.train.steps.lnet import LNetLossWeights, LNetStep, LNetTrainingConfig
from videoretalking.train.steps.sync import judge_sync
from videoretalking.train.steps.talking import paint, show_clips
from videoretalking.train.steps.wav2lip import Wav2LipStep, Wav2LipTrainingConfig

_TEACHER_WIDTH = 128
_TEACHER_DROPOUT = 0.3


def _no_network() -> FrozenConfig:
    return FrozenConfig("")


# ----------------------------------------------------------------------------------------------- D-Net


@dataclass(frozen=True)
class DNetSmallDataLossWeights(DNetLossWeights):
    """Factors of the losses; further ones beside the paper's.

    Attributes:
        landmarks: distance of the landmarks of both images from the target's.
        flow: how far the flow misses the landmarks of the prepared data.
    """

    landmarks: float = 0.0
    flow: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DNetSmallDataConfig(DNetTrainingConfig):
    """Config of D-Net's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        max_gap: largest distance of source and target in frames; 0 for any.
        align_source: show the source in the target's pose, in the plane (:class:`NearDNetPairs`).
    """

    step: Literal["dnet_small_data"] = "dnet_small_data"
    loss_weights: DNetSmallDataLossWeights
    landmarks: FrozenConfig = field(default_factory=_no_network)
    max_gap: int = 0
    align_source: bool = False


class DNetSmallDataStep(DNetStep):
    """D-Net's step with losses on landmarks.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples = NearDNetPairs
    config: DNetSmallDataConfig

    def __init__(self, config: DNetSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.landmarks: LandmarkLoss | None = None
        if config.loss_weights.landmarks:
            self.landmarks = LandmarkLoss(load_frozen(config.landmarks, "landmarks", device))

    def sample_options(self) -> dict[str, Any]:
        """The size and how source and target lie to each other."""
        config = self.config
        return super().sample_options() | {"max_gap": config.max_gap, "align_source": config.align_source}

    def compare_warped(
        self, rendered: DNetOutput, batch: dict[str, Any], warp_only: bool
    ) -> dict[str, torch.Tensor]:
        """Losses ``warp``, ``landmarks`` and ``flow``."""
        losses = super().compare_warped(rendered, batch, warp_only)
        target = batch["target"]
        if self.landmarks is not None:
            images = [rendered.warped] if warp_only else [rendered.warped, rendered.image]
            losses["landmarks"] = torch.stack([self.landmarks(image, target) for image in images]).sum()
        if self.config.loss_weights.flow:
            grid = sampling_grid(rendered.flow, (target.shape[-2], target.shape[-1]))
            losses["flow"] = flow_loss(grid, batch["source_points"], batch["target_points"])
        return losses


# ------------------------------------------------------------------------------------ L-Net and Wav2Lip


@dataclass(frozen=True, kw_only=True)
class TalkingAids:
    """What L-Net's and Wav2Lip's trainings on little data share.

    Attributes:
        audio_encoder: checkpoint of an expert whose audio encoder starts this one's; "" for a fresh one.
        reference_gap: distances of references from their frames, or None for any (:class:`NearLNetClips`).
        align_references: show references in the pose of their frames, in the plane.
        silence: probability of silent sound with a mouth that rests closed.
    """

    audio_encoder: str = ""
    reference_gap: tuple[int, int] | None = None
    align_references: bool = False
    silence: float = 0.0

    def sample_options(self) -> dict[str, Any]:
        """Arguments of :class:`NearLNetClips`."""
        return {
            "reference_gap": self.reference_gap,
            "align_references": self.align_references,
            "silence": self.silence,
        }


def start_audio_encoder(encoder: AudioEncoder, expert: str) -> None:
    """Copy the trained audio encoder of a lip-sync expert, which already tells the movements of the mouth apart.

    Args:
        encoder: the encoder to start; changed in place.
        expert: checkpoint of the expert; "" changes nothing.

    Raises:
        UserError: no such expert, or its audio encoder has other sizes.
    """
    if not expert:
        return
    trained = load_network(expert, expected="lipsync_expert", fold=False)
    assert isinstance(trained, LipSyncExpert)
    try:
        encoder.load_state_dict(trained.audio_encoder.state_dict())
    except RuntimeError:
        raise UserError(
            f"the audio encoder of {expert} has other sizes than this network's: make them alike (the expert's "
            "audio_residual must be [2, 2, 2, 1]), or set audio_encoder=''"
        ) from None


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
    landmarks: FrozenConfig = field(default_factory=_no_network)
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


@dataclass(frozen=True, kw_only=True)
class Wav2LipSmallDataConfig(Wav2LipTrainingConfig, TalkingAids):
    """Config of Wav2Lip's training on little data."""

    step: Literal["wav2lip_small_data"] = "wav2lip_small_data"


class Wav2LipSmallDataStep(Wav2LipStep):
    """Wav2Lip's step with near references and a trained audio encoder.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples = NearLNetClips
    config: Wav2LipSmallDataConfig

    def __init__(self, config: Wav2LipSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        start_audio_encoder(self.network.audio_encoder, config.audio_encoder)

    def sample_options(self) -> dict[str, Any]:
        """References and silence."""
        return super().sample_options() | self.config.sample_options()


# ------------------------------------------------------------------------------------------ the expert


@dataclass(frozen=True)
class ExpertSmallDataLossWeights(ExpertLossWeights):
    """Factors of the losses; further ones beside the published one.

    Attributes:
        contrastive: pair the windows of a sample.
        mouth: pair the windows of speech with the landmarks of the lips.
        imitation: pair the pictures with the landmarks of the lips; goes with ``mouth``.
        gestures: read how far the mouth is open and how wide from the pictures' features; goes with ``mouth``.
    """

    contrastive: float = 0.0
    mouth: float = 0.0
    imitation: float = 0.0
    gestures: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ExpertSmallDataConfig(ExpertTrainingConfig):
    """Config of the expert's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        mouth_steps: steps in which speech is only paired with landmarks, and pictures only learn the gestures;
            afterwards speech and teacher stay as they are and the pictures follow them. 0 trains all at once.
    """

    step: Literal["lipsync_expert_small_data"] = "lipsync_expert_small_data"
    loss_weights: ExpertSmallDataLossWeights
    mouth_steps: int = 0


class MouthTeacher(nn.Module):
    """Embeds the landmarks of the lips in a window, as the expert embeds its pictures.

    Args:
        num_frames: frames of a window.
        embedding_size: length of the embedding.
    """

    def __init__(self, num_frames: int, embedding_size: int) -> None:
        super().__init__()
        numbers = (1 + num_frames) * 2 * MOUTH_POINTS
        self.layers = nn.Sequential(
            nn.BatchNorm1d(numbers, affine=False),
            nn.Linear(numbers, _TEACHER_WIDTH),
            nn.ReLU(),
            nn.Dropout(_TEACHER_DROPOUT),
            nn.Linear(_TEACHER_WIDTH, _TEACHER_WIDTH),
            nn.ReLU(),
            nn.Dropout(_TEACHER_DROPOUT),
            nn.Linear(_TEACHER_WIDTH, embedding_size),
            nn.ReLU(),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """[N, T, 20, 2] of :func:`datasets.mouths.mouth_points` -> [N, D] of unit length."""
        shapes = points.flatten(2)
        mean = shapes.mean(dim=1, keepdim=True)
        # shape and movement apart: people differ far more in the shape of their lips than lips move
        return F.normalize(self.layers(torch.cat([mean, shapes - mean], dim=1).flatten(1)), dim=1)


class ExpertOutput(NamedTuple):
    """What N windows give; the embeddings are [N, D] of unit length.

    Attributes:
        heard: embedding of the speech.
        seen: embedding of the pictures.
        lips: embedding of the landmarks, or None.
        gestures: [N, 5, 3] of :func:`datasets.mouths.mouth_gestures` as read from the pictures, or None.
    """

    heard: torch.Tensor
    seen: torch.Tensor
    lips: torch.Tensor | None = None
    gestures: torch.Tensor | None = None


class ExpertWithTeacher(nn.Module):
    """The expert with a teacher that sees the landmarks of the lips instead of pictures.

    Args:
        expert: the expert.
        with_mouth: have the teacher, and a reader of gestures.
    """

    def __init__(self, expert: LipSyncExpert, with_mouth: bool) -> None:
        super().__init__()
        size, self.num_frames = expert.config.audio_widths[-1], expert.config.num_frames
        self.expert = expert
        self.teacher = MouthTeacher(self.num_frames, size) if with_mouth else None
        self.reader = nn.Linear(size, MOUTH_GESTURES * self.num_frames) if with_mouth else None

    def forward(self, audio: torch.Tensor, faces: torch.Tensor, points: torch.Tensor) -> ExpertOutput:
        """Embed N windows of speech, pictures and landmarks.

        Args:
            audio: [N, 1, 80, 16] in [-4, 4].
            faces: [N, 15, 48, 96] in [0, 1].
            points: [N, 5, 20, 2] of :func:`datasets.mouths.mouth_points`.
        """
        heard = self.expert.embed_audio(audio)
        features = self.expert.face_encoder(faces).flatten(1)
        seen = F.normalize(features.float(), dim=1)
        if self.teacher is None or self.reader is None:
            return ExpertOutput(heard, seen)
        gestures = self.reader(features).unflatten(1, (self.num_frames, MOUTH_GESTURES))
        return ExpertOutput(heard, seen, self.teacher(points), gestures)


class ExpertSmallDataStep(ExpertStep):
    """The expert's step with a teacher that sees landmarks.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: ``mouth_steps``, imitation or gestures without a weight for the mouth.
    """

    samples = MouthWindows
    config: ExpertSmallDataConfig

    def __init__(self, config: ExpertSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        weights = config.loss_weights
        if config.mouth_steps and not weights.mouth:
            raise UserError(
                "mouth_steps needs a weight for the mouth: set loss_weights.mouth, or mouth_steps=0"
            )
        if (weights.imitation or weights.gestures) and not weights.mouth:
            raise UserError(
                "imitation and gestures go with the mouth: set loss_weights.mouth, or loss_weights.imitation=0 "
                "and loss_weights.gestures=0"
            )
        self.has_unused_parameters = config.mouth_steps > 0  # some steps leave speech or pictures alone
        assert isinstance(self.network, LipSyncExpert)
        self.network = ExpertWithTeacher(self.network, with_mouth=weights.mouth > 0).to(device)

    def exported(self, network: nn.Module) -> nn.Module:
        """The expert without its teacher."""
        assert isinstance(network, ExpertWithTeacher)
        return network.expert

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``mouth`` and ``gestures``, then ``bce``, ``contrastive``, ``imitation`` and ``gestures``.

        The metric ``accuracy`` is 0.5 by chance; ``mouth_accuracy`` is that of the landmarks.
        """
        windows = batch["faces"].shape[:2]
        output: ExpertOutput = network(*(batch[name].flatten(0, 1) for name in ("audio", "faces", "mouth")))
        heard, seen = output.heard.unflatten(0, windows), output.seen.unflatten(0, windows)
        losses: dict[str, torch.Tensor] = {}
        metrics = compare_windows(heard, seen)
        first_stage = step < self.config.mouth_steps
        if output.lips is not None and output.gestures is not None:
            lips = output.lips.unflatten(0, windows)
            metrics["mouth_accuracy"] = compare_windows(heard, lips)["accuracy"]
            losses["gestures"] = F.mse_loss(output.gestures.float(), batch["gestures"].flatten(0, 1))
            if first_stage or not self.config.mouth_steps or not network.training:
                losses["mouth"] = contrastive_sync_loss(heard, lips)
            if not first_stage or not network.training:
                losses["imitation"] = contrastive_sync_loss(lips.detach(), seen)
        if not first_stage or not network.training:
            if self.config.mouth_steps:
                heard = heard.detach()  # on three minutes of speech the audio encoder would overfit
            losses["bce"] = pairwise_bce(heard, seen)
            if self.config.loss_weights.contrastive:
                losses["contrastive"] = contrastive_sync_loss(heard, seen)
        return StepOutput(losses, show_windows(batch["faces"]), metrics)

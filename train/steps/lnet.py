"""Training of L-Net (paper, section C.2)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.lnet import LNetClips
from videoretalking.losses.landmarks import LandmarkLoss, cut_mouths, movement_loss
from videoretalking.losses.reconstruction import l1_loss
from videoretalking.losses.sync import sync_loss, sync_probability
from videoretalking.models.blocks import unroll_clip
from videoretalking.models.lipsync_expert import stack_lower_half
from videoretalking.models.lnet import LNet, LNetConfig
from videoretalking.train.config import FrozenConfig, LoopConfig, OptimizerConfig, PerceptualConfig
from videoretalking.train.frozen import load_features, load_frozen, make_perceptual_loss, start_audio_encoder
from videoretalking.train.steps.base import Step, StepOutput, as_tensors, image_metrics


@dataclass(frozen=True)
class LNetWeights:
    """Factors of the losses (eq. 9).

    Attributes:
        l1: pixel loss (eq. 5).
        perceptual: perceptual loss (eq. 6).
        sync: lip-sync loss (eq. 7); 0 trains without the expert.
        landmarks: distance of the lips' landmarks; for small data, not in the paper.
        movement: difference of how much these landmarks move; goes with ``landmarks``.
        mouth: the weighted sum of pixel and perceptual loss again, on the enlarged mouth, a tenth of the picture
            that everybody looks at; goes with ``landmarks``, and is not in the paper either.
        change: difference of how much the pixels of the enlarged mouth change within the five frames; goes with
            ``landmarks``.
    """

    l1: float
    perceptual: float
    sync: float
    landmarks: float = 0.0
    movement: float = 0.0
    mouth: float = 0.0
    change: float = 0.0


@dataclass(frozen=True)
class LNetTrainingConfig:
    """Config of L-Net's training.

    Attributes:
        loop: the run.
        data: prepared data.
        optimizer: Adam.
        weights: loss weights.
        perceptual: feature network.
        expert: the frozen lip-sync expert.
        model: sizes.
        augment: augmentation, silence among it.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        audio_encoder: checkpoint of an expert whose audio encoder starts this one's; "" for a fresh one.
        freeze_audio: leave that encoder as it is; little speech is soon learned by heart.
        picture_steps: steps in which only pixels and features count, on the mouth as well; landmarks and expert see
            nothing in an image that is no face yet, and pull anywhere.
        reference_gap: distances of references from their frames, or None for any (:class:`LNetClips`).
        align_references: show references in the pose of their frames, in the plane (:class:`LNetClips`).
        network: name in the catalog.
    """

    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    weights: LNetWeights
    perceptual: PerceptualConfig
    expert: FrozenConfig
    model: LNetConfig = field(default_factory=LNetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    landmarks: FrozenConfig = field(default_factory=lambda: FrozenConfig(""))
    audio_encoder: str = ""
    freeze_audio: bool = False
    picture_steps: int = 0
    reference_gap: tuple[int, int] | None = None
    align_references: bool = False
    network: Literal["lnet"] = "lnet"


class LNetStep(Step):
    """Paint the masked lower half of five consecutive frames.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a weight for movement, mouth or change without one for the landmarks.
    """

    def __init__(self, config: LNetTrainingConfig, device: torch.device) -> None:
        self.config = config
        self.weights = dataclasses.asdict(config.weights)
        lips = {name: self.weights[name] for name in ("movement", "mouth", "change")}
        if any(lips.values()) and not config.weights.landmarks:
            raise UserError(
                f"{', '.join(lips)} go with the landmarks: set weights.landmarks, or "
                + " and ".join(f"weights.{name}=0" for name in lips)
            )
        self.network: LNet = LNet(config.model).to(device)
        start_audio_encoder(self.network.audio_encoder, config.audio_encoder)
        self.network.audio_encoder.requires_grad_(not config.freeze_audio)
        features = load_features(config.perceptual, device)
        self.perceptual = make_perceptual_loss(config.perceptual, features)
        self.expert = load_frozen(config.expert, "lipsync_expert", device) if config.weights.sync else None
        self.landmarks: LandmarkLoss | None = None
        if config.weights.landmarks:
            self.landmarks = LandmarkLoss(load_frozen(config.landmarks, "landmarks", device), LIPS)

    def dataset(self, training: bool) -> Dataset[dict[str, Any]]:
        """:class:`LNetClips`."""
        data = self.config.data
        return LNetClips(
            data,
            data.train_split if training else data.val_split,
            self.config.augment if training else AugmentConfig(),
            self.config.loop.seed,
            data.release_only and training,
            reference_gap=self.config.reference_gap,
            align_references=self.config.align_references,
        )

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``l1``, ``perceptual``, ``mouth``, ``change``, ``landmarks``, ``movement`` and ``sync``."""
        if self.config.freeze_audio:
            self.network.audio_encoder.eval()  # statistics of its norms included
        output = network(batch["audio"], batch["faces"])
        target = batch["target"]
        frames, target_frames = unroll_clip(output), unroll_clip(target)
        losses = {"l1": l1_loss(output, target), "perceptual": self.perceptual(frames, target_frames)}
        metrics = image_metrics(network, frames, target_frames)
        early = network.training and step < self.config.picture_steps
        if self.landmarks is not None:
            losses |= self._compare_lips(self.landmarks, output, target, early)
        if self.expert is not None and not early:
            losses["sync"], metrics["sync_probability"] = judge_sync(
                self.expert, output, batch["sync_audio"], batch["speech"]
            )
        return StepOutput(losses, clip_images(batch["faces"], output, target), metrics)

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
        if self.weights["mouth"] or self.weights["change"]:
            mouths, true_mouths = cut_mouths(frames, true_lips), cut_mouths(target_frames, true_lips)
            losses["change"] = movement_loss(by_clip(mouths), by_clip(true_mouths))
            if self.weights["mouth"]:
                losses["mouth"] = self.weights["l1"] * l1_loss(mouths, true_mouths)
                losses["mouth"] += self.weights["perceptual"] * self.perceptual(mouths, true_mouths)
        if not early:
            lips = landmarks.find(frames)
            losses["landmarks"] = F.l1_loss(lips, true_lips)
            shape, true_shape = (points - points.mean(dim=1, keepdim=True) for points in (lips, true_lips))
            losses["movement"] = movement_loss(by_clip(shape), by_clip(true_shape))
        return losses

    def preview(
        self, network: nn.Module, dataset: Dataset[dict[str, Any]], device: torch.device
    ) -> torch.Tensor | None:
        """A clip with its own speech: reference, output, target side by side."""
        return dub_clip(network, dataset, self.config.loop.preview_frames, device)


def judge_sync(
    expert: nn.Module, clip: torch.Tensor, audio: torch.Tensor, sample_weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Lip-sync loss of generated clips and the mean probability behind it.

    Args:
        expert: frozen lip-sync expert.
        clip: [B, 3, 5, 96, 96] in [0, 1].
        audio: [B, 1, 80, 16], the speech of the five frames.
        sample_weight: [B], 0 for samples without speech.

    Returns:
        Two scalars: the loss of equation 7, and the mean cosine.
    """
    heard, seen = expert(audio, stack_lower_half(clip))
    return sync_loss(heard, seen, sample_weight), sync_probability(heard, seen).detach().mean()


def dub_clip(
    network: nn.Module, dataset: Dataset[dict[str, Any]], num_frames: int, device: torch.device
) -> torch.Tensor:
    """The first clip of :class:`LNetClips` with its own speech.

    Args:
        network: L-Net or Wav2Lip.
        dataset: where the clip is.
        num_frames: most frames.
        device: where the network is.

    Returns:
        [T, 3, H, 3 * W]: reference, output, target side by side.
    """
    assert isinstance(dataset, LNetClips)
    batch = as_tensors(dataset.preview(0, num_frames), device)
    output = network(batch["audio"], batch["faces"])
    return unroll_clip(torch.cat([batch["faces"][:, 3:], output, batch["target"]], dim=4))


def clip_images(faces: torch.Tensor, output: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """Grid rows of the first frame of each clip: input, reference, output, target."""
    return {
        "input": faces[:, :3, 0],
        "reference": faces[:, 3:, 0],
        "output": output[:, :, 0],
        "target": target[:, :, 0],
    }

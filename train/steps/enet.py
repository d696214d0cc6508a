"""Training of E-Net through the frozen L-Net (paper, section C.3)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from videoretalking.core.config import require_range
from videoretalking.core.constants import LNET_SIZE, SYNC_FRAMES
from videoretalking.core.errors import UserError
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.degradations import degrade
from videoretalking.datasets.enet import ENetClips
from videoretalking.losses.adversarial import discriminator_loss, generator_loss
from videoretalking.losses.identity import IdentityLoss
from videoretalking.losses.perceptual import l1_loss
from videoretalking.models.discriminators import ENetDiscriminator, ENetDiscriminatorConfig
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.layers.blocks import resize, roll_clip, shrink, unroll_audio, unroll_clip
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import LNet, lnet_input
from videoretalking.train.config import FrozenConfig, OptimizerConfig, PerceptualConfig, TrainingConfig
from videoretalking.train.frozen import (
    load_expert,
    load_features,
    load_frozen,
    load_recognizer,
    make_perceptual_loss,
)
from videoretalking.train.steps.base import StepOutput, as_tensors, image_metrics
from videoretalking.train.steps.sync import SyncStep, judge_sync


@dataclass(frozen=True)
class ENetLossWeights:
    """Factors of the losses (eq. 14).

    Attributes:
        l1: pixel loss (eq. 10).
        perceptual: perceptual loss (eq. 11).
        adversarial: adversarial loss (eq. 13); 0 trains without a discriminator.
        identity: ArcFace distance (eq. 12); 0 trains without ArcFace.
        sync: lip-sync loss; section 4.1.3 has it, equation 14 does not. 0 switches it off.
    """

    l1: float
    perceptual: float
    adversarial: float
    identity: float
    sync: float


@dataclass(frozen=True, kw_only=True)
class ENetTrainingConfig(TrainingConfig):
    """Config of E-Net's training.

    Attributes:
        loss_weights: factors of the losses.
        perceptual: feature network.
        lnet: the frozen L-Net.
        expert: the frozen lip-sync expert (with ``loss_weights.sync``).
        arcface: the frozen recognition network (with ``loss_weights.identity``): ArcFace, or SFace as a named
            stand-in.
        targets: ``restored`` for the restored set of the paper, ``original`` for the stored frames.
        num_frames: frames of a window; five with the sync loss.
        jpeg_quality: range of the quality of the inputs' compression.
        model: sizes.
        discriminator: sizes.
    """

    network: Literal["enet"] = "enet"
    loss_weights: ENetLossWeights
    perceptual: PerceptualConfig
    lnet: FrozenConfig
    expert: FrozenConfig
    arcface: FrozenConfig
    targets: Literal["restored", "original"] = "restored"
    num_frames: int = SYNC_FRAMES
    jpeg_quality: tuple[int, int] = (60, 100)
    model: ENetConfig = field(default_factory=ENetConfig)
    discriminator: ENetDiscriminatorConfig = field(default_factory=ENetDiscriminatorConfig)

    def __post_init__(self) -> None:
        """Refuse numbers that no sample has, and windows that the expert does not take."""
        require_range(self, "num_frames", least=1)
        require_range(self, "jpeg_quality", least=0, most=100)
        if self.loss_weights.sync and self.num_frames != SYNC_FRAMES:
            raise UserError(
                f"num_frames is {self.num_frames}, but the lip-sync expert judges {SYNC_FRAMES} frames: set "
                f"num_frames={SYNC_FRAMES}, or loss_weights.sync=0"
            )


class ENetStep(SyncStep):
    """Bring degraded frames, passed through the frozen L-Net, back to the high-resolution target.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples: ClassVar[type[ClipDataset]] = ENetClips
    config: ENetTrainingConfig

    def __init__(self, config: ENetTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        weights = config.loss_weights
        self.loss_weights = dataclasses.asdict(weights)
        self.network = ENet(config.model).to(device)
        self.lnet = load_frozen(config.lnet, "lnet", device)
        assert isinstance(self.lnet, LNet)
        self.antialias = self.lnet.config.antialias
        features = load_features(config.perceptual, device)
        self.perceptual = make_perceptual_loss(config.perceptual, features)
        self.expert = load_expert(config.expert, device) if weights.sync else None
        self.identity = IdentityLoss(load_recognizer(config.arcface, device)) if weights.identity else None
        if weights.adversarial:
            self.discriminator = ENetDiscriminator(config.discriminator).to(device)
            self.discriminator_loss_weights = {"discriminator": 1.0}

    def sample_options(self) -> dict[str, Any]:
        """Targets, length, compression and size."""
        config = self.config
        return {
            "targets": config.targets,
            "num_frames": config.num_frames,
            "jpeg_quality": config.jpeg_quality,
            "size": self._size,
        }

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``l1``, ``perceptual``, ``adversarial``, ``identity`` and ``sync``."""
        target = unroll_clip(batch["target"])
        low_res, target = self.choose_part(batch, self.make_input(batch), target, network.training, step)
        # fixed noise is what runs; while the network learns, it would learn where the grain lies
        seeds = batch["noise_seeds"].t().flatten() if network.training else None
        output = network(low_res, unroll_clip(batch["reference"]), seeds)
        losses = {"l1": l1_loss(output, target), "perceptual": self.perceptual(output, target)}
        metrics = image_metrics(network, output, target)
        losses |= self.judge_picture(output, step)
        losses |= self.compare_people(network, low_res, seeds, batch, output, target)
        is_whole = target.shape[-1] == self._size
        if self.identity is not None and is_whole:
            losses["identity"] = self.identity(output, target, unroll_audio(batch["from_recognition"]))
        if self.expert is not None and is_whole:
            losses["sync"], metrics["sync_probability"] = self.judge_speech(self.expert, output, batch)
        first = slice(0, len(batch["target"]))  # time-major: the first frame of every clip
        images = {
            "input": low_res[first],
            "reference": batch["reference"][:, :, 0],
            "output": output[first],
            "target": target[first],
        }
        return StepOutput(losses, images, metrics, output, target)

    def choose_part(
        self, batch: dict[str, Any], low_res: torch.Tensor, target: torch.Tensor, training: bool, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What of input and target is computed: all of it."""
        return low_res, target

    def judge_speech(
        self,
        expert: LipSyncExpert,
        output: torch.Tensor,
        batch: dict[str, Any],
        sample_weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss ``sync`` of whole faces [T * B, 3, H, W], and the mean probability (:func:`judge_sync`)."""
        clip = roll_clip(shrink(output, LNET_SIZE, expert.config.antialias), self.config.num_frames)
        return judge_sync(expert, clip, batch["sync_audio"], sample_weight)

    def compare_people(
        self,
        network: nn.Module,
        low_res: torch.Tensor,
        seeds: torch.Tensor | None,
        batch: dict[str, Any],
        output: torch.Tensor,
        target: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses on what another person's reference changes; none in the paper."""
        return {}

    def judge_picture(self, output: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """Loss ``adversarial`` of images [N, 3, H, W], where there is an adversary."""
        if self.discriminator is None:
            return {}
        return {"adversarial": generator_loss(self.discriminator(_as_shown(output)))}

    def discriminate(
        self, discriminator: nn.Module, output: StepOutput, step: int
    ) -> dict[str, torch.Tensor]:
        """Loss ``discriminator``."""
        assert output.fake is not None and output.real is not None
        real, fake = discriminator(output.real), discriminator(_as_shown(output.fake.detach()))
        return {"discriminator": discriminator_loss(real, fake)}

    def discriminator_optimizer(self) -> OptimizerConfig:
        """The same as the generator's."""
        return self.config.optimizer

    def preview(self, network: nn.Module, dataset: ClipDataset) -> torch.Tensor | None:
        """A clip with its own speech: input, output, target side by side."""
        assert isinstance(dataset, ENetClips)
        sample = dataset.preview(0, self.config.loop.preview_frames)
        frames = []
        for frame in range(sample["target"].shape[2]):  # one at a time: 384-pixel clips are large
            part = sample | {
                "audio": sample["audio"][:, frame : frame + 1],
                "target": sample["target"][:, :, frame : frame + 1],
                "reference": sample["reference"][:, :, frame : frame + 1],
            }
            batch = as_tensors(part, self.device)
            low_res, target = self.make_input(batch), unroll_clip(batch["target"])
            output = network(low_res, unroll_clip(batch["reference"]))
            frames.append(torch.cat([resize(low_res, self._size), output, target], dim=3))
        return torch.cat(frames)

    @property
    def _size(self) -> int:
        """Side of the high-resolution faces."""
        return self.config.model.low_size * 2 ** len(self.config.model.style_channels)

    @torch.no_grad()
    def make_input(self, batch: dict[str, Any]) -> torch.Tensor:
        """Degrade the target and pass it through L-Net with its own speech: [T * B, 3, 96, 96]."""
        low = self.degrade(batch)
        # the frame itself is L-Net's reference, so that L-Net should give it back (section 3.3)
        image: torch.Tensor = self.lnet(unroll_audio(batch["audio"]), lnet_input(low, low))
        return image

    def degrade(self, batch: dict[str, Any]) -> torch.Tensor:
        """The target as L-Net sees it: [T * B, 3, 96, 96]."""
        target = unroll_clip(batch["target"])
        quality = batch["jpeg_quality"].repeat(batch["target"].shape[2])  # time-major as the frames
        return degrade(target, quality, self.config.model.low_size, self.antialias)


def _as_shown(image: torch.Tensor) -> torch.Tensor:
    """What a picture can hold: beyond black and white the discriminator could be deceived without end."""
    return image.clamp(0.0, 1.0)

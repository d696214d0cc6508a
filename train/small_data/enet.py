"""E-Net on little data: stills beside clips, inputs spoiled beyond compression, an adversary that comes later."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import require_range
from videoretalking.core.quality import detail
from videoretalking.datasets.degradations import blur, recolor
from videoretalking.datasets.small_data import BlurredENetClips
from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import unroll_audio, unroll_clip
from videoretalking.models.layers.style import ModulatedConv
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.models.lnet import lnet_input
from videoretalking.train.config import OptimizerConfig
from videoretalking.train.steps.enet import ENetStep, ENetTrainingConfig


@dataclass(frozen=True, kw_only=True)
class ENetSmallDataConfig(ENetTrainingConfig):
    """Config of E-Net's training on little data.

    Attributes:
        num_frames: frames of a window; 1 where stills take part, which have no sync loss.
        blur: largest standard deviation of the blur of E-Net's input, in its pixels.
        cast: strength of a change of light and color of E-Net's input, 0 .. 1.
        adversarial_from: step from which on the adversary takes part. It sharpens what is there, and would hinder a
            picture that is still to come.
        discriminator_rate: learning rate of the adversary in those of the network. One that learns as slowly as its
            opponent does not find in batches of one what is wrong with the pictures.
        part_size: side of the part of E-Net's input that a step computes, in its pixels; 0 for all. The style
            blocks look at a few pixels only, so parts teach them the same for less work.
        contrast: weight of a loss on what the reference is for: under the picture of another one of the batch the
            result shall be further from the target than under the own one.
        contrast_margin: by how many decibels, at least.
        detail: weight of a loss on how sharp the result is against the target, which pixel losses leave blurred.
        identity_only: only what says and reads the style code learns; the grain stays as an adversary left it.
        whole_every: every how many steps the whole face is computed all the same, which the losses on identity and
            sync need.
    """

    step: Literal["enet_small_data"] = "enet_small_data"
    num_frames: int = 1
    blur: float = 0.0
    cast: float = 0.0
    adversarial_from: int = 0
    discriminator_rate: float = 1.0
    part_size: int = 0
    contrast: float = 0.0
    contrast_margin: float = 0.5
    detail: float = 0.0
    identity_only: bool = False
    whole_every: int = 1

    def __post_init__(self) -> None:
        """Refuse what is no width and no strength."""
        super().__post_init__()
        require_range(self, "blur", least=0, most=2)
        require_range(self, "cast", least=0, most=1)
        require_range(self, "whole_every", least=1)
        require_range(self, "adversarial_from", "discriminator_rate", least=0)
        require_range(self, "contrast", "contrast_margin", "detail", least=0)
        require_range(self, "part_size", least=0, most=self.model.low_size)


class ENetSmallDataStep(ENetStep):
    """E-Net's step on clips and stills, with inputs that the reference alone can mend.

    A still has no speech, so L-Net would close or open its mouth; it goes around L-Net, which should give back its
    input anyway.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples = BlurredENetClips
    config: ENetSmallDataConfig

    def __init__(self, config: ENetSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.first_adversarial_step = config.adversarial_from
        self.loss_weights = {**self.loss_weights, "contrast": config.contrast, "detail": config.detail}
        if config.identity_only:
            assert isinstance(self.network, ENet)
            learn_identity_only(self.network)

    def sample_options(self) -> dict[str, Any]:
        """The paper's, and how far inputs are spoiled."""
        return super().sample_options() | {"blur": self.config.blur, "cast": self.config.cast}

    def discriminator_optimizer(self) -> OptimizerConfig:
        """That of the network, with its own rate."""
        optimizer = self.config.optimizer
        return dataclasses.replace(optimizer, lr=self.config.discriminator_rate * optimizer.lr)

    def compare_people(
        self,
        network: nn.Module,
        low_res: torch.Tensor,
        seeds: torch.Tensor | None,
        batch: dict[str, Any],
        output: torch.Tensor,
        target: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Losses ``contrast`` and ``detail``, where wanted.

        ``contrast`` is how much of the margin is missing, in decibels, under the picture of the next one in the
        batch. Two samples of one person are rare among hundreds, and cost no more than the margin. ``detail`` is
        the logarithm of the ratio of :func:`core.quality.detail`, whichever is sharper.
        """
        losses = {}
        if self.config.detail:
            ratio = (_sharpness(output) / _sharpness(target)).log()
            losses["detail"] = ratio.abs().mean()
        if not self.config.contrast or len(low_res) < 2:
            return losses
        others = unroll_clip(batch["reference"]).roll(1, dims=0)
        with_other = network(low_res, others, seeds)
        gain = _decibels(with_other, target) - _decibels(output, target)
        return losses | {"contrast": F.relu(self.config.contrast_margin - gain).mean()}

    def judge_picture(self, output: torch.Tensor, step: int) -> dict[str, torch.Tensor]:
        """The adversary's verdict, once it takes part."""
        return super().judge_picture(output, step) if step >= self.first_adversarial_step else {}

    def judge_speech(
        self,
        expert: LipSyncExpert,
        output: torch.Tensor,
        batch: dict[str, Any],
        sample_weight: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the paper's, but clips without sound do not count."""
        return super().judge_speech(expert, output, batch, batch["speech"])

    def choose_part(
        self, batch: dict[str, Any], low_res: torch.Tensor, target: torch.Tensor, training: bool, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same square of input and target, at a place of its own in each sample."""
        size, config = self.config.part_size, self.config
        if not training or not size or step % config.whole_every == 0:
            return low_res, target
        factor = self._size // config.model.low_size
        corners = (batch["part"] * (config.model.low_size - size)).round().long()
        corners = corners.repeat(batch["target"].shape[2], 1)  # time-major as the frames
        lows, targets = [], []
        for frame, wanted, (x, y) in zip(low_res, target, corners.tolist(), strict=True):
            lows.append(frame[:, y : y + size, x : x + size])
            left, top, side = factor * x, factor * y, factor * size
            targets.append(wanted[:, top : top + side, left : left + side])
        return torch.stack(lows), torch.stack(targets)

    @torch.no_grad()
    def make_input(self, batch: dict[str, Any]) -> torch.Tensor:
        """Frames with speech through L-Net, then blur and color: [T * B, 3, 96, 96]."""
        low = self.degrade(batch)
        num_frames = batch["target"].shape[2]
        spoken = batch["speech"].repeat(num_frames) > 0.5  # time-major as the frames
        if spoken.any():
            audio, faces = unroll_audio(batch["audio"])[spoken], low[spoken]
            painted: torch.Tensor = self.lnet(audio, lnet_input(faces, faces))
            low = low.clone()
            low[spoken] = painted.clamp(0.0, 1.0).to(low.dtype)
        blurred = blur(low, batch["blur"].repeat(num_frames))
        return recolor(blurred, batch["cast"].repeat(num_frames, 1, 1))


def learn_identity_only(network: ENet) -> None:
    """Freeze all but the identity encoder and the layers that turn its code into factors of convolutions."""
    network.requires_grad_(False)
    network.identity_encoder.requires_grad_(True)
    for module in network.modules():
        if isinstance(module, ModulatedConv):
            module.modulation.requires_grad_(True)


def _sharpness(image: torch.Tensor) -> torch.Tensor:
    """[N] detail of images, not quite 0 for flat ones."""
    return detail(image.float()) + 1e-3


def _decibels(image: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """[N] mean square differences of images [N, 3, H, W] in [0, 1], in dB: the less, the nearer."""
    return 10.0 * (image.float() - target.float()).square().mean(dim=(1, 2, 3)).clamp_min(1e-8).log10()

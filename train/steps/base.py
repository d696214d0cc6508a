"""What the loop needs to know of one network's training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from videoretalking.core.quality import psnr
from videoretalking.datasets.base import ClipDataset, SampleSource
from videoretalking.metrics.ssim import ssim
from videoretalking.train.config import OptimizerConfig, TrainingConfig


class StepOutput(NamedTuple):
    """What one forward pass gives.

    Attributes:
        losses: scalar losses by name, unweighted, to be minimized.
        images: rows of the image grid by name, each [N, 3, H, W] in [0, 1].
        metrics: scalars that are only logged.
        fake: what the discriminator is shown as generated (with its graph; detach before use).
        real: what it is shown as real.
    """

    losses: dict[str, torch.Tensor]
    images: dict[str, torch.Tensor]
    metrics: dict[str, torch.Tensor]
    fake: torch.Tensor | None = None
    real: torch.Tensor | None = None


class Step(ABC):
    """Training of one network.

    Args:
        config: the training config.
        device: where to compute.

    Attributes:
        samples: the data set's class.
        config: the training config.
        device: where to compute.
        network: the trained module. The loop wraps it for several processes and hands it back to
            :meth:`generate`.
        discriminator: its adversary, or None.
        loss_weights: factor of each loss of :meth:`generate`.
        discriminator_loss_weights: factor of each loss of :meth:`discriminate`.
        first_adversarial_step: step from which on the discriminator is trained.
        has_unused_parameters: whether some parameters get no gradient in some steps.
    """

    samples: ClassVar[type[ClipDataset]]
    config: TrainingConfig
    network: nn.Module
    discriminator: nn.Module | None = None
    loss_weights: Mapping[str, float]
    discriminator_loss_weights: Mapping[str, float] = {}
    first_adversarial_step = 0
    has_unused_parameters = False

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config = config
        self.device = device

    def dataset(self, training: bool) -> ClipDataset:
        """Samples with augmentation for training, or plain ones of the validation split."""
        config = self.config
        source = SampleSource(config.data, config.augment, config.loop.seed, training)
        return self.samples(source, **self.sample_options())

    def sample_options(self) -> dict[str, Any]:
        """Arguments of :attr:`samples` beside the source."""
        return {}

    @abstractmethod
    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Forward pass and losses of the network.

        Args:
            network: ``self.network``, wrapped, or its moving average.
            batch: collated samples on the device.
            step: number of the step, from 0.
        """

    def discriminate(
        self, discriminator: nn.Module, output: StepOutput, step: int
    ) -> dict[str, torch.Tensor]:
        """Losses of the discriminator on the output of :meth:`generate` of the same step."""
        raise NotImplementedError(f"{type(self).__name__} has no discriminator")

    def discriminator_optimizer(self) -> OptimizerConfig:
        """Optimizer of the discriminator."""
        raise NotImplementedError(f"{type(self).__name__} has no discriminator")

    def exported(self, network: nn.Module) -> nn.Module:
        """The part of the trained module that is saved as a checkpoint of its own."""
        return network

    def preview(self, network: nn.Module, dataset: ClipDataset) -> torch.Tensor | None:
        """Frames [T, 3, H, W] of a short video made from the first clip of ``dataset(training=False)``, or None."""
        return None

    def score(self, network: nn.Module, dataset: ClipDataset, clips: Sequence[int]) -> dict[str, float]:
        """Figures of whole validation clips that windows of five frames cannot give; {} where there are none.

        Args:
            network: the network to judge, in eval mode.
            dataset: ``dataset(training=False)``.
            clips: indices of the clips.
        """
        return {}

    def after_step(self, losses: Mapping[str, torch.Tensor], step: int) -> None:  # noqa: B027 - optional
        """React to the losses of one training step, from 0: the means of its micro-batches, on the device."""

    def after_validation(self, values: Mapping[str, float]) -> None:  # noqa: B027 - optional
        """React to validation losses and metrics."""

    def state_dict(self) -> dict[str, Any]:
        """State of the step itself that a resumed run needs."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - optional
        """Restore :meth:`state_dict`."""


@torch.no_grad()
def image_metrics(network: nn.Module, output: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """PSNR in dB and SSIM of [B, 3, H, W] in [0, 1], higher is better; nothing while ``network`` trains."""
    if network.training:
        return {}
    with torch.autocast(
        output.device.type, enabled=False
    ):  # variances are small differences of large numbers
        output, target = output.float().clamp(0.0, 1.0), target.float()
        return {"psnr": psnr(output, target).mean(), "ssim": ssim(output, target).mean()}


def as_tensors(sample: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Arrays of a preview sample as tensors on the device."""
    return {
        name: value if isinstance(value, list) else torch.as_tensor(value).to(device)
        for name, value in sample.items()
    }

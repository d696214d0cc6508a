"""What the loop needs to know of one network's training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.quality import psnr
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.metrics.ssim import ssim
from videoretalking.train.config import LoopConfig, OptimizerConfig


class TrainingConfig(Protocol):
    """The groups that the config of every network has."""

    @property
    def network(self) -> str:
        """Name of the trained network in the catalog."""

    @property
    def loop(self) -> LoopConfig:
        """The run."""

    @property
    def data(self) -> DataConfig:
        """Prepared data."""

    @property
    def augment(self) -> AugmentConfig:
        """Augmentation of training samples."""

    @property
    def optimizer(self) -> OptimizerConfig:
        """Optimizer of the network."""


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

    Attributes:
        network: the trained module. The loop wraps it for several processes and hands it back to
            :meth:`generate`.
        exported: the part of ``network`` that is saved as a checkpoint of its own.
        discriminator: its adversary, or None.
        weights: factor of each loss of :meth:`generate`.
        discriminator_weights: factor of each loss of :meth:`discriminate`.
        has_unused_parameters: whether some parameters get no gradient in some steps.
    """

    network: nn.Module
    discriminator: nn.Module | None = None
    weights: Mapping[str, float]
    discriminator_weights: Mapping[str, float] = {}
    has_unused_parameters = False

    @abstractmethod
    def dataset(self, training: bool) -> Dataset[dict[str, Any]]:
        """Samples with augmentation for training, or plain ones of the validation split."""

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

    def preview(
        self, network: nn.Module, dataset: Dataset[dict[str, Any]], device: torch.device
    ) -> torch.Tensor | None:
        """Frames [T, 3, H, W] of a short video made from the first clip of ``dataset(training=False)``, or None."""
        return None

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

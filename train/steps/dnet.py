"""Training of D-Net: first mapping and warping, then the whole network (paper, section C.1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from videoretalking.core.config import require_range
from videoretalking.core.constants import DNET_SIZE
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.losses.perceptual import StyleLoss
from videoretalking.models.dnet import DNet, DNetConfig, DNetOutput
from videoretalking.train.config import PerceptualConfig, TrainingConfig
from videoretalking.train.frozen import load_features, make_perceptual_loss
from videoretalking.train.steps.base import Step, StepOutput, as_tensors, image_metrics


@dataclass(frozen=True)
class DNetLossWeights:
    """Factors of the losses.

    Attributes:
        warp: perceptual loss of the warped image (eq. 1), in both stages.
        perceptual: perceptual loss of the final image (eq. 2, lambda_c).
        style: Gram style loss of the final image (eq. 3, lambda_s).
    """

    warp: float
    perceptual: float
    style: float


@dataclass(frozen=True, kw_only=True)
class DNetTrainingConfig(TrainingConfig):
    """Config of D-Net's training; of the augmentation only the color counts.

    Attributes:
        loss_weights: factors of the losses.
        perceptual: feature network.
        warp_steps: steps of the first stage.
        size: side of the images in pixels.
        far_mouths: share of the pairs whose mouths are open most differently (:class:`DNetPairs`); paper: 0.
        model: sizes.
    """

    network: Literal["dnet"] = "dnet"
    loss_weights: DNetLossWeights
    perceptual: PerceptualConfig
    warp_steps: int
    size: int = DNET_SIZE
    far_mouths: float = 0.0
    model: DNetConfig = field(default_factory=DNetConfig)

    def __post_init__(self) -> None:
        """Refuse a share that is none, and a stage of less than no steps."""
        require_range(self, "far_mouths", least=0, most=1)
        require_range(self, "warp_steps", least=0)


class DNetStep(Step):
    """Reconstruct the target frame from the source frame and the target's coefficients.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples: ClassVar[type[ClipDataset]] = DNetPairs
    config: DNetTrainingConfig
    has_unused_parameters = True  # the first stage does not run the editing network

    def __init__(self, config: DNetTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.loss_weights = dataclasses.asdict(config.loss_weights)
        self.network = DNet(config.model).to(device)
        if config.model.standardize:
            data = self.dataset(training=True)
            assert isinstance(data, DNetPairs)
            self.network.mapping.set_statistics(*map(torch.from_numpy, data.motion_statistics()))
        features = load_features(config.perceptual, device)
        self.perceptual = make_perceptual_loss(config.perceptual, features)
        self.style = StyleLoss(features, config.perceptual.distance)

    def sample_options(self) -> dict[str, Any]:
        """The size of images and of coefficient windows, and which frames make a pair."""
        config = self.config
        return {"size": config.size, "window": config.model.window, "far_mouths": config.far_mouths}

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``warp`` and, in the second stage, ``perceptual`` and ``style``."""
        target = batch["target"]
        warp_only = step < self.config.warp_steps
        rendered = network(batch["source"], batch["coefficients"], warp_only=warp_only)
        # Assumed: the warping loss stays on in the second stage, as in PIRenderer, whose scheme this is.
        losses = self.compare_warped(rendered, batch, warp_only)
        if not warp_only:
            losses["perceptual"] = self.perceptual(rendered.image, target)
            losses["style"] = self.style(rendered.image, target)
        pictures = {
            "source": batch["source"],
            "warped": rendered.warped,
            "output": rendered.image,
            "target": target,
        }
        return StepOutput(losses, pictures, image_metrics(network, rendered.image, target))

    def compare_warped(
        self, rendered: DNetOutput, batch: dict[str, Any], warp_only: bool
    ) -> dict[str, torch.Tensor]:
        """The loss ``warp``."""
        return {"warp": self.perceptual(rendered.warped, batch["target"])}

    def preview(self, network: nn.Module, dataset: ClipDataset) -> torch.Tensor | None:
        """A clip re-rendered from its first frame: source, output, target side by side."""
        assert isinstance(dataset, DNetPairs)
        batch = as_tensors(dataset.preview(0, self.config.loop.preview_frames), self.device)
        frames = [
            network(source[None], coefficients[None]).image
            for source, coefficients in zip(batch["source"], batch["coefficients"], strict=True)
        ]
        return torch.cat([batch["source"], torch.cat(frames), batch["target"]], dim=3)

"""Training of D-Net: first mapping and warping, then the whole network (paper, section C.1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.constants import DNET_SIZE
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.losses.landmarks import LandmarkLoss, flow_loss
from videoretalking.losses.perceptual import StyleLoss
from videoretalking.models.dnet import DNet, DNetConfig, sampling_grid
from videoretalking.train.config import FrozenConfig, LoopConfig, OptimizerConfig, PerceptualConfig
from videoretalking.train.frozen import load_features, load_frozen, make_perceptual_loss
from videoretalking.train.steps.base import Step, StepOutput, as_tensors, image_metrics


@dataclass(frozen=True)
class DNetWeights:
    """Factors of the losses.

    Attributes:
        warp: perceptual loss of the warped image (eq. 1), in both stages.
        perceptual: perceptual loss of the final image (eq. 2, lambda_c).
        style: Gram style loss of the final image (eq. 3, lambda_s).
        landmarks: distance of the landmarks of both images from the target's; for small data, not in the paper.
        flow: how far the flow misses the landmarks of the prepared data; likewise.
    """

    warp: float
    perceptual: float
    style: float
    landmarks: float = 0.0
    flow: float = 0.0


@dataclass(frozen=True)
class DNetTrainingConfig:
    """Config of D-Net's training.

    Attributes:
        loop: the run.
        data: prepared data.
        optimizer: Adam.
        weights: loss weights.
        perceptual: feature network.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        warp_steps: steps of the first stage.
        max_gap: largest distance of source and target in frames; 0 for any, as in the paper.
        align_source: show the source in the target's pose, in the plane (:class:`DNetPairs`).
        size: side of the images in pixels.
        model: sizes.
        augment: augmentation (color only).
        network: name in the catalog.
    """

    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    weights: DNetWeights
    perceptual: PerceptualConfig
    warp_steps: int
    max_gap: int = 0
    align_source: bool = False
    landmarks: FrozenConfig = field(default_factory=lambda: FrozenConfig(""))
    size: int = DNET_SIZE
    model: DNetConfig = field(default_factory=DNetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: Literal["dnet"] = "dnet"


class DNetStep(Step):
    """Reconstruct the target frame from the source frame and the target's coefficients.

    Args:
        config: the training config.
        device: where to compute.
    """

    has_unused_parameters = True  # the editing network rests during the first stage

    def __init__(self, config: DNetTrainingConfig, device: torch.device) -> None:
        self.config = config
        self.weights = dataclasses.asdict(config.weights)
        self.network = DNet(config.model).to(device)
        if config.model.standardize:
            data = self.dataset(training=True)
            assert isinstance(data, DNetPairs)
            self.network.mapping.set_statistics(*map(torch.from_numpy, data.motion_statistics()))
        features = load_features(config.perceptual, device)
        self.perceptual = make_perceptual_loss(config.perceptual, features)
        self.style = StyleLoss(features, config.perceptual.distance)
        self.landmarks: LandmarkLoss | None = None
        if config.weights.landmarks:
            self.landmarks = LandmarkLoss(load_frozen(config.landmarks, "landmarks", device))

    def dataset(self, training: bool) -> Dataset[dict[str, Any]]:
        """:class:`DNetPairs`."""
        data = self.config.data
        return DNetPairs(
            data,
            data.train_split if training else data.val_split,
            self.config.augment if training else AugmentConfig(),
            self.config.loop.seed,
            data.release_only and training,
            self.config.size,
            self.config.max_gap,
            self.config.weights.flow > 0,
            self.config.align_source,
        )

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``warp``, ``landmarks``, ``flow`` and, in the second stage, ``perceptual`` and ``style``."""
        target = batch["target"]
        warp_only = step < self.config.warp_steps
        rendered = network(batch["source"], batch["coefficients"], warp_only=warp_only)
        # Assumed: the warping loss stays on in the second stage, as in PIRenderer, whose scheme this is.
        losses = {"warp": self.perceptual(rendered.warped, target)}
        if self.landmarks is not None:
            images = [rendered.warped] if warp_only else [rendered.warped, rendered.image]
            losses["landmarks"] = torch.stack([self.landmarks(image, target) for image in images]).sum()
        if self.config.weights.flow:
            grid = sampling_grid(rendered.flow, (target.shape[-2], target.shape[-1]))
            losses["flow"] = flow_loss(grid, batch["source_points"], batch["target_points"])
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

    def preview(
        self, network: nn.Module, dataset: Dataset[dict[str, Any]], device: torch.device
    ) -> torch.Tensor | None:
        """A clip re-rendered from its first frame: source, output, target side by side."""
        assert isinstance(dataset, DNetPairs)
        batch = as_tensors(dataset.preview(0, self.config.loop.preview_frames), device)
        frames = [
            network(source[None], coefficients[None]).image
            for source, coefficients in zip(batch["source"], batch["coefficients"], strict=True)
        ]
        return torch.cat([batch["source"], torch.cat(frames), batch["target"]], dim=3)

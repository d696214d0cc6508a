"""Training of the bundled landmark network, which is not part of the paper."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.landmarks import LandmarkCrops
from videoretalking.losses.landmarks import confidence_loss, normalized_mean_error, wing_loss
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.train.config import LoopConfig, OptimizerConfig
from videoretalking.train.steps.base import Step, StepOutput


@dataclass(frozen=True)
class LandmarkWeights:
    """Factors of the losses.

    Attributes:
        points: wing loss of the points.
        confidence: cross-entropy of face or no face.
        lips: wing loss of the lips' shape, their points from their common middle: lips open by little, so among all
            points nearly nothing is lost where they stay shut.
    """

    points: float
    confidence: float
    lips: float = 0.0


@dataclass(frozen=True)
class LandmarkTrainingConfig:
    """Config of the landmark network's training.

    Attributes:
        loop: the run.
        data: prepared data whose landmarks are the labels.
        optimizer: Adam.
        weights: loss weights.
        negatives: share of crops without a face.
        model: sizes.
        augment: augmentation.
        network: name in the catalog.
    """

    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    weights: LandmarkWeights
    negatives: float = 0.0
    model: LandmarkNetConfig = field(default_factory=LandmarkNetConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: Literal["landmarks"] = "landmarks"


class LandmarkStep(Step):
    """Locate 68 points and tell faces from other crops.

    Args:
        config: the training config.
        device: where to compute.
    """

    def __init__(self, config: LandmarkTrainingConfig, device: torch.device) -> None:
        self.config = config
        self.weights = dataclasses.asdict(config.weights)
        self.network = LandmarkNet(config.model).to(device)

    def dataset(self, training: bool) -> Dataset[dict[str, Any]]:
        """:class:`LandmarkCrops`."""
        data = self.config.data
        return LandmarkCrops(
            data,
            data.train_split if training else data.val_split,
            self.config.augment if training else AugmentConfig(),
            self.config.loop.seed,
            data.release_only and training,
            self.config.negatives,
        )

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``points``, ``lips`` and ``confidence``; metrics ``nme`` (of faces) and ``accuracy``."""
        found = network(batch["image"])
        is_face = batch["is_face"]
        points, wanted = found.points.float() / LANDMARK_SIZE, batch["points"] / LANDMARK_SIZE
        losses = {
            "points": wing_loss(points, wanted, is_face),
            "lips": wing_loss(_center(points[:, LIPS]), _center(wanted[:, LIPS]), is_face),
            "confidence": confidence_loss(found.confidence, is_face),
        }
        with torch.no_grad():
            error = normalized_mean_error(found.points.float(), batch["points"]).nan_to_num(0.0, 0.0, 0.0)
            metrics = {
                "nme": (error * is_face).sum() / is_face.sum().clamp_min(1.0),
                "accuracy": ((found.confidence > 0) == (is_face > 0.5)).float().mean(),
            }
        images = {
            "output": mark_points(batch["image"], found.points),
            "target": mark_points(batch["image"], batch["points"]),
        }
        return StepOutput(losses, images, metrics)


def _center(points: torch.Tensor) -> torch.Tensor:
    return points - points.mean(dim=1, keepdim=True)


def mark_points(image: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Color the pixels nearest to points [B, N, 2] green in a copy of [B, 3, H, W]."""
    marked = image.clone()
    height, width = image.shape[-2:]
    x, y = points.detach().round().long().unbind(dim=-1)
    sample = torch.arange(len(image), device=image.device)[:, None].expand_as(x)
    marked[sample, :, y.clamp(0, height - 1), x.clamp(0, width - 1)] = marked.new_tensor([0.0, 1.0, 0.0])
    return marked

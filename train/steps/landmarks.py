"""Training of the bundled landmark network, which is not part of the paper."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from videoretalking.core.config import require_range
from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.landmarks import LandmarkCrops
from videoretalking.losses.landmarks import confidence_loss, normalized_mean_error, wing_loss
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.train.config import TrainingConfig
from videoretalking.train.steps.base import Step, StepOutput


@dataclass(frozen=True)
class LandmarkLossWeights:
    """Factors of the losses.

    Attributes:
        points: wing loss of the points.
        confidence: cross-entropy of face or no face.
        lips: wing loss of the lips' shape, their points from their common middle. Lips open by little, so the loss
            over all points hardly notices lips that are found shut.
    """

    points: float
    confidence: float
    lips: float = 0.0


@dataclass(frozen=True, kw_only=True)
class LandmarkTrainingConfig(TrainingConfig):
    """Config of the landmark network's training; the landmarks of the data are the labels.

    Attributes:
        loss_weights: factors of the losses.
        negatives: share of crops without a face.
        model: sizes.
    """

    network: Literal["landmarks"] = "landmarks"
    loss_weights: LandmarkLossWeights
    negatives: float = 0.0
    model: LandmarkNetConfig = field(default_factory=LandmarkNetConfig)

    def __post_init__(self) -> None:
        """Refuse a share that is none."""
        require_range(self, "negatives", least=0, most=1)


class LandmarkStep(Step):
    """Locate 68 points and tell faces from other crops.

    Args:
        config: the training config.
        device: where to compute.
    """

    samples: ClassVar[type[ClipDataset]] = LandmarkCrops
    config: LandmarkTrainingConfig

    def __init__(self, config: LandmarkTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        self.loss_weights = dataclasses.asdict(config.loss_weights)
        self.network = LandmarkNet(config.model).to(device)

    def sample_options(self) -> dict[str, Any]:
        """The share of negatives."""
        return {"negatives": self.config.negatives}

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

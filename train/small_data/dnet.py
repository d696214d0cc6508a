"""D-Net on little data: landmarks of both images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F

from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.datasets.small_data import NearDNetPairs
from videoretalking.losses.landmarks import LandmarkLoss, cut_mouths, flow_loss, opening_loss, parts_of_side
from videoretalking.models.dnet import DNetOutput, sampling_grid
from videoretalking.train.config import FrozenConfig
from videoretalking.train.frozen import load_frozen
from videoretalking.train.steps.dnet import DNetLossWeights, DNetStep, DNetTrainingConfig


@dataclass(frozen=True)
class DNetSmallDataLossWeights(DNetLossWeights):
    """Factors of the losses; further ones beside the paper's.

    Attributes:
        landmarks: distance of the landmarks of both images from the target's.
        flow: how far the flow misses the landmarks of the prepared data.
        mouth: the perceptual loss again, on the enlarged mouth, which is a thirtieth of the picture.
        opening: difference of the gap between the inner lips; goes with ``landmarks``.
    """

    landmarks: float = 0.0
    flow: float = 0.0
    mouth: float = 0.0
    opening: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DNetSmallDataConfig(DNetTrainingConfig):
    """Config of D-Net's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        landmarks: the frozen landmark network of the loss on landmarks; needed by that loss alone.
        max_gap: largest distance of source and target in frames; 0 for any.
        align_source: show the source in the target's pose, in the plane (:class:`NearDNetPairs`).

    Raises:
        UserError: a weight for the opening without one for the landmarks.
    """

    step: Literal["dnet_small_data"] = "dnet_small_data"
    loss_weights: DNetSmallDataLossWeights
    landmarks: FrozenConfig = field(default_factory=FrozenConfig.none)
    max_gap: int = 0
    align_source: bool = False

    def __post_init__(self) -> None:
        """Refuse a loss without its network."""
        super().__post_init__()
        if self.loss_weights.opening and not self.loss_weights.landmarks:
            raise UserError(
                "opening goes with the landmarks: set loss_weights.landmarks, or loss_weights.opening=0"
            )


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
        """Losses ``warp``, ``landmarks``, ``opening``, ``mouth`` and ``flow``."""
        losses = super().compare_warped(rendered, batch, warp_only)
        target = batch["target"]
        images = [rendered.warped] if warp_only else [rendered.warped, rendered.image]
        if self.landmarks is not None:
            with torch.no_grad():
                wanted = self.landmarks.find(target)
            found = [self.landmarks.find(image) for image in images]
            losses["landmarks"] = torch.stack([F.l1_loss(points, wanted) for points in found]).sum()
            if self.config.loss_weights.opening:
                openings = [opening_loss(points[:, LIPS], wanted[:, LIPS]) for points in found]
                losses["opening"] = torch.stack(openings).sum()
        if self.config.loss_weights.mouth:
            lips = parts_of_side(batch["target_points"][:, LIPS])
            wanted_mouth = cut_mouths(target, lips)
            mouths = [self.perceptual(cut_mouths(image, lips), wanted_mouth) for image in images]
            losses["mouth"] = torch.stack(mouths).sum()
        if self.config.loss_weights.flow:
            grid = sampling_grid(rendered.flow, (target.shape[-2], target.shape[-1]))
            losses["flow"] = flow_loss(grid, batch["source_points"], batch["target_points"])
        return losses

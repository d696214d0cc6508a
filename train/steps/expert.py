"""Training of the lip-sync expert (Prajwal et al. 2020), with a recipe that leaves the plateau at ln 2 = 0.69.

The plateau has known causes, and each has its counterpart: sound that is off by some frames (the offset filter of
preprocessing), negatives that are nearly in sync and windows without speech (:class:`SyncWindows`), too small a
batch and too high a rate at the start (``configs/lipsync_expert.yaml``: 64 pairs, warm-up, gradient limit).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from videoretalking.core.config import require_range
from videoretalking.core.errors import UserError
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.expert import SyncWindows
from videoretalking.losses.sync import sync_bce_loss
from videoretalking.models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig
from videoretalking.train.config import TrainingConfig
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.sync import SyncStep


@dataclass(frozen=True)
class ExpertLossWeights:
    """Factors of the losses.

    Attributes:
        bce: cross-entropy of the cosine, the published loss.
    """

    bce: float


@dataclass(frozen=True, kw_only=True)
class ExpertTrainingConfig(TrainingConfig):
    """Config of the expert's training.

    Attributes:
        loss_weights: factors of the losses.
        num_windows: windows of a clip in one sample; each is a negative of the others.
        min_shift: least distance of two windows in frames.
        model: sizes.
    """

    network: Literal["lipsync_expert"] = "lipsync_expert"
    loss_weights: ExpertLossWeights
    num_windows: int = 2
    min_shift: int = 5
    model: LipSyncExpertConfig = field(default_factory=LipSyncExpertConfig)

    def __post_init__(self) -> None:
        """Refuse windows that may be the same one."""
        require_range(self, "min_shift", least=1)


class ExpertStep(SyncStep):
    """Tell windows in sync from windows out of sync.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a single window, which has no negative.
    """

    samples: ClassVar[type[ClipDataset]] = SyncWindows
    config: ExpertTrainingConfig
    sync_name = "bce"

    def __init__(self, config: ExpertTrainingConfig, device: torch.device) -> None:
        super().__init__(config, device)
        if config.num_windows < 2:
            raise UserError(
                "num_windows is 1, but windows are each other's negatives: set num_windows=2 or more"
            )
        self.loss_weights = dataclasses.asdict(config.loss_weights)
        self.network: nn.Module = LipSyncExpert(config.model).to(device)

    def sample_options(self) -> dict[str, Any]:
        """Number and distance of the windows, and how faces are reduced."""
        config = self.config
        return {
            "num_windows": config.num_windows,
            "min_shift": config.min_shift,
            "antialias": config.model.antialias,
        }

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Loss ``bce``; the metric ``accuracy`` is 0.5 by chance."""
        windows = batch["faces"].shape[:2]
        heard, seen = network(batch["audio"].flatten(0, 1), batch["faces"].flatten(0, 1))
        heard, seen = heard.unflatten(0, windows), seen.unflatten(0, windows)
        losses = {"bce": pairwise_bce(heard, seen)}
        return StepOutput(losses, show_windows(batch["faces"]), compare_windows(heard, seen))


def show_windows(faces: torch.Tensor) -> dict[str, torch.Tensor]:
    """Grid rows of the first window [B, W, 15, 48, 96]: its first, middle and last frame."""
    pictures = faces[:, 0].unflatten(1, (-1, 3))
    frames = (0, pictures.shape[1] // 2, pictures.shape[1] - 1)
    return {f"frame {frame}": pictures[:, frame] for frame in frames}


def compare_windows(heard: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
    """How much nearer the windows of a clip [B, W, D] are to their own speech than to the others'."""
    with torch.autocast(seen.device.type, enabled=False):  # rounded cosines would often be equal
        cosines = torch.einsum("bwd,bxd->bwx", seen.float(), heard.float()).detach()
    in_sync = cosines.diagonal(dim1=1, dim2=2)[..., None]
    out_of_sync = cosines[:, _off_diagonal(seen.shape[1])]
    return {
        # each window is compared with itself too, which adds nothing
        "accuracy": (in_sync > cosines).float().sum() / out_of_sync.numel(),
        "cosine_in_sync": in_sync.mean(),
        "cosine_out_of_sync": out_of_sync.mean(),
    }


def pairwise_bce(heard: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The published loss over all pairs of windows of a clip [B, W, D], both kinds of pairs weighing the same."""
    clips, windows, _ = heard.shape
    apart = _off_diagonal(windows).to(heard.device)
    positive = sync_bce_loss(heard.flatten(0, 1), seen.flatten(0, 1), seen.new_ones(clips * windows))
    speech = heard[:, None].expand(-1, windows, -1, -1)[:, apart].flatten(0, 1)
    lips = seen[:, :, None].expand(-1, -1, windows, -1)[:, apart].flatten(0, 1)
    return 0.5 * (positive + sync_bce_loss(speech, lips, seen.new_zeros(len(lips))))


def _off_diagonal(size: int) -> torch.Tensor:
    return ~torch.eye(size, dtype=torch.bool)

"""Training of the lip-sync expert (Prajwal et al. 2020), with a recipe that leaves the plateau at ln 2 = 0.69.

The plateau has known causes, and each has its counterpart: sound that is off by some frames (the offset filter of
preprocessing), negatives that are nearly in sync and windows without speech (:class:`SyncWindows`), too small a
batch and too high a rate at the start (``configs/lipsync_expert.yaml``: 64 pairs, warm-up, gradient limit).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from core.errors import UserError
from datasets.augment import AugmentConfig
from datasets.collection import DataConfig
from datasets.crops import MOUTH_GESTURES
from datasets.expert import SyncWindows
from losses.sync import contrastive_sync_loss, sync_bce_loss
from models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig
from train.config import LoopConfig, OptimizerConfig
from train.steps.base import Step, StepOutput


@dataclass(frozen=True)
class ExpertWeights:
    """Factors of the losses.

    Attributes:
        bce: cross-entropy of the cosine, the published loss.
        contrastive: pair the windows of a sample; for small data, not in the paper.
        mouth: read the movement of the mouth from each embedding alone; for small data, not in the paper.
    """

    bce: float
    contrastive: float = 0.0
    mouth: float = 0.0


@dataclass(frozen=True)
class ExpertTraining:
    """Config of the expert's training.

    Attributes:
        loop: the run.
        data: prepared data.
        optimizer: Adam.
        weights: loss weights.
        num_windows: windows of a clip in one sample; each is a negative of the others.
        min_shift: least distance of two windows in frames.
        mouth_steps: steps in which only the mouth is learned; with little data the expert leaves the plateau
            as soon as both embeddings know it.
        model: sizes.
        augment: augmentation.
        network: name in the catalog.
    """

    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    weights: ExpertWeights
    num_windows: int = 2
    min_shift: int = 5
    mouth_steps: int = 0
    model: LipSyncExpertConfig = field(default_factory=LipSyncExpertConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: Literal["lipsync_expert"] = "lipsync_expert"


class ExpertWithMouth(nn.Module):
    """The expert and two linear heads that read the movement of the mouth from either encoder.

    Args:
        config: sizes of the expert.
        with_mouth: have the heads.
    """

    def __init__(self, config: LipSyncExpertConfig, with_mouth: bool) -> None:
        super().__init__()
        self.expert = LipSyncExpert(config)
        self.num_frames = config.num_frames
        size = config.audio_widths[-1], MOUTH_GESTURES * config.num_frames
        self.heads = nn.ModuleList(nn.Linear(*size) for _ in range(2)) if with_mouth else None

    def forward(
        self, audio: torch.Tensor, faces: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Embed N windows of speech and of lips.

        Args:
            audio: [N, 1, 80, 16] in [-4, 4].
            faces: [N, 15, 48, 96] in [0, 1].

        Returns:
            Audio and face embeddings [N, D] of unit length, and the mouth gestures [N, 5, 3] read from either
            (empty without heads).
        """
        features = (self.expert.audio_encoder(audio), self.expert.face_encoder(faces).flatten(1))
        heard, seen = (F.normalize(feature.float(), dim=1) for feature in features)
        if self.heads is None:
            return heard, seen, []
        gestures = [
            head(feature).unflatten(1, (self.num_frames, MOUTH_GESTURES))
            for head, feature in zip(self.heads, features, strict=True)
        ]
        return heard, seen, gestures


class ExpertStep(Step):
    """Tell windows in sync from windows out of sync.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a single window, which has no negative, or ``mouth_steps`` without a weight for the mouth.
    """

    def __init__(self, config: ExpertTraining, device: torch.device) -> None:
        if config.num_windows < 2:
            raise UserError(
                "num_windows is 1, but windows are each other's negatives: set num_windows=2 or more"
            )
        if config.mouth_steps and not config.weights.mouth:
            raise UserError("mouth_steps needs a weight for the mouth: set weights.mouth, or mouth_steps=0")
        self.config = config
        self.weights = dataclasses.asdict(config.weights)
        self.network = ExpertWithMouth(config.model, with_mouth=config.weights.mouth > 0).to(device)

    def exported(self, network: nn.Module) -> nn.Module:
        """The expert without the heads."""
        assert isinstance(network, ExpertWithMouth)
        return network.expert

    def dataset(self, training: bool) -> Dataset[dict[str, Any]]:
        """:class:`SyncWindows`."""
        config, data = self.config, self.config.data
        return SyncWindows(
            data,
            data.train_split if training else data.val_split,
            config.augment if training else AugmentConfig(),
            config.loop.seed,
            data.release_only and training,
            config.num_windows,
            config.min_shift,
            with_mouth=config.weights.mouth > 0,
        )

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``bce``, ``contrastive`` and ``mouth``; metric ``accuracy``, 0.5 by chance."""
        windows = batch["faces"].shape[:2]
        heard, seen, gestures = network(batch["audio"].flatten(0, 1), batch["faces"].flatten(0, 1))
        heard, seen = heard.unflatten(0, windows), seen.unflatten(0, windows)
        losses: dict[str, torch.Tensor] = {}
        if step >= self.config.mouth_steps or not network.training:
            losses["bce"] = _pairwise_bce(heard, seen)
            if self.config.weights.contrastive:
                losses["contrastive"] = contrastive_sync_loss(heard, seen)
        if gestures:
            moves = batch["mouth"].flatten(0, 1)
            losses["mouth"] = torch.stack([F.mse_loss(gesture.float(), moves) for gesture in gestures]).sum()
        cosines = torch.einsum("bwd,bxd->bwx", seen, heard).detach()
        in_sync = cosines.diagonal(dim1=1, dim2=2)[..., None]
        out_of_sync = cosines[:, _off_diagonal(windows[1])]
        metrics = {
            # the diagonal never exceeds itself
            "accuracy": (in_sync > cosines).float().sum() / out_of_sync.numel(),
            "cosine_in_sync": in_sync.mean(),
            "cosine_out_of_sync": out_of_sync.mean(),
        }
        faces = batch["faces"][:, 0].unflatten(1, (-1, 3))
        images = {f"frame {frame}": faces[:, frame] for frame in (0, faces.shape[1] // 2, faces.shape[1] - 1)}
        return StepOutput(losses, images, metrics)


def _pairwise_bce(heard: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    """The published loss over all pairs of windows of a clip [B, W, D], both kinds of pairs weighing the same."""
    clips, windows, _ = heard.shape
    apart = _off_diagonal(windows).to(heard.device)
    positive = sync_bce_loss(heard.flatten(0, 1), seen.flatten(0, 1), seen.new_ones(clips * windows))
    speech = heard[:, None].expand(-1, windows, -1, -1)[:, apart].flatten(0, 1)
    lips = seen[:, :, None].expand(-1, -1, windows, -1)[:, apart].flatten(0, 1)
    return 0.5 * (positive + sync_bce_loss(speech, lips, seen.new_zeros(len(lips))))


def _off_diagonal(size: int) -> torch.Tensor:
    return ~torch.eye(size, dtype=torch.bool)

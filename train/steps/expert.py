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

from datasets.augment import AugmentConfig
from datasets.collection import DataConfig
from datasets.crops import NUM_MOUTH
from datasets.expert import SyncWindows
from losses.sync import contrastive_sync_loss, sync_bce_loss, sync_probability
from models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig
from train.config import LoopConfig, OptimizerConfig
from train.steps.base import Step, StepOutput


@dataclass(frozen=True)
class ExpertWeights:
    """Factors of the losses.

    Attributes:
        bce: cross-entropy of the cosine, the published loss.
        contrastive: pick the right window among all of a sample; for small data, not in the paper.
        mouth: predict the shape of the mouth from each embedding alone; for small data, not in the paper.
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
        num_negatives: speech windows out of sync per sample.
        min_shift: least distance of a negative in frames.
        other_clip: share of negatives from other clips.
        model: sizes.
        augment: augmentation.
        network: name in the catalog.
    """

    loop: LoopConfig
    data: DataConfig
    optimizer: OptimizerConfig
    weights: ExpertWeights
    num_negatives: int = 1
    min_shift: int = 5
    other_clip: float = 0.0
    model: LipSyncExpertConfig = field(default_factory=LipSyncExpertConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    network: Literal["lipsync_expert"] = "lipsync_expert"


class ExpertWithMouth(nn.Module):
    """The expert and two linear heads that read the shape of the mouth from either embedding.

    Args:
        config: sizes of the expert.
        with_mouth: have the heads.
    """

    def __init__(self, config: LipSyncExpertConfig, with_mouth: bool) -> None:
        super().__init__()
        self.expert = LipSyncExpert(config)
        self.num_frames = config.num_frames
        size, shape = config.audio_widths[-1], 2 * NUM_MOUTH * config.num_frames
        self.heads = nn.ModuleList(nn.Linear(size, shape) for _ in range(2)) if with_mouth else None

    def forward(
        self, audio: torch.Tensor, faces: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Embed K windows of speech and one of lips.

        Args:
            audio: [B, K, 1, 80, 16], the window in sync first.
            faces: [B, 15, 48, 96] in [0, 1].

        Returns:
            Audio [B, K, D] and face [B, D] embeddings of unit length, and the mouth shapes [B, 5, 20, 2] read
            from the first audio embedding and the face embedding (empty without heads).
        """
        heard, seen = self.expert(audio.flatten(0, 1), faces)
        heard = heard.unflatten(0, audio.shape[:2])
        if self.heads is None:
            return heard, seen, []
        shapes = [
            head(embedding).unflatten(1, (self.num_frames, NUM_MOUTH, 2))
            for head, embedding in zip(self.heads, (heard[:, 0], seen), strict=True)
        ]
        return heard, seen, shapes


class ExpertStep(Step):
    """Tell windows in sync from windows out of sync.

    Args:
        config: the training config.
        device: where to compute.
    """

    def __init__(self, config: ExpertTraining, device: torch.device) -> None:
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
            config.num_negatives,
            config.min_shift,
            config.other_clip if training else 0.0,
            with_mouth=config.weights.mouth > 0,
        )

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses ``bce``, ``contrastive`` and ``mouth``; metric ``accuracy``, 0.5 by chance with one negative."""
        heard, seen, shapes = network(batch["audio"], batch["faces"])
        lips = seen[:, None].expand_as(heard)
        in_sync = sync_bce_loss(heard[:, 0], seen, seen.new_ones(len(seen)))
        negatives = heard[:, 1:].flatten(0, 1)
        out_of_sync = sync_bce_loss(negatives, lips[:, 1:].flatten(0, 1), seen.new_zeros(len(negatives)))
        losses = {"bce": 0.5 * (in_sync + out_of_sync)}
        if self.config.weights.contrastive:
            losses["contrastive"] = contrastive_sync_loss(seen, heard)
        if shapes:
            losses["mouth"] = torch.stack([F.l1_loss(shape, batch["mouth"]) for shape in shapes]).sum()
        with torch.no_grad():
            cosines = sync_probability(heard.flatten(0, 1), lips.flatten(0, 1)).unflatten(0, heard.shape[:2])
        metrics = {
            "accuracy": (cosines[:, :1] > cosines[:, 1:]).float().mean(),
            "cosine_in_sync": cosines[:, 0].mean(),
            "cosine_out_of_sync": cosines[:, 1:].mean(),
        }
        faces = batch["faces"].unflatten(1, (-1, 3))
        images = {f"frame {frame}": faces[:, frame] for frame in (0, faces.shape[1] // 2, faces.shape[1] - 1)}
        return StepOutput(losses, images, metrics)

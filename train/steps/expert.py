"""Training of the lip-sync expert (Prajwal et al. 2020), with a recipe that leaves the plateau at ln 2 = 0.69.

The plateau has known causes, and each has its counterpart: sound that is off by some frames (the offset filter of
preprocessing), negatives that are nearly in sync and windows without speech (:class:`SyncWindows`), too small a
batch and too high a rate at the start (``configs/lipsync_expert.yaml``: 64 pairs, warm-up, gradient limit).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.errors import UserError
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.crops import MOUTH_GESTURES, MOUTH_POINTS
from videoretalking.datasets.expert import SyncWindows
from videoretalking.losses.sync import contrastive_sync_loss, sync_bce_loss
from videoretalking.models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig
from videoretalking.train.config import LoopConfig, OptimizerConfig
from videoretalking.train.steps.base import Step, StepOutput

_MOUTH_WIDTH = 128
_MOUTH_DROPOUT = 0.3


@dataclass(frozen=True)
class ExpertWeights:
    """Factors of the losses.

    Attributes:
        bce: cross-entropy of the cosine, the published loss.
        contrastive: pair the windows of a sample; for small data, not in the paper.
        mouth: pair the windows of speech with the landmarks of the lips; for small data, not in the paper.
        imitation: pair the pictures with the landmarks of the lips; goes with ``mouth``.
        gestures: read how far the mouth is open and how wide from the pictures' features; goes with ``mouth``.
    """

    bce: float
    contrastive: float = 0.0
    mouth: float = 0.0
    imitation: float = 0.0
    gestures: float = 0.0


@dataclass(frozen=True)
class ExpertTrainingConfig:
    """Config of the expert's training.

    Attributes:
        loop: the run.
        data: prepared data.
        optimizer: Adam.
        weights: loss weights.
        num_windows: windows of a clip in one sample; each is a negative of the others.
        min_shift: least distance of two windows in frames.
        mouth_steps: steps in which speech is only paired with landmarks, and pictures only learn the gestures;
            afterwards speech and teacher rest and the pictures follow them. 0 trains all at once.
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


class MouthTeacher(nn.Module):
    """Embeds the landmarks of the lips in a window, as the expert embeds its pictures.

    Args:
        num_frames: frames of a window.
        embedding_size: length of the embedding.
    """

    def __init__(self, num_frames: int, embedding_size: int) -> None:
        super().__init__()
        numbers = (1 + num_frames) * 2 * MOUTH_POINTS
        self.layers = nn.Sequential(
            nn.BatchNorm1d(numbers, affine=False),
            nn.Linear(numbers, _MOUTH_WIDTH),
            nn.ReLU(),
            nn.Dropout(_MOUTH_DROPOUT),
            nn.Linear(_MOUTH_WIDTH, _MOUTH_WIDTH),
            nn.ReLU(),
            nn.Dropout(_MOUTH_DROPOUT),
            nn.Linear(_MOUTH_WIDTH, embedding_size),
            nn.ReLU(),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """[N, T, 20, 2] of :func:`datasets.crops.mouth_points` -> [N, D] of unit length."""
        shapes = points.flatten(2)
        mean = shapes.mean(dim=1, keepdim=True)
        # shape and movement apart: shapes vary far more, between people, than they move
        return F.normalize(self.layers(torch.cat([mean, shapes - mean], dim=1).flatten(1)), dim=1)


class ExpertOutput(NamedTuple):
    """What N windows give; the embeddings are [N, D] of unit length.

    Attributes:
        heard: embedding of the speech.
        seen: embedding of the pictures.
        lips: embedding of the landmarks, or None.
        gestures: [N, 5, 3] of :func:`datasets.crops.mouth_gestures` as read from the pictures, or None.
    """

    heard: torch.Tensor
    seen: torch.Tensor
    lips: torch.Tensor | None = None
    gestures: torch.Tensor | None = None


class ExpertWithTeacher(nn.Module):
    """The expert, and with it for small data a teacher that sees the landmarks of the lips instead of pictures.

    Args:
        config: sizes of the expert.
        with_mouth: have the teacher, and a reader of gestures.
    """

    def __init__(self, config: LipSyncExpertConfig, with_mouth: bool) -> None:
        super().__init__()
        size, self.num_frames = config.audio_widths[-1], config.num_frames
        self.expert = LipSyncExpert(config)
        self.teacher = MouthTeacher(self.num_frames, size) if with_mouth else None
        self.reader = nn.Linear(size, MOUTH_GESTURES * self.num_frames) if with_mouth else None

    def forward(self, audio: torch.Tensor, faces: torch.Tensor, points: torch.Tensor | None) -> ExpertOutput:
        """Embed N windows of speech, pictures and landmarks.

        Args:
            audio: [N, 1, 80, 16] in [-4, 4].
            faces: [N, 15, 48, 96] in [0, 1].
            points: [N, 5, 20, 2] of :func:`datasets.crops.mouth_points`, or None.
        """
        heard = self.expert.embed_audio(audio)
        features = self.expert.face_encoder(faces).flatten(1)
        seen = F.normalize(features.float(), dim=1)
        if points is None or self.teacher is None or self.reader is None:
            return ExpertOutput(heard, seen)
        gestures = self.reader(features).unflatten(1, (self.num_frames, MOUTH_GESTURES))
        return ExpertOutput(heard, seen, self.teacher(points), gestures)


class ExpertStep(Step):
    """Tell windows in sync from windows out of sync.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: a single window, which has no negative, or ``mouth_steps``, imitation or gestures without a
            weight for the mouth.
    """

    def __init__(self, config: ExpertTrainingConfig, device: torch.device) -> None:
        if config.num_windows < 2:
            raise UserError(
                "num_windows is 1, but windows are each other's negatives: set num_windows=2 or more"
            )
        if config.mouth_steps and not config.weights.mouth:
            raise UserError("mouth_steps needs a weight for the mouth: set weights.mouth, or mouth_steps=0")
        if (config.weights.imitation or config.weights.gestures) and not config.weights.mouth:
            raise UserError(
                "imitation and gestures go with the mouth: set weights.mouth, or weights.imitation=0 and "
                "weights.gestures=0"
            )
        self.config = config
        self.weights = dataclasses.asdict(config.weights)
        self.has_unused_parameters = config.mouth_steps > 0  # speech or pictures rest
        self.network = ExpertWithTeacher(config.model, with_mouth=config.weights.mouth > 0).to(device)

    def exported(self, network: nn.Module) -> nn.Module:
        """The expert without its teacher."""
        assert isinstance(network, ExpertWithTeacher)
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
        """Losses ``mouth`` and ``gestures``, then ``bce``, ``contrastive``, ``imitation`` and ``gestures``.

        The metric ``accuracy`` is 0.5 by chance; ``mouth_accuracy`` is that of the landmarks.
        """
        windows = batch["faces"].shape[:2]
        points = batch["mouth"].flatten(0, 1) if self.config.weights.mouth else None
        output: ExpertOutput = network(batch["audio"].flatten(0, 1), batch["faces"].flatten(0, 1), points)
        heard, seen = output.heard.unflatten(0, windows), output.seen.unflatten(0, windows)
        losses: dict[str, torch.Tensor] = {}
        metrics = _compare(heard, seen)
        first_stage = step < self.config.mouth_steps
        if output.lips is not None and output.gestures is not None:
            lips = output.lips.unflatten(0, windows)
            metrics["mouth_accuracy"] = _compare(heard, lips)["accuracy"]
            losses["gestures"] = F.mse_loss(output.gestures.float(), batch["gestures"].flatten(0, 1))
            if first_stage or not self.config.mouth_steps or not network.training:
                losses["mouth"] = contrastive_sync_loss(heard, lips)
            if not first_stage or not network.training:
                losses["imitation"] = contrastive_sync_loss(lips.detach(), seen)
        if not first_stage or not network.training:
            if self.config.mouth_steps:
                heard = heard.detach()  # little speech is soon learned by heart; the pictures have to follow
            losses["bce"] = _pairwise_bce(heard, seen)
            if self.config.weights.contrastive:
                losses["contrastive"] = contrastive_sync_loss(heard, seen)
        pictures = batch["faces"][:, 0].unflatten(1, (-1, 3))
        frames = (0, pictures.shape[1] // 2, pictures.shape[1] - 1)
        return StepOutput(losses, {f"frame {frame}": pictures[:, frame] for frame in frames}, metrics)


def _compare(heard: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
    """How much nearer the windows of a clip [B, W, D] are to their own speech than to the others'."""
    cosines = torch.einsum("bwd,bxd->bwx", seen, heard).detach()
    in_sync = cosines.diagonal(dim1=1, dim2=2)[..., None]
    out_of_sync = cosines[:, _off_diagonal(seen.shape[1])]
    return {
        # the diagonal never exceeds itself
        "accuracy": (in_sync > cosines).float().sum() / out_of_sync.numel(),
        "cosine_in_sync": in_sync.mean(),
        "cosine_out_of_sync": out_of_sync.mean(),
    }


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

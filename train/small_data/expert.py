"""The lip-sync expert on little data: landmarks of the lips teach it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.datasets.mouths import MOUTH_GESTURES, MOUTH_POINTS
from videoretalking.datasets.small_data import MouthWindows
from videoretalking.losses.sync import contrastive_sync_loss
from videoretalking.models.lipsync_expert import LipSyncExpert
from videoretalking.train.steps.base import StepOutput
from videoretalking.train.steps.expert import (
    ExpertLossWeights,
    ExpertStep,
    ExpertTrainingConfig,
    compare_windows,
    pairwise_bce,
    show_windows,
)

_TEACHER_WIDTH = 128
_TEACHER_DROPOUT = 0.3


@dataclass(frozen=True)
class ExpertSmallDataLossWeights(ExpertLossWeights):
    """Factors of the losses; further ones beside the published one.

    Attributes:
        contrastive: pair the windows of a sample.
        mouth: pair the windows of speech with the landmarks of the lips.
        imitation: pair the pictures with the landmarks of the lips; goes with ``mouth``.
        gestures: read how far the mouth is open and how wide from the pictures' features; goes with ``mouth``.
        hearing: read the same from the features of speech while these are trained; goes with ``mouth``. A contrast
            asks which window a sound belongs to, this asks what a painter of lips wants to know.
    """

    contrastive: float = 0.0
    mouth: float = 0.0
    imitation: float = 0.0
    gestures: float = 0.0
    hearing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class ExpertSmallDataConfig(ExpertTrainingConfig):
    """Config of the expert's training on little data.

    Attributes:
        loss_weights: factors of the losses.
        mouth_steps: steps in which speech is only paired with landmarks, and pictures only learn the gestures;
            afterwards speech and teacher stay as they are and the pictures follow them. 0 trains all at once.
    """

    step: Literal["lipsync_expert_small_data"] = "lipsync_expert_small_data"
    loss_weights: ExpertSmallDataLossWeights
    mouth_steps: int = 0


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
            nn.Linear(numbers, _TEACHER_WIDTH),
            nn.ReLU(),
            nn.Dropout(_TEACHER_DROPOUT),
            nn.Linear(_TEACHER_WIDTH, _TEACHER_WIDTH),
            nn.ReLU(),
            nn.Dropout(_TEACHER_DROPOUT),
            nn.Linear(_TEACHER_WIDTH, embedding_size),
            nn.ReLU(),
        )

    def forward(self, points: torch.Tensor) -> torch.Tensor:
        """[N, T, 20, 2] of :func:`datasets.mouths.mouth_points` -> [N, D] of unit length."""
        shapes = points.flatten(2)
        mean = shapes.mean(dim=1, keepdim=True)
        # shape and movement apart: people differ far more in the shape of their lips than lips move
        return F.normalize(self.layers(torch.cat([mean, shapes - mean], dim=1).flatten(1)), dim=1)


class ExpertOutput(NamedTuple):
    """What N windows give; the embeddings are [N, D] of unit length.

    Attributes:
        heard: embedding of the speech.
        seen: embedding of the pictures.
        lips: embedding of the landmarks, or None.
        gestures: [N, 5, 3] of :func:`datasets.mouths.mouth_gestures` as read from the pictures, or None.
        heard_gestures: the same as read from the speech, or None.
    """

    heard: torch.Tensor
    seen: torch.Tensor
    lips: torch.Tensor | None = None
    gestures: torch.Tensor | None = None
    heard_gestures: torch.Tensor | None = None


class ExpertWithTeacher(nn.Module):
    """The expert with a teacher that sees the landmarks of the lips instead of pictures.

    Args:
        expert: the expert.
        with_mouth: have the teacher, and a reader of gestures.
    """

    def __init__(self, expert: LipSyncExpert, with_mouth: bool) -> None:
        super().__init__()
        size, self.num_frames = expert.config.audio_widths[-1], expert.config.num_frames
        self.expert = expert
        self.teacher = MouthTeacher(self.num_frames, size) if with_mouth else None
        self.reader = nn.Linear(size, MOUTH_GESTURES * self.num_frames) if with_mouth else None
        self.listener = nn.Linear(size, MOUTH_GESTURES * self.num_frames) if with_mouth else None

    def forward(self, audio: torch.Tensor, faces: torch.Tensor, points: torch.Tensor) -> ExpertOutput:
        """Embed N windows of speech, pictures and landmarks.

        Args:
            audio: [N, 1, 80, 16] in [-4, 4].
            faces: [N, 15, 48, 96] in [0, 1].
            points: [N, 5, 20, 2] of :func:`datasets.mouths.mouth_points`.
        """
        sounds = self.expert.audio_encoder(audio)
        heard = F.normalize(sounds.float(), dim=1)
        features = self.expert.face_encoder(faces).flatten(1)
        seen = F.normalize(features.float(), dim=1)
        if self.teacher is None or self.reader is None or self.listener is None:
            return ExpertOutput(heard, seen)
        shape = (self.num_frames, MOUTH_GESTURES)
        gestures, heard_gestures = (
            reader(encoded).unflatten(1, shape)
            for reader, encoded in ((self.reader, features), (self.listener, sounds))
        )
        return ExpertOutput(heard, seen, self.teacher(points), gestures, heard_gestures)


class ExpertSmallDataStep(ExpertStep):
    """The expert's step with a teacher that sees landmarks.

    Args:
        config: the training config.
        device: where to compute.

    Raises:
        UserError: ``mouth_steps``, imitation or gestures without a weight for the mouth.
    """

    samples = MouthWindows
    config: ExpertSmallDataConfig

    def __init__(self, config: ExpertSmallDataConfig, device: torch.device) -> None:
        super().__init__(config, device)
        weights = config.loss_weights
        if config.mouth_steps and not weights.mouth:
            raise UserError(
                "mouth_steps needs a weight for the mouth: set loss_weights.mouth, or mouth_steps=0"
            )
        with_mouth = [name for name in ("imitation", "gestures", "hearing") if getattr(weights, name)]
        if with_mouth and not weights.mouth:
            raise UserError(
                f"{', '.join(with_mouth)} go with the mouth: set loss_weights.mouth, or "
                + " and ".join(f"loss_weights.{name}=0" for name in with_mouth)
            )
        self.has_unused_parameters = config.mouth_steps > 0  # some steps leave speech or pictures alone
        assert isinstance(self.network, LipSyncExpert)
        self.network = ExpertWithTeacher(self.network, with_mouth=weights.mouth > 0).to(device)

    def exported(self, network: nn.Module) -> nn.Module:
        """The expert without its teacher."""
        assert isinstance(network, ExpertWithTeacher)
        return network.expert

    def generate(self, network: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        """Losses of both stages.

        ``mouth``, ``hearing`` and ``gestures``, then ``bce``, ``contrastive``, ``imitation`` and ``gestures``.
        The metric ``accuracy`` is 0.5 by chance; ``mouth_accuracy`` is that of the landmarks.
        """
        windows = batch["faces"].shape[:2]
        output: ExpertOutput = network(*(batch[name].flatten(0, 1) for name in ("audio", "faces", "mouth")))
        heard, seen = output.heard.unflatten(0, windows), output.seen.unflatten(0, windows)
        losses: dict[str, torch.Tensor] = {}
        metrics = compare_windows(heard, seen)
        first_stage = step < self.config.mouth_steps
        if output.lips is not None and output.gestures is not None:
            lips = output.lips.unflatten(0, windows)
            metrics["mouth_accuracy"] = compare_windows(heard, lips)["accuracy"]
            losses["gestures"] = F.mse_loss(output.gestures.float(), batch["gestures"].flatten(0, 1))
            if first_stage or not self.config.mouth_steps or not network.training:
                losses["mouth"] = contrastive_sync_loss(heard, lips)
                assert output.heard_gestures is not None
                losses["hearing"] = F.mse_loss(output.heard_gestures.float(), batch["gestures"].flatten(0, 1))
            if not first_stage or not network.training:
                losses["imitation"] = contrastive_sync_loss(lips.detach(), seen)
        if not first_stage or not network.training:
            if self.config.mouth_steps:
                heard = heard.detach()  # on three minutes of speech the audio encoder would overfit
            losses["bce"] = pairwise_bce(heard, seen)
            if self.config.loss_weights.contrastive:
                losses["contrastive"] = contrastive_sync_loss(heard, seen)
        return StepOutput(losses, show_windows(batch["faces"]), metrics)

"""Wav2Lip's lip-sync expert: the judge of the sync loss (Prajwal et al. 2020; paper, eq. 7-8)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.layers.blocks import ConvNormAct


@dataclass(frozen=True)
class LipSyncExpertConfig:
    """Sizes of the expert; the defaults are those of the released file.

    Attributes:
        num_frames: consecutive frames seen at once.
        audio_widths: channels of the audio encoder; the last is the length of the embedding.
        audio_residual: residual layers of its stages.
        face_widths: channels of the face encoder at 48, 46, 23, 12 and 6 rows; the last again at 3 and 1.
        face_residual: residual layers at these sizes.
        antialias: how a face comes to 96 pixels, in training and in use (:func:`models.layers.blocks.shrink`): as
            the mean of the pixels that each new one covers, or bilinearly as the released weights were trained.
    """

    num_frames: int = SYNC_FRAMES
    audio_widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    audio_residual: tuple[int, ...] = (2, 2, 2, 2)
    face_widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    face_residual: tuple[int, ...] = (0, 2, 3, 2, 2)
    antialias: bool = False


class LipSyncExpert(nn.Module):
    """Embeds speech and lips; their cosine is the probability that they belong together.

    Args:
        config: sizes.

    Raises:
        ValueError: the two embeddings would differ in length.
    """

    def __init__(self, config: LipSyncExpertConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LipSyncExpertConfig()
        if config.audio_widths[-1] != config.face_widths[-1]:
            raise ValueError("audio_widths and face_widths must end in the same embedding length")
        self.audio_encoder = AudioEncoder(config.audio_widths, config.audio_residual)
        self.face_encoder = _face_encoder(config)

    def forward(self, audio: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Embed both modalities.

        Args:
            audio: [B, 1, 80, 16] log-mel windows in [-4, 4].
            faces: [B, 3 * num_frames, 48, 96] RGB in [0, 1], lower halves (:func:`stack_lower_half`).

        Returns:
            Audio and face embedding, each [B, embedding length], of unit length and non-negative, so that
            their cosine lies in [0, 1].
        """
        return self.embed_audio(audio), self.embed_faces(faces)

    def embed_audio(self, audio: torch.Tensor) -> torch.Tensor:
        """[B, 1, 80, 16] -> [B, embedding length]; see :meth:`forward`."""
        return _to_embedding(self.audio_encoder(audio))

    def embed_faces(self, faces: torch.Tensor) -> torch.Tensor:
        """[B, 3 * num_frames, 48, 96] -> [B, embedding length]; see :meth:`forward`."""
        return _to_embedding(self.face_encoder(faces).flatten(1))


def stack_lower_half(clip: torch.Tensor) -> torch.Tensor:
    """The view of a clip that the expert judges: lower halves, frame after frame along the channels.

    Args:
        clip: [B, 3, T, H, W].

    Returns:
        [B, 3 * T, H / 2, W]; channel ``3 * t + c`` is color c of frame t.
    """
    return clip[..., clip.shape[-2] // 2 :, :].transpose(1, 2).flatten(1, 2)


def _to_embedding(features: torch.Tensor) -> torch.Tensor:
    return F.normalize(features.float(), dim=1)  # lengths overflow in reduced precision


def _face_encoder(config: LipSyncExpertConfig) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3 * config.num_frames
    for index, (width, residual) in enumerate(zip(config.face_widths, config.face_residual, strict=True)):
        if index == 0:
            layers.append(ConvNormAct(channels, width, kernel_size=7, padding=3))
        elif index == 1:
            # padding 1 with a 5x5 kernel, as released: 48x96 becomes 46x47
            layers.append(ConvNormAct(channels, width, kernel_size=5, stride=(1, 2), padding=1))
        else:
            layers.append(ConvNormAct(channels, width, stride=2))
        layers += [ConvNormAct(width, width, residual=True) for _ in range(residual)]
        channels = width
    layers += [
        ConvNormAct(channels, channels, stride=2),
        ConvNormAct(channels, channels, padding=0),
        ConvNormAct(channels, channels, kernel_size=1, padding=0),
    ]
    return nn.Sequential(*layers)

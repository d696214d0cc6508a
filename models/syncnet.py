"""SyncNet (Chung and Zisserman 2016): the network behind the scores LSE-D and LSE-C (paper, section 5)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import ConvNormAct

_CLIP_FRAMES = 5  # video frames of one window, 0.2 s at 25 frames a second


@dataclass(frozen=True)
class SyncNetConfig:
    """Sizes of SyncNet; the defaults are those of the released file.

    Attributes:
        audio_widths: channels of the six audio convolutions.
        lip_widths: channels of the six lip convolutions.
        embedding_size: length of both embeddings.
    """

    audio_widths: tuple[int, int, int, int, int, int] = (64, 192, 384, 256, 256, 512)
    lip_widths: tuple[int, int, int, int, int, int] = (96, 256, 256, 256, 256, 512)
    embedding_size: int = 1024


class ClipConvNormAct(nn.Module):
    """Convolution over all frames of a window and 7x7 pixels, batch norm, ReLU; time is gone afterwards.

    Args:
        out_channels: channels of the output.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(3, out_channels, (_CLIP_FRAMES, 7, 7), stride=(1, 2, 2))
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """[B, 3, 5, H, W] -> [B, out, H', W']."""
        return F.relu(self.norm(self.conv(frames).squeeze(2)))


class SyncNet(nn.Module):
    """Embeds 0.2 s of speech and of lips; in-sync pairs are near each other in Euclidean distance.

    Args:
        config: sizes.
    """

    def __init__(self, config: SyncNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SyncNetConfig()
        self.audio_encoder = _audio_encoder(config.audio_widths)
        self.audio_head = _head(config.audio_widths[-1], config.embedding_size)
        self.lip_encoder = _lip_encoder(config.lip_widths)
        self.lip_head = _head(config.lip_widths[-1], config.embedding_size)

    def embed_audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        """Embed speech.

        Args:
            mfcc: [B, 1, 13, 20]: 13 coefficients of 20 frames of 10 ms, as they are.

        Returns:
            [B, embedding_size], not normalized.
        """
        return self.audio_head(self.audio_encoder(mfcc).flatten(1))

    def lip_features(self, frames: torch.Tensor) -> torch.Tensor:
        """Features of the lips before the head.

        Args:
            frames: [B, 3, 5, 224, 224] face crops, RGB in [0, 1].

        Returns:
            [B, lip_widths[-1]], non-negative (after a ReLU).
        """
        return self.lip_encoder(_to_byte_range(frames)).flatten(1)

    def embed_lips(self, frames: torch.Tensor) -> torch.Tensor:
        """Embed the lips.

        Args:
            frames: [B, 3, 5, 224, 224] face crops, RGB in [0, 1].

        Returns:
            [B, embedding_size], not normalized.
        """
        return self.lip_head(self.lip_features(frames))

    def forward(self, mfcc: torch.Tensor, frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """:meth:`embed_audio` and :meth:`embed_lips`."""
        return self.embed_audio(mfcc), self.embed_lips(frames)


def _to_byte_range(image: torch.Tensor) -> torch.Tensor:
    """[0, 1] -> [0, 255], the range the network was trained on."""
    return image * 255.0


def _audio_encoder(widths: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        ConvNormAct(1, widths[0]),
        ConvNormAct(widths[0], widths[1]),
        nn.MaxPool2d(3, stride=(1, 2)),  # 11x9
        ConvNormAct(widths[1], widths[2]),
        ConvNormAct(widths[2], widths[3]),
        ConvNormAct(widths[3], widths[4]),
        nn.MaxPool2d(3, stride=2),  # 5x4
        ConvNormAct(widths[4], widths[5], kernel_size=(5, 4), padding=0),
    )


def _lip_encoder(widths: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        ClipConvNormAct(widths[0]),
        nn.MaxPool2d(3, stride=2),  # 54x54
        ConvNormAct(widths[0], widths[1], kernel_size=5, stride=2),
        nn.MaxPool2d(3, stride=2, padding=1),  # 13x13
        ConvNormAct(widths[1], widths[2]),
        ConvNormAct(widths[2], widths[3]),
        ConvNormAct(widths[3], widths[4]),
        nn.MaxPool2d(3, stride=2),  # 6x6
        ConvNormAct(widths[4], widths[5], kernel_size=6, padding=0),
    )


def _head(width: int, embedding_size: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, embedding_size)
    )

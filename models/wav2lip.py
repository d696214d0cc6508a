"""Wav2Lip generator (Prajwal et al. 2020): the baseline that the paper compares L-Net with (table 1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.layers.blocks import ConvNormAct, roll_clip, unroll_audio, unroll_clip


@dataclass(frozen=True)
class Wav2LipConfig:
    """Sizes of the generator; the defaults are those of the released files.

    Attributes:
        audio_widths: channels of the audio encoder; the last is the length of the audio vector.
        encoder_widths: channels of the face encoder at 96, 48, 24, 12, 6 and 3 pixels; the last again at 1.
        encoder_residual: residual layers at these sizes.
        decoder_widths: channels of the decoder at 1, 3, 6, 12, 24, 48 and 96 pixels.
        decoder_residual: residual layers at these sizes.
        head_width: channels before the color convolution.
        antialias: how a face comes to 96 pixels, in training and in use (:func:`models.layers.blocks.shrink`): as
            the mean of the pixels that each new one covers, or bilinearly as the released weights were trained.
    """

    audio_widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    encoder_widths: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    encoder_residual: tuple[int, ...] = (0, 2, 3, 2, 2, 1)
    decoder_widths: tuple[int, ...] = (512, 512, 512, 384, 256, 128, 64)
    decoder_residual: tuple[int, ...] = (0, 1, 2, 2, 2, 2, 2)
    head_width: int = 32
    antialias: bool = False


class UpConvNormAct(nn.Module):
    """Transposed 3x3 convolution, batch norm, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 2 doubles the size; 1 adds two pixels, which turns 1x1 into 3x3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        edge = stride - 1
        self.conv = nn.ConvTranspose2d(in_channels, out_channels, 3, stride, edge, output_padding=edge)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H', W']."""
        return F.relu(self.norm(self.conv(features)))


class Wav2Lip(nn.Module):
    """U-Net over the masked and the reference face whose bottleneck is the audio vector.

    Args:
        config: sizes.
    """

    def __init__(self, config: Wav2LipConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or Wav2LipConfig()
        self.audio_encoder = AudioEncoder(config.audio_widths)
        self.face_encoder = _face_encoder(config)
        self.face_decoder = _face_decoder(config)
        head_in = config.decoder_widths[-1] + config.encoder_widths[0]
        self.head = ConvNormAct(head_in, config.head_width)
        self.to_rgb = nn.Conv2d(config.head_width, 3, 1)

    def forward(self, audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """Fill in the lower half of the face so that it speaks the audio.

        Args:
            audio: [B, 1, 80, 16] log-mel windows in [-4, 4], or [B, T, 1, 80, 16] for clips.
            faces: [B, 6, 96, 96] RGB in [0, 1], or [B, 6, T, 96, 96]: the frame with its lower half black,
                then the reference frame.

        Returns:
            [B, 3, 96, 96] RGB in [0, 1], or [B, 3, T, 96, 96].
        """
        if faces.dim() == 5:
            frames = self(unroll_audio(audio), unroll_clip(faces))
            return roll_clip(frames, num_frames=faces.shape[2])
        skips: list[torch.Tensor] = []
        features = faces
        for block in self.face_encoder:
            features = block(features)
            skips.append(features)
        features = self.audio_encoder(audio)[:, :, None, None]
        for block, skip in zip(self.face_decoder, reversed(skips), strict=True):
            features = torch.cat([block(features), skip], dim=1)
        return torch.sigmoid(self.to_rgb(self.head(features)))


def _face_encoder(config: Wav2LipConfig) -> nn.ModuleList:
    """One block per size; the last one shrinks 3x3 to 1x1."""
    blocks: list[nn.Module] = []
    channels = 6
    for index, (width, residual) in enumerate(
        zip(config.encoder_widths, config.encoder_residual, strict=True)
    ):
        first = (
            ConvNormAct(channels, width, kernel_size=7, padding=3)
            if index == 0
            else ConvNormAct(channels, width, stride=2)
        )
        blocks.append(nn.Sequential(first, *_residual_layers(width, residual)))
        channels = width
    blocks.append(
        nn.Sequential(
            ConvNormAct(channels, channels, padding=0),
            ConvNormAct(channels, channels, kernel_size=1, padding=0),
        )
    )
    return nn.ModuleList(blocks)


def _face_decoder(config: Wav2LipConfig) -> nn.ModuleList:
    """One block per size, each reading the concatenation of the previous block and the skip of its size."""
    skip_widths = [*config.encoder_widths, config.encoder_widths[-1]][::-1]
    blocks: list[nn.Module] = []
    channels = config.audio_widths[-1]
    for index, (width, residual, skip_width) in enumerate(
        zip(config.decoder_widths, config.decoder_residual, skip_widths, strict=True)
    ):
        first = (
            ConvNormAct(channels, width, kernel_size=1, padding=0)
            if index == 0
            else UpConvNormAct(channels, width, stride=1 if index == 1 else 2)
        )
        blocks.append(nn.Sequential(first, *_residual_layers(width, residual)))
        channels = width + skip_width
    return nn.ModuleList(blocks)


def _residual_layers(width: int, count: int) -> list[nn.Module]:
    return [ConvNormAct(width, width, residual=True) for _ in range(count)]

"""L-Net, the lip-sync network (paper, section 3.2 and appendix C.2).

It paints the masked lower half of a face from speech: two visual encoders see the masked frame and a
reference, cross-attention mixes them, residual Fast Fourier Convolutions with AdaIN bring in the audio,
and a decoder with skips from the masked frame paints the result. Defaults are the sizes of the released
network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from videoretalking.models.attention import CrossAttentionBlocks
from videoretalking.models.audio_encoder import AudioEncoder
from videoretalking.models.blocks import roll_clip, unroll_audio, unroll_clip
from videoretalking.models.editing_blocks import FinalConv, PlainBlock
from videoretalking.models.ffc import FFCResBlock


@dataclass(frozen=True)
class LNetConfig:
    """Sizes of L-Net.

    Attributes:
        channels: channels at full size; they double with each of the down-samplings up to ``max_channels``.
        max_channels: upper limit of the doubling.
        num_down: down-samplings (paper: three).
        num_residual: FFC blocks per up-sampling stage (appendix C.2.1: nine).
        attention_layers: cross-attention blocks at the coarsest size (paper: two); 0 is the ablation "L-Net
            without cross-attention" of table 3.
        attention_heads: heads of each attention.
        attention_head_size: token length inside a head.
        attention_hidden: width of the feed-forward layers between attentions.
        audio_channels: channels of the audio encoder's stages; the last is the length of the audio vector.
        adain_hidden: width of the perceptron inside every AdaIN.
        global_ratio: share of channels in the global (Fourier) part of an FFC.
        ffc_negative_slope: leaky slope inside the FFC units.
        norm: normalization of the visual encoder and decoder.
        spectral: spectral norm on their convolutions.
        antialias: how a face comes to 96 pixels, in training and in use (:func:`models.blocks.shrink`): as the mean
            of the pixels that each new one covers, or bilinearly as the released weights were trained.
    """

    channels: int = 64
    max_channels: int = 512
    num_down: int = 3
    num_residual: int = 9
    attention_layers: int = 2
    attention_heads: int = 4
    attention_head_size: int = 64
    attention_hidden: int = 256
    # Differs from paper: audio vector of 512 numbers (paper: 256), 512 channels at 12x12 (paper: 256),
    # layer norm with spectral norm (paper: batch norm), slope 0.01 in the FFC units; all as released.
    audio_channels: tuple[int, ...] = (32, 64, 128, 256, 512)
    adain_hidden: int = 128
    global_ratio: float = 0.75
    ffc_negative_slope: float = 0.01
    norm: Literal["layer", "batch"] = "layer"
    spectral: bool = True
    antialias: bool = False


def lnet_input(frame: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """What L-Net sees: the frame without its lower half, then the reference (section 3.2).

    No pixel of the original mouth reaches the network, in training and in use.

    Args:
        frame: [B, 3, H, W] or clips [B, 3, T, H, W] in [0, 1].
        reference: the same shape.

    Returns:
        [B, 6, ...] in [0, 1]; the lower half of the first three channels is 0.
    """
    masked = frame.clone()
    masked[..., frame.shape[-2] // 2 :, :] = 0.0
    return torch.cat([masked, reference], dim=1)


class LNet(nn.Module):
    """Audio encoder, two visual encoders, cross-attention, FFC decoder.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or LNetConfig()
        self.audio_encoder = AudioEncoder(self.config.audio_channels)
        self.visual_encoder = VisualEncoder(self.config)
        self.decoder = Decoder(self.config)

    def forward(self, audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """Paint the lower half of each face.

        Args:
            audio: [B, 1, 80, 16] log-mel window in [-4, 4]; clips [B, T, 1, 80, 16].
            faces: [B, 6, 96, 96] RGB in [0, 1], the frame with its lower half set to 0, then the reference;
                clips [B, 6, T, 96, 96].

        Returns:
            [B, 3, 96, 96] RGB in [0, 1]; clips [B, 3, T, 96, 96].
        """
        if faces.dim() == 5:
            return roll_clip(self(unroll_audio(audio), unroll_clip(faces)), faces.shape[2])
        condition = self.audio_encoder(audio)
        masked, reference = faces.split(3, dim=1)
        features, skips = self.visual_encoder(masked, reference)
        return self.decoder(features, skips, condition)


class VisualEncoder(nn.Module):
    """Two branches of the same shape for masked frame and reference, joined by cross-attention.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig) -> None:
        super().__init__()
        self.masked = _branch(config)
        self.reference = _branch(config)
        self.attention = (
            CrossAttentionBlocks(
                _widths(config)[-1],
                config.attention_layers,
                config.attention_heads,
                config.attention_head_size,
                config.attention_hidden,
            )
            if config.attention_layers
            else None
        )

    def forward(
        self, masked: torch.Tensor, reference: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Encode.

        Args:
            masked: [B, 3, 96, 96].
            reference: [B, 3, 96, 96].

        Returns:
            [B, 2C, 12, 12], the attended masked branch and the raw reference; the skips of the masked branch
            from the finest to the coarsest.
        """
        skips = []
        for layer in self.masked:
            masked = layer(masked)
            skips.append(masked)
        skips.pop()
        for layer in self.reference:
            reference = layer(reference)
        if self.attention is not None:
            masked = self.attention(masked, reference)
        return torch.cat([masked, reference], dim=1), skips


class Decoder(nn.Module):
    """Stages of FFC residual blocks, up-sampling and a skip each; then the image.

    Args:
        config: sizes.
    """

    def __init__(self, config: LNetConfig) -> None:
        super().__init__()
        widths = _widths(config)
        condition = config.audio_channels[-1]
        residuals, ups, jumps = [], [], []
        channels = 2 * widths[-1]
        for width in reversed(widths[:-1]):
            residuals.append(
                nn.ModuleList(
                    FFCResBlock(
                        channels,
                        config.global_ratio,
                        condition,
                        config.adain_hidden,
                        config.ffc_negative_slope,
                    )
                    for _ in range(config.num_residual)
                )
            )
            ups.append(_plain(config, channels, width, resample="up"))
            jumps.append(_plain(config, width, width))
            channels = width
        # all three lists run from the coarsest stage to the finest
        self.residuals = nn.ModuleList(residuals)
        self.ups = nn.ModuleList(ups)
        self.jumps = nn.ModuleList(jumps)
        self.final = FinalConv(channels, spectral=config.spectral)

    def forward(
        self, features: torch.Tensor, skips: list[torch.Tensor], condition: torch.Tensor
    ) -> torch.Tensor:
        """[B, 2C, 12, 12], skips from fine to coarse and [B, audio vector] -> [B, 3, 96, 96] in [0, 1]."""
        stages = zip(self.residuals, self.ups, self.jumps, reversed(skips), strict=True)
        for residuals, up, jump, skip in stages:
            for residual in residuals:  # type: ignore[attr-defined]
                features = residual(features, condition)
            features = up(features) + jump(skip)
        return torch.sigmoid(self.final(features).float())


def _widths(config: LNetConfig) -> list[int]:
    return [min(config.channels * 2**level, config.max_channels) for level in range(config.num_down + 1)]


def _plain(
    config: LNetConfig,
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    resample: Literal["none", "up", "down"] = "none",
) -> PlainBlock:
    return PlainBlock(in_channels, out_channels, kernel_size, resample, config.norm, config.spectral)


def _branch(config: LNetConfig) -> nn.ModuleList:
    widths = _widths(config)
    layers = [_plain(config, 3, widths[0], kernel_size=7)]
    layers += [
        _plain(config, widths[level], widths[level + 1], resample="down") for level in range(config.num_down)
    ]
    return nn.ModuleList(layers)

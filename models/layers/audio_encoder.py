"""Speech encoder that Wav2Lip, its lip-sync expert and L-Net share (Prajwal et al. 2020; paper, 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from videoretalking.models.layers.blocks import ConvNormAct

# One stage of the encoder per stride; an 80x16 window shrinks to 80x16, 27x16, 9x6 and 3x3.
_STRIDES: tuple[int | tuple[int, int], ...] = (1, (3, 1), 3, (3, 2))


class AudioEncoder(nn.Module):
    """Mel window -> one vector: four stages of residual convolutions and a projection of the last 3x3 map.

    Args:
        widths: channels of the four stages and length of the output vector.
        num_residual: residual layers of each stage; the lip-sync expert has two in the last stage.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        num_residual: Sequence[int] = (2, 2, 2, 1),
    ) -> None:
        super().__init__()
        *stage_widths, self.out_features = widths
        layers: list[ConvNormAct] = []
        channels = 1
        for width, stride, residual_layers in zip(stage_widths, _STRIDES, num_residual, strict=True):
            layers.append(ConvNormAct(channels, width, stride=stride))
            layers += [ConvNormAct(width, width, residual=True) for _ in range(residual_layers)]
            channels = width
        layers.append(ConvNormAct(channels, self.out_features, padding=0))
        layers.append(ConvNormAct(self.out_features, self.out_features, kernel_size=1, padding=0))
        self.layers = nn.ModuleList(layers)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Encode mel windows.

        Args:
            windows: [B, 1, 80, 16] log-mel in [-4, 4].

        Returns:
            [B, out_features], non-negative (after a ReLU).
        """
        features = windows
        for layer in self.layers:
            features = layer(features)
        return features.flatten(1)

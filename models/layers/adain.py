"""Adaptive instance normalization (Huang and Belongie 2017), which conditions D-Net and L-Net."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class AdaIN(nn.Module):
    """Instance norm whose scale and shift are predicted from a condition vector.

    Args:
        num_channels: channels of the feature map.
        condition_size: length of the condition (motion descriptor in D-Net, audio vector in L-Net).
        hidden_size: width of the small perceptron in between.
    """

    def __init__(self, num_channels: int, condition_size: int, hidden_size: int = 128) -> None:
        super().__init__()
        self.hidden = nn.Linear(condition_size, hidden_size)
        self.scale = nn.Linear(hidden_size, num_channels)
        self.shift = nn.Linear(hidden_size, num_channels)

    def forward(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Normalize per sample and channel, in float32 under autocast too.

        Args:
            features: [B, C, H, W].
            condition: [B, condition_size].

        Returns:
            [B, C, H, W]: ``IN(x) * (1 + scale) + shift``.
        """
        with torch.autocast(features.device.type, enabled=False):
            hidden = F.relu(self.hidden(condition.float()))
            scale = self.scale(hidden)[:, :, None, None]
            shift = self.shift(hidden)[:, :, None, None]
            # one group a channel is an instance norm, and reads channels-last maps without copying them
            normed = F.group_norm(features.float(), features.shape[1])
            return torch.addcmul(shift, normed, 1.0 + scale).to(features.dtype)

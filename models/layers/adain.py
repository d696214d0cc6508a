"""Adaptive instance normalization (Huang and Belongie 2017), which conditions D-Net and L-Net."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers import fused
from videoretalking.models.layers.blocks import leaky_relu
from videoretalking.models.layers.levels import Levels

_EPS = 1e-5  # of the variance
_SMALL = 1024  # pixels of a map below which PyTorch's group norm goes through channels-last ones channel by channel


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

    def forward(
        self,
        features: torch.Tensor,
        condition: torch.Tensor,
        negative_slope: float = 1.0,
        inplace: bool = False,
        added: torch.Tensor | None = None,
        reader: nn.Module | None = None,
    ) -> torch.Tensor | Levels:
        """Normalize per sample and channel, in float32 under autocast too.

        Args:
            features: [B, C, H, W].
            condition: [B, condition_size].
            negative_slope: of a leaky ReLU behind the norm; 1 leaves the values as they are.
            inplace: ``features`` may be written to.
            added: [B, C, H, W] added in the end.
            reader: the module that alone reads the result; a convolution in int8 may get it rounded.

        Returns:
            [B, C, H, W]: ``IN(x) * (1 + scale) + shift``, activated, plus ``added``.
        """
        fit = fused.is_fit(features, added, half=True)
        with torch.autocast(features.device.type, enabled=False):
            hidden = F.relu(self.hidden(condition.float()))
            scale, shift = 1.0 + self.scale(hidden), self.shift(hidden)
            if fit:
                way = negative_slope, inplace
                return fused.norm(features, scale, shift, _EPS, True, *way, added=added, reader=reader)
            features_float = features.float()
            if _is_slow(features_float):
                normed = _norm_of_small_maps(features_float)
            else:
                # one group a channel is an instance norm, and reads channels-last maps without copying them
                normed = F.group_norm(features_float, features.shape[1], eps=_EPS)
            normed = torch.addcmul(shift[:, :, None, None], normed, scale[:, :, None, None])
        out = leaky_relu(normed.to(features.dtype), negative_slope)
        return out if added is None else out + added


def _is_slow(features: torch.Tensor) -> bool:
    """Whether a group norm takes ten times as long as need be: small channels-last maps on a CPU."""
    small = features.shape[2] * features.shape[3] < _SMALL
    return features.device.type == "cpu" and small and not features.is_contiguous()


def _norm_of_small_maps(features: torch.Tensor) -> torch.Tensor:
    """The instance norm of [B, C, H, W], with means as products of matrices."""
    rows = features.permute(0, 2, 3, 1).flatten(1, 2)  # [B, H * W, C], a view
    weights = rows.new_full((1, 1, rows.shape[1]), 1.0 / rows.shape[1]).expand(len(rows), -1, -1)
    centered = rows - weights @ rows
    normed = centered * torch.rsqrt(weights @ centered.square() + _EPS)
    return normed.unflatten(1, features.shape[2:]).permute(0, 3, 1, 2)

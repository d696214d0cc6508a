"""Our own 68-point landmark network, small enough to ship its weights with the code.

Inverted residual blocks (Sandler et al. 2018) encode the crop, a light top-down path brings their features
back to a quarter of the size, and each point is the mean of a heatmap there (integral regression, Sun et al.
2018). A small head that sees all points and the whole face corrects what the coarse grid misses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.landmarks import NUM_LANDMARKS

_HEATMAP_STRIDE = 4  # crop pixels per heatmap cell
_CORRECTION_LIMIT = 8.0  # crop pixels; keeps the heatmaps responsible for where the points are
_STEM_WIDTH = 16
# Stages at 1/4, 1/8, 1/16 and 1/32 of the crop: channels, expansion, blocks.
_STAGES = ((24, 3, 2), (40, 3, 2), (80, 4, 3), (160, 4, 3))
_TOP_DOWN_WIDTH = 64
_CORRECTION_WIDTH = 256


class Landmarks(NamedTuple):
    """Output of :class:`LandmarkNet`.

    Attributes:
        points: [B, 68, 2] (x, y) in crop pixels, pixel centers at integers; iBUG 300-W order.
        confidence: [B] logit, positive when the crop shows a face.
    """

    points: torch.Tensor
    confidence: torch.Tensor


@dataclass(frozen=True)
class LandmarkNetConfig:
    """Size of the landmark network.

    Attributes:
        width_multiplier: factor on the channel counts.
    """

    width_multiplier: float = 1.0


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; adds its input when the shape stays (Sandler et al. 2018).

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        expansion: factor on the channels in between.
        stride: stride of the filter.
    """

    def __init__(self, in_channels: int, out_channels: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = in_channels * expansion
        self.expand = _conv_norm(in_channels, hidden, 1)
        self.filter = _conv_norm(hidden, hidden, 3, stride, groups=hidden)
        self.project = _conv_norm(hidden, out_channels, 1)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """[B, in, H, W] -> [B, out, H / stride, W / stride]."""
        out = self.project(F.relu(self.filter(F.relu(self.expand(features)))))
        return out + features if self.residual else out


class LandmarkNet(nn.Module):
    """Face crop -> 68 points and whether this is a face at all.

    Args:
        config: sizes.
    """

    def __init__(self, config: LandmarkNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or LandmarkNetConfig()
        stem_width = _scaled(_STEM_WIDTH, config)
        self.stem = _conv_norm(3, stem_width, 3, stride=2)
        stages: list[nn.Module] = []
        laterals: list[nn.Module] = []
        merges: list[nn.Module] = []
        top_down_width = _scaled(_TOP_DOWN_WIDTH, config)
        channels = stem_width
        for full_width, expansion, depth in _STAGES:
            width = _scaled(full_width, config)
            blocks = [InvertedResidual(channels, width, expansion, stride=2)]
            blocks += [InvertedResidual(width, width, expansion, stride=1) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*blocks))
            laterals.append(_conv_norm(width, top_down_width, 1))
            merges.append(_conv_norm(top_down_width, top_down_width, 3, groups=top_down_width))
            channels = width
        self.stages = nn.ModuleList(stages)
        self.laterals = nn.ModuleList(laterals)
        self.merges = nn.ModuleList(merges[:-1])  # the coarsest level has nothing to merge with
        self.heatmap_mix = _conv_norm(top_down_width, top_down_width, 1)
        self.heatmap_head = nn.Conv2d(top_down_width, NUM_LANDMARKS, 1)
        self.confidence_head = nn.Linear(channels, 1)
        correction_width = _scaled(_CORRECTION_WIDTH, config)
        self.correction = nn.Sequential(
            nn.Linear(2 * NUM_LANDMARKS + channels, correction_width),
            nn.ReLU(),
            nn.Linear(correction_width, 2 * NUM_LANDMARKS),
        )

    def forward(self, crops: torch.Tensor) -> Landmarks:
        """Locate the points.

        Args:
            crops: [B, 3, 128, 128] RGB in [0, 1], the face with some margin.

        Returns:
            Points and confidence; points lie inside the crop or at most 6.5 pixels outside.
        """
        levels = self._encode(crops)
        pooled = levels[-1].mean(dim=(2, 3))
        coarse = _soft_argmax(self.heatmap_head(self._merge(levels)))
        half = (crops.shape[-1] - 1) / 2
        normalized = (coarse - half) / half
        correction = self.correction(torch.cat([normalized.flatten(1), pooled], dim=1))
        points = coarse + _CORRECTION_LIMIT * torch.tanh(correction).view_as(coarse)
        return Landmarks(points, self.confidence_head(pooled).squeeze(1))

    def _encode(self, crops: torch.Tensor) -> list[torch.Tensor]:
        """Feature maps at 1/4, 1/8, 1/16 and 1/32 of the crop."""
        levels: list[torch.Tensor] = []
        features = F.relu(self.stem(_standardize(crops)))
        for stage in self.stages:
            features = stage(features)
            levels.append(features)
        return levels

    def _merge(self, levels: list[torch.Tensor]) -> torch.Tensor:
        """Add the coarse levels to the finest one, from the top down: [B, C, H / 4, W / 4]."""
        merged = self.laterals[-1](levels[-1])
        for level, lateral, merge in zip(
            levels[-2::-1], self.laterals[-2::-1], self.merges[::-1], strict=True
        ):
            merged = F.interpolate(merged, scale_factor=2.0, mode="nearest")
            merged = F.relu(merge(F.relu(merged + lateral(level))))
        return F.relu(self.heatmap_mix(merged))


def _standardize(crops: torch.Tensor) -> torch.Tensor:
    """Remove brightness and contrast of each crop, so that lighting and exposure matter less."""
    std, mean = torch.std_mean(crops, dim=(1, 2, 3), keepdim=True)
    return (crops - mean) / (std + 0.02)


def _soft_argmax(heatmaps: torch.Tensor) -> torch.Tensor:
    """Mean position of each heatmap in crop pixels: [B, N, H, W] logits -> [B, N, 2] (x, y)."""
    height, width = heatmaps.shape[2:]
    with torch.autocast(heatmaps.device.type, enabled=False):
        mass = heatmaps.float().flatten(2).softmax(dim=2).unflatten(2, (height, width))
        x = (mass.sum(dim=2) * _cell_centers(width, mass.device)).sum(dim=2)
        y = (mass.sum(dim=3) * _cell_centers(height, mass.device)).sum(dim=2)
    return torch.stack([x, y], dim=2)


def _cell_centers(count: int, device: torch.device) -> torch.Tensor:
    """Crop coordinates of the heatmap cells; cell 0 covers the pixels 0 to 3, whose middle is 1.5."""
    return (torch.arange(count, device=device) + 0.5) * _HEATMAP_STRIDE - 0.5


def _conv_norm(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels),
    )


def _scaled(width: int, config: LandmarkNetConfig) -> int:
    return max(4, round(width * config.width_multiplier))

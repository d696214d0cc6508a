"""3DMM coefficient regressor (Deng et al. 2019; paper, section 3.1): one face crop -> 257 numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from videoretalking.core.coefficients import ANGLES, EXPRESSION, IDENTITY, LIGHTING, TEXTURE
from videoretalking.models.layers.resnet import ResNetBody, require_four_stages

_FEATURES = 512 * Bottleneck.expansion
# One linear head per group, in the order of the coefficient vector; translation has two: (tx, ty) and tz.
_HEAD_SIZES = (
    *(group.stop - group.start for group in (IDENTITY, EXPRESSION, TEXTURE, ANGLES, LIGHTING)),
    2,
    1,
)


@dataclass(frozen=True)
class ReconNetConfig:
    """Sizes of the regressor; the defaults are ResNet-50, as released.

    Attributes:
        depths: bottleneck blocks of the four stages.

    Raises:
        ValueError: not four stages.
    """

    depths: tuple[int, ...] = (3, 4, 6, 3)

    def __post_init__(self) -> None:
        require_four_stages(self.depths)


class ReconNet(nn.Module):
    """ResNet-50 with one linear head for each group of coefficients.

    Args:
        config: sizes.
    """

    def __init__(self, config: ReconNetConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or ReconNetConfig()
        self.backbone = ResNetBody(Bottleneck, config.depths)
        self.heads = nn.ModuleList(nn.Linear(_FEATURES, size) for size in _HEAD_SIZES)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Regress the coefficients.

        Args:
            image: [B, 3, 224, 224] aligned face crop, RGB in [0, 1].

        Returns:
            [B, 257] in the order of ``core.coefficients``.
        """
        *_, features = self.backbone(image)
        pooled = features.mean(dim=(2, 3))
        return torch.cat([head(pooled) for head in self.heads], dim=1)

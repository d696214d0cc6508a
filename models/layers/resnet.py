"""ResNet bodies under detectors and parsers: torchvision's network without its head."""

from __future__ import annotations

import torch
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

NUM_STAGES = 4


class ResNetBody(ResNet):
    """ResNet (He et al. 2016) that returns its last three stages; strides sit in the 3x3 convolutions.

    Parameter names are torchvision's.

    Args:
        block: ``BasicBlock`` (ResNet-18) or ``Bottleneck`` (ResNet-50).
        depths: blocks in each of the four stages.
    """

    def __init__(self, block: type[BasicBlock | Bottleneck], depths: tuple[int, ...]) -> None:
        super().__init__(block, list(depths), num_classes=1)
        del self.avgpool, self.fc

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] -> maps at 1/8, 1/16 and 1/32 with 2, 4 and 8 times 64 * expansion channels."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        eighth = self.layer2(self.layer1(x))
        sixteenth = self.layer3(eighth)
        return eighth, sixteenth, self.layer4(sixteenth)


def require_four_stages(depths: tuple[int, ...]) -> None:
    """Refuse a list of depths that does not fit a ResNet; for ``__post_init__``.

    Raises:
        ValueError: not four numbers.
    """
    if len(depths) != NUM_STAGES:
        raise ValueError(f"depths must name {NUM_STAGES} ResNet stages, is {depths}")

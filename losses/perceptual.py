"""How far an image is from its target: pixels (eq. 5, 10), features (eq. 1, 2, 6, 11), Gram style (eq. 3).

Features come from a fixed network; the paper's is VGG-19. Where its weights are absent, a config has to name a
stand-in; nothing is replaced silently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.errors import UserError
from videoretalking.models.layers.blocks import scale_by

FeatureExtractor = Callable[[torch.Tensor], Sequence[torch.Tensor]]

# Differs from paper: equations 1-3, 6 and 11 print a 2-norm; the code that the authors point to (PIRenderer,
# Ren et al. 2021) takes the mean absolute difference, which is the default here.
_DISTANCES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l1": F.l1_loss,
    "squared_l2": F.mse_loss,
}


def l1_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference in RGB (equations 5 and 10).

    Args:
        output: [B, 3, ...] image or clip in [0, 1].
        target: the same shape.

    Returns:
        Scalar in [0, 1] for images in range; 0 for equal images, lower is better.
    """
    return F.l1_loss(output.float(), target.float())


class PerceptualLoss(nn.Module):
    """Distance between feature maps, summed over layers and averaged over scales.

    Args:
        features: fixed network, image [B, 3, H, W] in [0, 1] -> list of maps [B, C, h, w].
        distance: ``l1`` or ``squared_l2``; the mean over batch, channels and pixels of each layer.
        num_scales: also compare at 1/2, 1/4 ... of the size; 1 is the equation as printed.
        pixels: weight of the images themselves as one more map on every scale; 0 is the equation as printed.

    Raises:
        UserError: unknown distance.
    """

    def __init__(
        self, features: FeatureExtractor, distance: str = "l1", num_scales: int = 1, pixels: float = 0.0
    ) -> None:
        super().__init__()
        self.features = features
        self.distance = choose_distance(distance)
        self.num_scales = num_scales
        self.pixels = pixels

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compare two batches of images.

        Args:
            output: [B, 3, H, W] in [0, 1]; gradients flow here only.
            target: the same shape.

        Returns:
            Scalar >= 0, 0 for equal images, lower is better.
        """
        total = output.new_zeros((), dtype=torch.float32)
        for scale in range(self.num_scales):
            if scale > 0:
                output, target = scale_by(output, 0.5), scale_by(target, 0.5)
            with torch.no_grad():
                wanted = self.features(target)
            for have, want in zip(self.features(output), wanted, strict=True):
                total = total + self.distance(have.float(), want.float())
            if self.pixels:
                total = total + self.pixels * self.distance(output.float(), target.float())
        return total / self.num_scales


class StyleLoss(nn.Module):
    """Distance between Gram matrices of feature maps, summed over layers (Gatys et al. 2016; paper, eq. 3).

    Args:
        features: fixed network as in :class:`PerceptualLoss`.
        distance: ``l1`` or ``squared_l2``; the mean over batch and matrix entries of each layer.

    Raises:
        UserError: unknown distance.
    """

    def __init__(self, features: FeatureExtractor, distance: str = "l1") -> None:
        super().__init__()
        self.features = features
        self.distance = choose_distance(distance)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] twice in [0, 1] -> scalar >= 0, 0 for equal images, lower is better."""
        with torch.no_grad():
            wanted = [gram_matrix(feature) for feature in self.features(target)]
        total = output.new_zeros((), dtype=torch.float32)
        for have, want in zip(self.features(output), wanted, strict=True):
            total = total + self.distance(gram_matrix(have), want)
        return total


def gram_matrix(features: torch.Tensor) -> torch.Tensor:
    """Channel correlations of a feature map, divided by its number of values.

    Args:
        features: [B, C, h, w].

    Returns:
        [B, C, C] float32, symmetric and positive semi-definite.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.float().flatten(2)  # [B, C, h * w]; sums over pixels overflow in half precision
        return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def choose_distance(name: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The distance of that name.

    Raises:
        UserError: unknown name.
    """
    if name not in _DISTANCES:
        raise UserError(f"unknown perceptual distance {name!r}, choose {' or '.join(_DISTANCES)}")
    return _DISTANCES[name]

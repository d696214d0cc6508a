"""Identity loss on face recognition embeddings (paper, equation 12)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import resize


class IdentityLoss(nn.Module):
    """Euclidean distance between the unit embeddings of two faces.

    Assumed: the paper does not say how E-Net's 384x384 face reaches ArcFace; the whole crop is resized to the
    network's input, and embeddings are brought to unit length as recognition compares them.

    Args:
        embedder: fixed recognition network, image [B, 3, size, size] in [0, 1] -> [B, D].
        size: its input size in pixels.
    """

    def __init__(self, embedder: Callable[[torch.Tensor], torch.Tensor], size: int = 112) -> None:
        super().__init__()
        self.embedder = embedder
        self.size = size

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compare two batches of faces.

        Args:
            output: [B, 3, H, W] in [0, 1]; gradients flow here only.
            target: the same shape.

        Returns:
            Scalar in [0, 2], 0 for the same embedding, lower is better.
        """
        with torch.no_grad():
            wanted = self._embed(target)
        # vector_norm has a zero gradient at zero, where a square root would give NaN
        return torch.linalg.vector_norm(self._embed(output) - wanted, dim=1).mean()

    def _embed(self, image: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.embedder(resize(image, self.size)).float(), dim=1)

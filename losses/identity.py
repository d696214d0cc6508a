"""Identity loss on face recognition embeddings (paper, equation 12)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import shrink


class IdentityLoss(nn.Module):
    """Euclidean distance between the unit embeddings of two faces.

    Assumed: the paper does not say how E-Net's 384x384 face reaches ArcFace. That network was trained on faces
    whose eyes, nose and mouth corners lie near five fixed points (Deng et al. 2019a), so both faces are turned,
    scaled and shifted there by the landmarks of the target. Embeddings are brought to unit length, as recognition
    compares them.

    Args:
        embedder: fixed recognition network, aligned face [B, 3, size, size] in [0, 1] -> [B, D].
        size: its input size in pixels.
    """

    def __init__(self, embedder: Callable[[torch.Tensor], torch.Tensor], size: int = 112) -> None:
        super().__init__()
        self.embedder = embedder
        self.size = size

    def forward(
        self, output: torch.Tensor, target: torch.Tensor, from_recognition: torch.Tensor
    ) -> torch.Tensor:
        """Compare two batches of faces.

        Args:
            output: [B, 3, H, W] in [0, 1]; gradients flow here only.
            target: the same shape.
            from_recognition: [B, 2, 3] matrices of the target frames, pixel of the aligned face -> pixel of the
                crop, pixel centers at integers.

        Returns:
            Scalar in [0, 2], 0 for the same embedding, lower is better.
        """
        with torch.no_grad():
            wanted = self._embed(target, from_recognition)
        # vector_norm has a zero gradient at zero, where a square root would give NaN
        return torch.linalg.vector_norm(self._embed(output, from_recognition) - wanted, dim=1).mean()

    def _embed(self, image: torch.Tensor, from_recognition: torch.Tensor) -> torch.Tensor:
        aligned = align_faces(image, from_recognition, self.size)
        return F.normalize(self.embedder(aligned).float(), dim=1)


def align_faces(image: torch.Tensor, from_aligned: torch.Tensor, size: int) -> torch.Tensor:
    """Show faces where a recognition network expects them.

    Args:
        image: [B, 3, H, W].
        from_aligned: [B, 2, 3], pixel of the result -> pixel of the image, centers at integers.
        size: side of the result in pixels.

    Returns:
        [B, 3, size, size] float32, zero outside of the image.
    """
    height, width = image.shape[-2:]
    with torch.autocast(image.device.type, enabled=False):
        image, matrix = image.float(), from_aligned.float()
        # The face fills most of the crop, so the sides tell how far the view shrinks it.
        reduced = shrink(image, height // max(1, height // size), antialias=True)
        position = torch.arange(size, device=image.device, dtype=torch.float32)
        y, x = torch.meshgrid(position, position, indexing="ij")
        pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # [size, size, 3]
        source = torch.einsum("bij,hwj->bhwi", matrix, pixels)
        # pixel center -> -1 .. 1 from edge to edge, which is the same in the reduced image
        grid = (2.0 * source + 1.0) / source.new_tensor([width, height]) - 1.0
        return F.grid_sample(reduced, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

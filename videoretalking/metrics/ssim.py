"""PSNR and SSIM (Wang et al. 2004) between generated and source frames. Higher is more alike."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from videoretalking.core.quality import psnr
from videoretalking.metrics.base import Chunk, Clip, Metric, to_float

WINDOW = 11  # pixels, Gaussian
SIGMA = 1.5
K1, K2 = 0.01, 0.03


def ssim(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Structural similarity, mean over pixels and channels.

    Args:
        first: [N, C, H, W] in [0, 1], sides of at least 11 pixels.
        second: the same shape.

    Returns:
        [N] in [-1, 1]; 1 for identical images. Borders narrower than half the window are not counted.
    """
    channels = first.shape[1]
    positions = torch.arange(WINDOW, dtype=first.dtype, device=first.device) - WINDOW // 2
    line = torch.exp(-0.5 * (positions / SIGMA) ** 2)
    line = (line / line.sum()).expand(channels, 1, WINDOW)

    def blur(images: torch.Tensor) -> torch.Tensor:
        rows = F.conv2d(images, line[:, :, None, :], groups=channels)
        return F.conv2d(rows, line[:, :, :, None], groups=channels)

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1**2
    variance_2 = blur(second * second) - mean_2**2
    covariance = blur(first * second) - mean_1 * mean_2
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_1 * mean_2 + c1) / (mean_1**2 + mean_2**2 + c1)
    structure = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    return (luminance * structure).mean(dim=(1, 2, 3))


class Similarity(Metric):
    """Mean SSIM and PSNR of whole frames against the source video.

    In the unpaired protocol this tells how much of the picture a method leaves alone; on a video dubbed with its
    own sound it is the reconstruction quality.

    Args:
        device: where to compute.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.device = device

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._ssim: list[torch.Tensor] = []
        self._psnr: list[torch.Tensor] = []

    def update(self, chunk: Chunk) -> None:
        """Compare the frames of a chunk."""
        if chunk.source is not None and len(chunk):
            generated, source = to_float(chunk.generated, self.device), to_float(chunk.source, self.device)
            self._ssim.append(ssim(generated, source).cpu())
            self._psnr.append(psnr(generated, source).cpu())

    def compute(self) -> dict[str, float]:
        """``ssim`` and ``psnr`` (decibels), means over frames."""
        if not self._ssim:
            return {}
        values = {"ssim": torch.cat(self._ssim), "psnr": torch.cat(self._psnr)}
        return {name: math.fsum(frames.tolist()) / len(frames) for name, frames in values.items()}

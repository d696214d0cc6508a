"""LPIPS between generated and source frames (Zhang et al. 2018). Lower is more alike, 0 for identical frames."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from videoretalking.core.errors import UserError
from videoretalking.metrics.base import Chunk, Clip, Metric, to_float

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def lpips_distance(device: torch.device, backbone: str = "alex") -> Distance:
    """The published distance: two [N, 3, H, W] batches in [0, 1] -> [N].

    Raises:
        UserError: the weights of the backbone are neither cached nor can they be fetched.
    """
    from lpips import LPIPS

    try:
        network = LPIPS(net=backbone, verbose=False).to(device).eval()
    except OSError as error:
        raise UserError(
            f"LPIPS needs torchvision's {backbone} weights, which could not be fetched ({error}): "
            "python -m scripts.download_checkpoints --for eval"
        ) from None

    def distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return network(first.to(device), second.to(device), normalize=True).flatten()

    return distance


class Lpips(Metric):
    """Mean perceptual distance of whole frames to the source video.

    Args:
        distance: two batches in [0, 1] -> one number a frame, see :func:`lpips_distance`.
        stride: use every ``stride``-th frame.
    """

    def __init__(self, distance: Distance, stride: int = 1) -> None:
        self.distance = distance
        self.stride = stride

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._values: list[float] = []

    def update(self, chunk: Chunk) -> None:
        """Compare the frames of a chunk."""
        frames = chunk.every(self.stride)
        if chunk.source is not None and len(chunk.generated[frames]):
            generated, source = to_float(chunk.generated[frames]), to_float(chunk.source[frames])
            self._values += self.distance(generated, source).cpu().tolist()

    def compute(self) -> dict[str, float]:
        """``lpips``: mean over frames."""
        return {"lpips": float(np.mean(self._values))} if self._values else {}

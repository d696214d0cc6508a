"""FID: Frechet distance between the features of generated and of real frames. Lower is better.

The features come from a network (:mod:`metrics.inception`); the distance is pinned by parity cases. Statistics
are accumulated in float64 and merge exactly enough to be independent of how videos were split over processes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Floats64
from videoretalking.metrics.base import Chunk, Clip, Metric, to_float

FeatureExtractor = Callable[[torch.Tensor], torch.Tensor]  # [N, 3, H, W] in [0, 1] -> [N, features]


class FeatureStatistics:
    """Mean and covariance of feature rows that arrive in blocks.

    Blocks are merged pairwise around their means (Chan et al. 1983), which stays accurate where plain sums of
    squares cancel.
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean: Floats64 = np.zeros(0)
        self._scatter: Floats64 = np.zeros((0, 0))

    def update(self, features: npt.ArrayLike) -> None:
        """Take [N, features] rows."""
        rows = np.asarray(features, dtype=np.float64)
        if len(rows) == 0:
            return
        mean = rows.mean(axis=0)
        centered = rows - mean
        self._merge(len(rows), mean, centered.T @ centered)

    def merge(self, other: FeatureStatistics, times: int = 1) -> None:
        """Take all rows of other statistics, each so many times."""
        if other.count and times:
            self._merge(times * other.count, other.mean, times * other._scatter)

    def _merge(self, count: int, mean: Floats64, scatter: Floats64) -> None:
        if self.count == 0:
            self.count, self.mean, self._scatter = count, mean, scatter
            return
        total = self.count + count
        difference = mean - self.mean
        self._scatter = self._scatter + (
            scatter + np.outer(difference, difference) * (self.count * count / total)
        )
        self.mean = self.mean + difference * (count / total)
        self.count = total

    @property
    def covariance(self) -> Floats64:
        """[features, features] float64, divided by count - 1.

        Raises:
            ValueError: fewer than two rows were seen.
        """
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 feature rows, got {self.count}")
        return self._scatter / (self.count - 1)


def frechet_distance(
    first: FeatureStatistics,
    second: FeatureStatistics,
    method: Literal["symmetric", "direct"] = "symmetric",
) -> float:
    """|m1 - m2|^2 + tr C1 + tr C2 - 2 tr sqrt(C1 C2).

    Args:
        first: statistics of one set of features.
        second: statistics of the other.
        method: ``symmetric`` takes the root of C1^(1/2) C2 C1^(1/2), which is symmetric and stays stable with
            fewer images than features; ``direct`` takes the root of the product itself, as published FID does.

    Returns:
        The distance; identical sets may give a tiny negative number.
    """
    c1, c2 = first.covariance, second.covariance
    if method == "symmetric":
        root = _root(c1)
        trace = np.sqrt(np.clip(np.linalg.eigvalsh(root @ c2 @ root), 0.0, None)).sum()
    else:
        # The trace of a matrix root is the sum of the roots of the eigenvalues.
        trace = np.sqrt(np.linalg.eigvals(c1 @ c2).astype(np.complex128)).sum().real
    difference = first.mean - second.mean
    return float(difference @ difference + np.trace(c1) + np.trace(c2) - 2.0 * trace)


def _root(matrix: Floats64) -> Floats64:
    """Symmetric square root of a positive semi-definite matrix."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0.0, None))) @ vectors.T


class FidFeatures(Metric):
    """Collects the features of a video's whole frames; the distance is taken over the whole set of videos.

    Args:
        extractor: [N, 3, H, W] float32 RGB in [0, 1] -> [N, features].
        stride: use every ``stride``-th frame.
    """

    def __init__(self, extractor: FeatureExtractor, stride: int = 1) -> None:
        self.extractor = extractor
        self.stride = stride

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._rows: list[npt.NDArray[np.float32]] = []

    def update(self, chunk: Chunk) -> None:
        """Extract the features of a chunk's generated frames."""
        frames = chunk.generated[chunk.every(self.stride)]
        if len(frames):
            with torch.inference_mode():
                self._rows.append(self.extractor(to_float(frames)).float().cpu().numpy())

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """[frames, features] float32 of the current video."""
        return np.concatenate(self._rows) if self._rows else np.zeros((0, 0), dtype=np.float32)

    def compute(self) -> dict[str, float]:
        """``fid_frames``: frames that contribute."""
        return {"fid_frames": float(sum(map(len, self._rows)))}

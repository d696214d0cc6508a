"""Identity similarity: cosine of ArcFace embeddings of the generated and the source face. Higher is closer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from videoretalking.core.arrays import Image8
from videoretalking.faces.align import extract, recognition_crop
from videoretalking.metrics.base import Chunk, Clip, Metric, to_float

Embedder = Callable[[torch.Tensor], torch.Tensor]  # [N, 3, 112, 112] RGB in [0, 1] -> [N, embedding]


class Identity(Metric):
    """Mean cosine similarity over frames.

    Args:
        embedder: face recognition network in eval mode.
        stride: use every ``stride``-th frame.
        device: where to compute.
    """

    def __init__(self, embedder: Embedder, stride: int = 1, device: torch.device | None = None) -> None:
        self.embedder = embedder
        self.stride = stride
        self.device = device

    def reset(self, clip: Clip) -> None:
        """Begin a video."""
        self._values: list[float] = []

    def update(self, chunk: Chunk) -> None:
        """Compare the faces of a chunk, each aligned by its own landmarks."""
        if chunk.source is None:
            return
        generated: list[Image8] = []
        source: list[Image8] = []
        for index in range(len(chunk))[chunk.every(self.stride)]:
            face, source_face = chunk.faces[index], chunk.source_faces[index]
            if face is None or source_face is None or face.landmarks is None or source_face.landmarks is None:
                continue
            generated.append(extract(chunk.generated[index], recognition_crop(face.landmarks), edge=False))
            source.append(extract(chunk.source[index], recognition_crop(source_face.landmarks), edge=False))
        if generated:
            with torch.inference_mode():
                first = self.embedder(to_float(np.stack(generated), self.device))
                second = self.embedder(to_float(np.stack(source), self.device))
            self._values += F.cosine_similarity(first.float(), second.float()).cpu().tolist()

    def compute(self) -> dict[str, float]:
        """``identity``: mean cosine in [-1, 1]."""
        return {"identity": float(np.mean(self._values))} if self._values else {}

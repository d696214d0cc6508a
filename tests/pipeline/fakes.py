"""Stand-ins of the pipeline's tools: a detector of drawn faces, and configs of tiny networks."""

from __future__ import annotations

import numpy as np
import torch
from drawn_face import UNIT_FACE
from torch import nn

from videoretalking.faces.align import landmarks_box
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor, load_face_model
from videoretalking.faces.types import Face
from videoretalking.media.picture import Picture

SKIN = np.array([200, 160, 140])
TINY = {
    "dnet": {
        "descriptor_size": 8,
        "adain_hidden": 4,
        "warp_channels": 2,
        "warp_max_channels": 4,
        "edit_channels": 2,
        "edit_max_channels": 4,
        "edit_residual": 1,
    },
    "lnet": {
        "channels": 4,
        "max_channels": 8,
        "num_residual": 1,
        "attention_layers": 1,
        "attention_heads": 1,
        "attention_head_size": 4,
        "attention_hidden": 8,
        "audio_channels": (4, 4, 4, 4, 8),
        "adain_hidden": 4,
    },
    "enet": {
        "identity_size": 16,
        "identity_channels": (4, 4, 4),
        "style_size": 8,
        "style_channels": (4, 4),
    },
}


class FakeDetector:
    """Finds skin-colored regions and calls each a face."""

    name = "fake"
    search_every = 1

    def __init__(self) -> None:
        self.calls = 0

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        self.calls += 1
        skin = np.abs(frame.astype(int) - SKIN).max(axis=2) < 25
        columns = np.flatnonzero(skin.sum(axis=0) > 4)
        if not len(columns):
            return []
        groups = np.split(columns, np.flatnonzero(np.diff(columns) > 10) + 1)
        faces = [self._face(skin, group) for group in groups if len(group) > 20]
        return sorted(faces, key=lambda face: -float(face.box[2] - face.box[0]))

    def follow(self, frame: Picture, face: Face) -> Face | None:
        def overlap(other: Face) -> float:
            return float(min(face.box[2], other.box[2]) - max(face.box[0], other.box[0]))

        near = [other for other in self.detect(frame.image) if overlap(other) > 0]
        return max(near, key=overlap) if near else None

    @staticmethod
    def _face(skin: np.ndarray, columns: np.ndarray) -> Face:
        rows = np.flatnonzero(skin[:, columns].sum(axis=1) > 4)
        low, high = UNIT_FACE.min(axis=0), UNIT_FACE.max(axis=0)
        scale = (columns[-1] - columns[0]) / (high[0] - low[0])
        corner = np.array([columns[0], rows[0]]) - low * scale
        landmarks = (UNIT_FACE * scale + corner).astype(np.float32)
        return Face(landmarks_box(landmarks), 0.9, landmarks)


class FakeTools:
    """The fake detector with the real 3DMM fit."""

    identity = "fake"

    def __init__(self) -> None:
        self.detector = FakeDetector()
        self.loads = 0

    def load(self) -> tuple[FakeDetector, FitReconstructor]:
        self.loads += 1
        return self.detector, FitReconstructor(load_face_model())


class Colors(nn.Module):
    """Coefficients that show which crop they were made from."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(crops))
        return crops.flatten(1)[:, : 257 * 500 : 500]


class NetworkTools:
    """The fake detector with a network that makes rows."""

    identity = "network"

    def __init__(self, detector: FakeDetector) -> None:
        self.detector, self.network = detector, Colors()

    def load(self) -> tuple[FakeDetector, NetworkReconstructor]:
        return self.detector, NetworkReconstructor(self.network)

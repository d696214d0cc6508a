"""A detector that reads scripted positions, and frames that carry their number."""

from __future__ import annotations

import numpy as np

from videoretalking.faces.align import landmarks_box
from videoretalking.faces.types import Face
from videoretalking.media.picture import Picture

SIZE = (320, 240)
Position = tuple[float, float, float]  # x, y, scale


class ScriptedDetector:
    """Knows where the faces of each frame are; follows those that moved by less than their size.

    The number of the frame is written into its first pixels.
    """

    name = "scripted"
    search_every = 12

    def __init__(self, shape: np.ndarray, script: list[list[Position]], noise: float = 0.0) -> None:
        self.shape = (shape - shape.mean(axis=0)) / 70.0
        self.script = script
        self.noise = noise
        self.searches: list[int] = []
        self.score = 0.9
        self.rng = np.random.default_rng(0)

    def face(self, position: Position) -> Face:
        x, y, scale = position
        points = self.shape * scale + [x, y] + self.rng.normal(size=(68, 2)) * self.noise
        points = points.astype(np.float32)
        return Face(landmarks_box(points), self.score, points)

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        self.searches.append(number_of(frame))
        return [self.face(position) for position in self.script[number_of(frame)]]

    def follow(self, frame: Picture, face: Face) -> Face | None:
        assert face.landmarks is not None
        old = face.landmarks.mean(axis=0)
        for position in self.script[number_of(frame.image)]:
            if np.hypot(*(old - position[:2])) < position[2] * 0.5:
                return self.face(position)
        return None


def frame_of(index: int, scene: int = 0) -> np.ndarray:
    rng = np.random.default_rng(scene)
    frame = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
    frame[0, 0] = [index % 256, index // 256, 0]
    return frame


def number_of(frame: np.ndarray) -> int:
    return int(frame[0, 0, 0]) + 256 * int(frame[0, 0, 1])

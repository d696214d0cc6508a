"""A drawn face for tests: landmarks in the iBUG scheme and a picture of them."""

from __future__ import annotations

import cv2
import numpy as np

from videoretalking.faces.align import box_crop, lipsync_box
from videoretalking.pipeline.jobs import FaceJob

# 68 points of a frontal face in a unit square, x to the right, y down.
_JAW = [(0.5 - 0.42 * np.cos(a), 0.35 + 0.62 * np.sin(a)) for a in np.linspace(0.05, np.pi - 0.05, 17)]
_BROWS = [(x, 0.24 - 0.03 * np.sin(i)) for i, x in enumerate(np.linspace(0.17, 0.42, 5))]
_BROWS += [(x, 0.24 - 0.03 * np.sin(i)) for i, x in enumerate(np.linspace(0.58, 0.83, 5))]
_NOSE = [(0.5, y) for y in np.linspace(0.33, 0.55, 4)] + [(x, 0.6) for x in np.linspace(0.42, 0.58, 5)]


def _ellipse(x: float, y: float, a: float, b: float, count: int) -> list[tuple[float, float]]:
    angles = np.pi + np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [(x + a * np.cos(t), y + b * np.sin(t)) for t in angles]


_EYES = _ellipse(0.31, 0.34, 0.07, 0.03, 6) + _ellipse(0.69, 0.34, 0.07, 0.03, 6)
_MOUTH = _ellipse(0.5, 0.76, 0.16, 0.06, 12) + _ellipse(0.5, 0.76, 0.12, 0.02, 8)
UNIT_FACE = np.array(_JAW + _BROWS + _NOSE + _EYES + _MOUTH, dtype=np.float32)


def face_landmarks(x: float = 60, y: float = 50, size: float = 100) -> np.ndarray:
    """[68, 2] landmarks of a face whose upper left corner is at (x, y)."""
    return (UNIT_FACE * size + [x, y]).astype(np.float32)


def face_frame(landmarks: np.ndarray, width: int = 240, height: int = 200, seed: int = 0) -> np.ndarray:
    """[height, width, 3] uint8 picture of a face on a textured background."""
    frame = np.random.default_rng(seed).integers(60, 120, (height, width, 3), dtype=np.uint8)
    frame = cv2.GaussianBlur(frame, (0, 0), 1.5)
    points = np.round(landmarks).astype(np.int32)
    cv2.fillPoly(frame, [cv2.convexHull(points)], (200, 160, 140))
    for part in (points[36:42], points[42:48]):
        cv2.fillPoly(frame, [part], (40, 40, 60))
    cv2.fillPoly(frame, [points[48:60]], (170, 60, 70))
    return np.asarray(frame)


def face_job(
    frame: np.ndarray, landmarks: np.ndarray, size: int = 96, index: int = 0, track: int = 0
) -> FaceJob:
    """The job of a face."""
    return FaceJob(
        frame, track, index, 0, index * 0.04, landmarks, box_crop(lipsync_box(landmarks), (size, size))
    )

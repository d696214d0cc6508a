"""Synthetic faces and pictures for the metric tests."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.faces.types import Face


def make_landmarks(
    center: tuple[float, float] = (96.0, 96.0), size: float = 60.0, opening: float = 0.2
) -> npt.NDArray[np.float32]:
    """A schematic 68-point face: eyes, nose, mouth and jaw where a face has them.

    Args:
        center: between the eyes and the mouth, pixels.
        size: distance of the eye centers, pixels.
        opening: height of the inner mouth in eye distances.
    """
    points = np.zeros((68, 2))
    angle = np.linspace(0.05 * np.pi, 0.95 * np.pi, 17)
    points[:17] = np.stack([-np.cos(angle) * 1.1, np.sin(angle) * 1.6 - 0.4], axis=1)
    points[17:27] = np.stack([np.linspace(-0.9, 0.9, 10), np.full(10, -0.8)], axis=1)
    points[27:31] = np.stack([np.zeros(4), np.linspace(-0.4, 0.2, 4)], axis=1)
    points[31:36] = np.stack([np.linspace(-0.2, 0.2, 5), np.full(5, 0.3)], axis=1)
    ring = np.linspace(-np.pi, np.pi, 6, endpoint=False)
    eye = np.stack([np.cos(ring) * 0.2, np.sin(ring) * 0.08], axis=1)
    points[36:42], points[42:48] = eye - [0.5, 0.5], eye - [-0.5, 0.5]
    ring = np.linspace(-np.pi, np.pi, 12, endpoint=False)
    points[48:60] = np.stack([np.cos(ring) * 0.45, np.sin(ring) * (0.15 + opening / 2) + 0.65], axis=1)
    points[60:68] = [
        [-0.4, 0.65],
        *[[x, 0.65 - opening / 2] for x in (-0.2, 0.0, 0.2)],
        [0.4, 0.65],
        *[[x, 0.65 + opening / 2] for x in (0.2, 0.0, -0.2)],
    ]
    return (points * size + np.asarray(center)).astype(np.float32)


def make_face(center: tuple[float, float] = (96.0, 96.0), size: float = 60.0, opening: float = 0.2) -> Face:
    """A :class:`Face` around :func:`make_landmarks`."""
    landmarks = make_landmarks(center, size, opening)
    box = np.concatenate([landmarks.min(axis=0), landmarks.max(axis=0)]).astype(np.float32)
    return Face(box=box, score=1.0, landmarks=landmarks)


def smooth_frame(height: int, width: int, seed: int = 0, detail: int = 8) -> npt.NDArray[np.uint8]:
    """A random color picture without pixel noise."""
    coarse = np.random.default_rng(seed).integers(
        0, 256, (height // detail, width // detail, 3), dtype=np.uint8
    )
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)

"""A synthetic 68-point face for the face tests: smooth, roughly human, made by formula."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core.arrays import Floats64


@pytest.fixture
def face3d() -> Floats64:
    """[68, 3] in units of the face model: x right, y up, z towards the viewer."""
    angle = np.linspace(np.pi, 2 * np.pi, 17)
    jaw = np.stack([0.72 * np.cos(angle), 0.2 + np.sin(angle), 0.75 * np.sin(angle) ** 2 - 0.6], 1)
    x = np.linspace(0.19, 0.57, 5)
    brow = np.stack([x, 0.52 - 0.8 * (x - 0.38) ** 2, 0.33 - 0.75 * (x - 0.15) ** 2], 1)
    bridge = np.stack([np.zeros(4), np.linspace(0.3, -0.05, 4), np.linspace(0.35, 0.55, 4)], 1)
    x = np.linspace(-0.12, 0.12, 5)
    base = np.stack([x, -0.16 + 0.8 * x**2, 0.39 - 3.0 * x**2], 1)
    eyes = [_ring(center, 0.29, 0.12, 0.045, 6, depth=0.15) for center in (-0.31, 0.31)]
    lips = [_ring(0, -0.37, 0.25, 0.08, 12, depth=0.38), _ring(0, -0.37, 0.2, 0.02, 8, depth=0.37)]
    return np.concatenate([jaw, (brow * [-1, 1, 1])[::-1], brow, bridge, base, *eyes, *lips])


def _ring(x: float, y: float, width: float, height: float, count: int, depth: float) -> Floats64:
    """An ellipse from its left end clockwise, bent backwards like a face."""
    angle = np.pi - np.arange(count) * 2 * np.pi / count
    across = width * np.cos(angle)
    return np.stack([x + across, y + height * np.sin(angle), depth - 2.4 * across**2 * (depth > 0.2)], 1)


@pytest.fixture
def frontal(face3d: Floats64) -> Floats64:
    """[68, 2] pixels, y down: the face from the front, 140 pixels tall, in a frame of 320 x 240."""
    return face3d[:, :2] * [70.0, -70.0] + [160.0, 120.0]

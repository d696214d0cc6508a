from __future__ import annotations

import numpy as np
from metric_samples import smooth_frame

from videoretalking.metrics.mjpeg import MjpegStream


def _psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


def test_each_frame_comes_back_at_once_and_degraded() -> None:
    coder = MjpegStream(width=96, height=64)
    frames = [smooth_frame(64, 96, seed) for seed in range(4)]
    for frame in frames:
        coded = coder(frame)
        assert coded.shape == frame.shape and coded.dtype == np.uint8
        assert 25 < _psnr(frame, coded) < 55
        assert all(_psnr(other, coded) < 20 for other in frames if other is not frame)


def test_quality_depends_on_the_frames_before() -> None:
    noisy = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    fresh, used = MjpegStream(224, 224), MjpegStream(224, 224)
    for _ in range(12):
        used(noisy)
    frame = smooth_frame(224, 224)
    assert _psnr(frame, fresh(frame)) > _psnr(frame, used(frame)) + 1.0

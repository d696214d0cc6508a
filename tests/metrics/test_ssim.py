from __future__ import annotations

import numpy as np
import pytest
import torch
from metric_samples import smooth_frame
from skimage.metrics import structural_similarity

from videoretalking.core.quality import psnr
from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.ssim import Similarity, ssim


def _pair() -> tuple[np.ndarray, np.ndarray]:
    frame = smooth_frame(48, 56)
    noise = np.random.default_rng(1).normal(scale=12, size=frame.shape)
    return frame, np.clip(frame + noise, 0, 255).astype(np.uint8)


def _tensor(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame).permute(2, 0, 1)[None].double() / 255


def test_ssim_agrees_with_scikit_image() -> None:
    first, second = _pair()
    _, full = structural_similarity(
        first / 255,
        second / 255,
        channel_axis=2,
        data_range=1.0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    expected = full[5:-5, 5:-5].mean()
    assert ssim(_tensor(first), _tensor(second)).item() == pytest.approx(expected, abs=1e-6)


def test_psnr_of_a_known_error() -> None:
    first = torch.zeros(2, 3, 4, 4)
    second = torch.stack([torch.full((3, 4, 4), 0.1), torch.zeros(3, 4, 4)])
    assert psnr(first, second).tolist() == pytest.approx([20.0, 100.0])


def test_means_over_chunks() -> None:
    first, second = _pair()
    metric = Similarity()
    metric.reset(Clip(times=np.arange(3) / 25))
    metric.update(Chunk(0, np.stack([first, second]), np.stack([first, first])))
    metric.update(Chunk(2, first[None], first[None]))
    values = metric.compute()
    one = ssim(_tensor(first).float(), _tensor(second).float()).item()
    assert values["ssim"] == pytest.approx((2 + one) / 3, abs=1e-5)
    metric.reset(Clip(times=np.arange(1) / 25))
    metric.update(Chunk(0, first[None]))
    assert metric.compute() == {}

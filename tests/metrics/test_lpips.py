from __future__ import annotations

import numpy as np
import pytest
import torch

from metrics.base import Chunk, Clip
from metrics.lpips import Lpips


def test_mean_over_selected_frames() -> None:
    metric = Lpips(lambda first, second: (first - second).abs().mean(dim=(1, 2, 3)), stride=2)
    source = np.zeros((4, 2, 2, 3), dtype=np.uint8)
    generated = source + np.array([51, 0, 102, 0], dtype=np.uint8)[:, None, None, None]
    metric.reset(Clip(times=np.arange(4) / 25))
    metric.update(Chunk(0, generated[:1], source[:1]))
    metric.update(Chunk(1, generated[1:], source[1:]))
    assert metric.compute() == {"lpips": pytest.approx(0.3)}


def test_published_network_is_zero_only_for_equal_pictures() -> None:
    from lpips import LPIPS

    torch.manual_seed(0)
    network = LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert network(picture, picture, normalize=True).item() == 0.0
        assert network(picture, 1 - picture, normalize=True).item() > 0.0

from __future__ import annotations

from functools import partial
from urllib.error import URLError

import lpips
import numpy as np
import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.lpips import Lpips, lpips_distance


def test_mean_over_selected_frames() -> None:
    metric = Lpips(lambda first, second: (first - second).abs().mean(dim=(1, 2, 3)), stride=2)
    source = np.zeros((4, 2, 2, 3), dtype=np.uint8)
    generated = source + np.array([51, 0, 102, 0], dtype=np.uint8)[:, None, None, None]
    metric.reset(Clip(times=np.arange(4) / 25))
    metric.update(Chunk(0, generated[:1], source[:1]))
    metric.update(Chunk(1, generated[1:], source[1:]))
    assert metric.compute() == {"lpips": pytest.approx(0.3)}


def test_published_network_is_zero_only_for_equal_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "LPIPS", partial(lpips.LPIPS, pnet_rand=True))
    distance = lpips_distance(torch.device("cpu"))
    picture = torch.rand(2, 3, 64, 64)
    other = torch.stack([picture[0], 1 - picture[1]])
    same, different = distance(picture, other).tolist()
    assert same == 0.0 and different > 0.0


def test_absent_weights_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr(lpips, "LPIPS", fetch)
    with pytest.raises(UserError, match="alex weights"):
        lpips_distance(torch.device("cpu"))

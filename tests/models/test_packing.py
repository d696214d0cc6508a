"""Convolutions whose weights oneDNN has sorted compute what they did."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from videoretalking.models.layers.packing import PackedConv2d, is_packable, pack_weights


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")
@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("options", [{}, {"bias": False, "stride": 2}, {"groups": 4}, {"dilation": 2}])
def test_packed_convolutions(mode: str, options: dict[str, int]) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3, padding=2, padding_mode=mode, **options)  # type: ignore[arg-type]
    conv.requires_grad_(False)
    network = nn.Sequential(conv, nn.Conv2d(128, 4, 1))
    packed = PackedConv2d(conv)
    with torch.inference_mode():
        for side in (12, 12, 7):  # the order is chosen for the first
            features = torch.randn(2, 64, side, side)
            torch.testing.assert_close(packed(features), conv(features), rtol=1e-5, atol=1e-5)
        expected = network(features)
        pack_weights(network)
        assert isinstance(network[0], PackedConv2d) == (conv.weight.numel() >= 1 << 16)
        assert isinstance(network[1], nn.Conv2d)  # small ones are not worth it
        torch.testing.assert_close(network(features), expected, rtol=1e-5, atol=1e-5)


def test_what_cannot_be_packed() -> None:
    assert not is_packable(nn.Linear(2, 2))
    assert not is_packable(nn.ConvTranspose2d(2, 2, 3))
    assert not is_packable(nn.Conv2d(2, 2, 3, padding="same"))

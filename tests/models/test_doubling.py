"""Maps that are doubled by the kernel of a convolution."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.layers.blocks import scale_by
from videoretalking.models.layers.doubling import RepeatingConv2d, blended_kernel, interleave


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize("bias", [True, False])
def test_repeated_pixels(mode: str, bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 3, 3, padding=1, padding_mode=mode, bias=bias).requires_grad_(False)  # type: ignore[arg-type]
    features = torch.randn(2, 5, 6, 7)
    expected = conv(F.interpolate(features, scale_factor=2.0, mode="nearest"))
    result = RepeatingConv2d(conv)(features)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


def test_blended_pixels_but_for_the_border() -> None:
    torch.manual_seed(0)
    kernel, features = torch.randn(3, 5, 3, 3), torch.randn(2, 5, 6, 7)
    expected = F.conv2d(scale_by(features, 2.0), kernel, padding=1)
    phases = F.conv2d(F.pad(features, [1] * 4, mode="replicate"), blended_kernel(kernel))
    noise = torch.randn(1, 1, 12, 14)
    result = interleave(phases, added=noise) - noise
    inside = (..., slice(1, -1), slice(1, -1))
    torch.testing.assert_close(result[inside], expected[inside], atol=1e-5, rtol=1e-5)
    assert float((result - expected).abs().max()) > 0.1  # at the border, as the docstring says


def test_pixels_take_turns() -> None:
    maps = torch.arange(4.0)[:, None, None].expand(4, 2, 3)[None]  # one channel each
    assert interleave(maps)[0, 0].tolist() == [[0.0, 1.0] * 3, [2.0, 3.0] * 3] * 2
    shifted = interleave(torch.arange(6.0).view(1, 1, 2, 3).repeat(1, 4, 1, 1), shift=1)
    assert shifted[0, 0].tolist() == [[0.0, 1.0, 1.0, 2.0], [3.0, 4.0, 4.0, 5.0]]

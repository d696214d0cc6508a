from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.gpen import GPEN, Blur, EqualizedModulatedConv, GPENConfig, Upsample, blur_kernel
from videoretalking.models.official.layout import Layout, rename

TINY = GPENConfig(widths=(4, 6, 8), style_size=8, num_mapping_layers=2)


def test_released_size() -> None:
    with torch.device("meta"):
        network = GPEN()
    assert sum(parameter.numel() for parameter in network.parameters()) == 71_005_223
    assert network.config.image_size == 512


def test_shape_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = GPEN(TINY)
    assert TINY.image_size == 16
    image = torch.rand(2, 3, 16, 16, requires_grad=True)
    restored = network(image)
    assert restored.shape == (2, 3, 16, 16)
    (restored * torch.randn_like(restored)).sum().backward()
    assert dead_parameters(network) == []
    assert image.grad is not None and image.grad.any()


def test_every_image_is_restored_on_its_own_and_always_alike() -> None:
    network = GPEN(TINY).eval()
    image = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        together = network(image)
        torch.testing.assert_close(network(image), together, rtol=0, atol=0)
        for index in range(3):
            torch.testing.assert_close(network(image[index : index + 1]), together[index : index + 1])


def test_encoder_maps_reach_the_generator() -> None:
    network = GPEN(TINY).eval()
    image = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        before = network(image)
        network.levels[-1].conv.encoder_scale.fill_(1.0)  # type: ignore[union-attr,operator]
        assert not torch.allclose(network(image), before)


@pytest.mark.parametrize("upsample", [False, True])
def test_modulation_equals_a_kernel_per_sample(upsample: bool) -> None:
    conv = EqualizedModulatedConv(3, 5, 3, style_size=4, upsample=upsample)
    features, style = torch.randn(2, 3, 6, 6), torch.randn(2, 4)
    scale = style @ conv.modulation.weight.t() / 2 + 1.0  # gain 1 / sqrt(4), initial bias 1
    expected = []
    for sample in range(2):
        kernel = conv.weight / 27**0.5 * scale[sample].view(1, 3, 1, 1)
        kernel = kernel / (kernel.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        one = features[sample : sample + 1]
        if upsample:
            one = F.conv_transpose2d(one, kernel.transpose(0, 1), stride=2)
            filters = blur_kernel(4.0).expand(5, 1, 4, 4)
            expected.append(F.conv2d(F.pad(one, (1, 1, 1, 1)), filters, groups=5))
        else:
            expected.append(F.conv2d(one, kernel, padding=1))
    torch.testing.assert_close(conv(features, style), torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_upsampling_is_zero_insertion_and_filter() -> None:
    image = torch.randn(2, 3, 5, 7)
    spread = torch.zeros(2, 3, 10, 14)
    spread[..., ::2, ::2] = image
    expected = F.conv2d(F.pad(spread, (2, 1, 2, 1)), blur_kernel(4.0).expand(3, 1, 4, 4), groups=3)
    torch.testing.assert_close(Upsample()(image), expected)


def test_blur_keeps_a_constant() -> None:
    blurred = Blur(padding=2)(torch.full((1, 2, 8, 8), 3.0))
    assert blurred.shape == (1, 2, 9, 9)
    torch.testing.assert_close(blurred[..., 2:-2, 2:-2], torch.full((1, 2, 5, 5), 3.0))
    # the corner sees a 2x2 corner of the filter inside the picture: (1 + 3)^2 / 64 of its sum
    torch.testing.assert_close(blurred[..., 0, 0], torch.full((1, 2), 3.0 * 16 / 64))


def test_fixed_filters_are_not_stored() -> None:
    assert not any(key.endswith("kernel") for key in GPEN(TINY).state_dict())


def test_released_filters_must_equal_ours() -> None:
    layout = Layout("gpen", ("x.pth",), modules={"a": "a"}, constants={"k": blur_kernel()}, license="")
    expected = {"a": torch.zeros(2)}
    official = {"a": torch.ones(2), "k": blur_kernel()}
    assert rename(official, layout, expected, "x.pth").keys() == {"a"}
    with pytest.raises(UserError, match=r"x\.pth: k of gpen differs"):
        rename(official | {"k": blur_kernel(4.0)}, layout, expected, "x.pth")
    with pytest.raises(UserError, match=r"1 missing \(k\)"):
        rename({"a": torch.ones(2)}, layout, expected, "x.pth")


def test_half_precision_stays_close() -> None:
    network = GPEN(TINY).eval()
    image = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(image.contiguous(memory_format=torch.channels_last))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.std()


def test_config_names_the_wrong_field() -> None:
    with pytest.raises(UserError, match="widths of GPENConfig must be positive"):
        from_dict(GPENConfig, {"widths": []})

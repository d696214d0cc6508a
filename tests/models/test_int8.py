"""Int8 convolutions compute what float32 ones do, within the rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.devices import has_fast_int8
from videoretalking.models import int8
from videoretalking.models.catalog import build_network, load_network
from videoretalking.models.folding import fold_for_cpu
from videoretalking.models.int8 import (
    Int8Conv2d,
    Int8Function,
    balance_channels,
    find_losses,
    heavy_convs,
    quantize,
    weighing,
)
from videoretalking.models.layers import fused
from videoretalking.models.layers.levels import Levels
from videoretalking.models.layers.style import StyleConv

DEMO = Path(__file__).parents[2] / "checkpoints" / "demo"
CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(
    not has_fast_int8(CPU), reason="this CPU or this PyTorch has no fast int8 convolution"
)


def features(channels: int = 8, batch: int = 2) -> torch.Tensor:
    """Uneven around zero, as behind a leaky ReLU."""
    generator = torch.Generator().manual_seed(0)
    return F.leaky_relu(torch.randn(batch, channels, 12, 10, generator=generator), 0.2)


def signal_to_noise(values: torch.Tensor, expected: torch.Tensor) -> float:
    return float(10 * torch.log10(expected.square().mean() / (values - expected).square().mean()))


def test_levels_are_within_half_a_step() -> None:
    values = torch.cat([features() * 3.0 + 0.7, features()])
    levels, scale, zero = quantize(values)
    assert levels.dtype == torch.uint8 and levels.is_contiguous(memory_format=torch.channels_last)
    assert scale == pytest.approx(float(values.max() - values.min()) / 254.0, rel=1e-5)
    assert float(((levels.float() - zero) * scale - values).abs().max()) <= 0.5001 * scale
    # more numbers than one chunk
    many = torch.linspace(-1.0, 3.0, 2 * 64 * 64 * 64).view(2, 64, 64, 64)
    levels, scale, zero = quantize(many)
    assert float(((levels.float() - zero) * scale - many).abs().max()) <= 0.5001 * scale


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_zero_is_a_level_also_of_maps_of_one_sign(sign: float) -> None:
    values = sign * (features().abs() + 1.0)
    levels, scale, zero = quantize(values)
    assert zero == (0 if sign > 0 else 254)
    assert float(((levels.float() - zero) * scale - values).abs().max()) <= 0.5001 * scale
    levels, _, zero = quantize(torch.zeros(1, 4, 2, 2))
    assert bool((levels == zero).all())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_map_that_is_not_finite_is_an_error(bad: float) -> None:
    values = features()
    values[0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        quantize(values)


@needs_int8
@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"padding": 1, "bias": False},
        {"padding": 1, "stride": 2},
        {"padding": (2, 1), "dilation": (2, 1)},
        {"padding": 1, "groups": 4},
        {"padding": 1, "kernel_size": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": (2, 1), "padding_mode": "replicate"},
    ],
)
def test_convolution_is_float32_within_the_rounding(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 16, **{"kernel_size": 3, **options})
    with torch.no_grad():
        conv.weight.mul_(torch.logspace(-2, 1, 16)[:, None, None, None])  # every output has its own scale
        values, expected = Int8Conv2d(conv)(features()), conv(features())
    assert values.dtype == torch.float32 and values.shape == expected.shape
    for channel in range(16):
        assert signal_to_noise(values[:, channel], expected[:, channel]) > 30.0


@needs_int8
def test_rounded_weights_and_maps_convolve_exactly() -> None:
    torch.manual_seed(2)
    conv = nn.Conv2d(8, 16, 3, padding=1)
    with torch.no_grad():
        scale = conv.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127.0
        conv.weight.copy_((conv.weight / scale).round() * scale)
        levels, step, zero = quantize(features())
        expected = F.conv2d((levels.float() - zero) * step, conv.weight, conv.bias, padding=1)
        torch.testing.assert_close(Int8Conv2d(conv)(features()), expected, rtol=1e-4, atol=1e-5)
        values = Int8Function(8)(features(), conv.weight, conv.bias, padding=1)
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


@needs_int8
def test_weights_that_come_again_are_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    kernel = int8._Int8Kernel
    monkeypatch.setattr(
        int8, "_Int8Kernel", lambda *args, **options: made.append(1) or kernel(*args, **options)
    )
    function, weight = Int8Function(8), torch.randn(4, 8, 3, 3)
    first = function(features(), weight, padding=1)
    assert torch.equal(function(features(), weight.clone(), padding=1), first) and len(made) == 1
    assert function(features(), weight).shape != first.shape and len(made) == 2
    assert signal_to_noise(function(features(), 2.0 * weight), 2.0 * function(features(), weight)) > 30.0
    assert len(made) == 4
    bias = torch.ones(4)
    torch.testing.assert_close(function(features(), weight, bias), function(features(), weight) + 1.0)


@needs_int8
def test_channels_of_uneven_range_lose_less_when_balanced() -> None:
    torch.manual_seed(6)
    conv = nn.Conv2d(16, 16, 3, padding=1).requires_grad_(False)
    values = features(16) * torch.logspace(-1, 1, 16)[:, None, None]
    conv.weight /= torch.logspace(-1, 1, 16)[:, None, None]  # so that all of them matter
    balance = balance_channels(values, conv.weight)
    expected = conv(values)
    plain, balanced = (signal_to_noise(Int8Conv2d(conv, kind)(values), expected) for kind in (None, balance))
    assert balanced > 35.0 > plain
    levels, scale, zero = quantize(values, balance)
    restored = (levels.float() - zero) * scale * balance[:, None, None]
    assert bool(((restored - values).abs() <= 0.5001 * scale * balance[:, None, None]).all())


def test_channels_that_are_empty_at_first_do_not_spoil_the_balance() -> None:
    values, weight = features(8), torch.ones(4, 8, 3, 3)
    values[:, 0], weight[:, 1] = 0.0, 0.0
    balance = balance_channels(values, weight)
    assert bool(balance.isfinite().all()) and float(balance.max() / balance.min()) <= 200.0
    assert bool((balance_channels(torch.zeros(1, 8, 2, 2), weight) > 0).all())


@needs_int8
def test_errors_of_taps_cancel_on_smooth_maps() -> None:
    torch.manual_seed(7)
    conv = nn.Conv2d(8, 16, 3, bias=False).requires_grad_(False)
    flat = torch.full((1, 8, 6, 6), 1.0)  # without any error of its own
    scale = conv.weight.abs().amax(dim=(1, 2, 3)) / 127.0
    error = (Int8Conv2d(conv)(flat) - conv(flat)).abs().amax(dim=(0, 2, 3))
    assert bool((error <= 0.5001 * 8 * scale).all())  # half a level a channel, not a tap
    levels = int8._round_taps(torch.full((1, 1, 3, 3), 126.9))
    assert int(levels.max()) == 127 and int(levels.sum()) == round(9 * 126.9)


@needs_int8
def test_the_loss_of_a_convolution_is_known_without_running_the_others_in_int8() -> None:
    torch.manual_seed(8)
    layers = [nn.Conv2d(3, 64, 1), nn.Conv2d(64, 64, 3), nn.Tanh(), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 3, 1)]
    network, image = nn.Sequential(*layers).requires_grad_(False), torch.rand(2, 3, 24, 24)
    convs = heavy_convs(network)
    with weighing(convs):
        expected = network(image)
    assert [conv.work for conv in convs] == [side**2 * 64 * 64 * 9 for side in (22, 20)]
    assert not find_losses(convs, lambda: network(image))  # no gradient without an input that has one
    assert find_losses(convs, lambda: network(image.requires_grad_()))
    for conv in convs:
        conv.to_int8()
        loss = float((network(image.detach()) - expected).square().mean())
        conv.to_float32()
        assert conv.loss == pytest.approx(loss, rel=0.5)


@needs_int8
def test_small_maps_are_left_alone() -> None:
    conv = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1)).requires_grad_(False)
    (heavy,) = heavy_convs(conv)
    for side, worth_it in ((8, False), (12, False), (24, True)):
        heavy.work = 0
        with weighing([heavy]):
            conv(torch.randn(3, 64, side, side))
        assert heavy.is_worth_it is worth_it


@pytest.mark.parametrize("name", ["dnet", "lnet", "enet"])
def test_bundled_networks_are_small_and_released_ones_are_large(name: str) -> None:
    bundled = load_network(DEMO / f"{name}.safetensors")
    with torch.device("meta"):
        released = build_network(name)
    assert not int8.is_large(bundled)
    assert int8.is_large(released)


@needs_int8
def test_style_convolution_in_int8_for_one_code_and_for_many() -> None:
    torch.manual_seed(4)
    conv = StyleConv(64, 64, 16, upsample=True).requires_grad_(False)
    image, styles, noise = features(64), torch.randn(2, 16), torch.randn(1, 1, 24, 20)
    for style in (styles, styles[:1]):
        expected = conv(image, style, noise)
        (heavy,) = heavy_convs(conv)
        with weighing([heavy]):
            assert torch.equal(conv(image, style, noise), expected)
        heavy.to_int8()
        assert not heavy_convs(conv)  # nothing is left to replace
        result = conv(image, style, noise)
        heavy.to_float32()
        assert not torch.equal(result, expected)
        assert signal_to_noise(result, expected) > 30.0
        assert torch.equal(conv(image, style, noise), expected)


@needs_int8
@pytest.mark.parametrize("name", ["dnet", "enet"])
def test_maps_between_convolutions_in_int8_come_in_fewer_bits(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_network(DEMO / f"{name}.safetensors").requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    fold_for_cpu(network)
    torch.manual_seed(9)
    if name == "dnet":
        run = lambda: network(image, coefficients).image  # noqa: E731
        image, coefficients = torch.rand(1, 3, 256, 256), torch.randn(1, 73, 27)
    else:
        run = lambda: network.paint(image, code)  # noqa: E731
        image, code = torch.rand(1, 3, 96, 96), torch.randn(1, 256)
    convs = heavy_convs(network)
    with torch.inference_mode(), weighing(convs):
        expected = run()
    for conv in convs:
        conv.to_int8()
    seen: list[tuple[bool, torch.dtype]] = []
    kernel = int8._Int8Kernel.__call__
    rounded = int8._rounded

    def see(features: torch.Tensor | Levels, factors: Any) -> Levels:
        seen.append((isinstance(features, Levels), torch.uint8))
        return rounded(features, factors)

    def see_result(*args: Any) -> torch.Tensor:
        out = kernel(*args)
        seen.append((False, out.dtype))
        return out

    monkeypatch.setattr(int8, "_rounded", see)
    monkeypatch.setattr(int8._Int8Kernel, "__call__", see_result)
    with torch.inference_mode():
        fast = run()
    assert sum(dtype == torch.bfloat16 for _, dtype in seen) >= (15 if name == "dnet" else 4)
    assert sum(levels for levels, _ in seen) >= (10 if name == "dnet" else 2)
    monkeypatch.setattr(fused, "loops", lambda: None)
    seen.clear()
    with torch.inference_mode():
        slow = run()
    assert all(dtype != torch.bfloat16 and not levels for levels, dtype in seen)
    assert signal_to_noise(fast, expected) > 25.0
    assert signal_to_noise(fast, expected) > signal_to_noise(slow, expected) - 1.0

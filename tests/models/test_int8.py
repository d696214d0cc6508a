"""Int8 convolutions: their values, and the trial that decides whether a network runs in them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core import devices
from videoretalking.core.devices import autocast, choose_dtype, has_fast_int8
from videoretalking.core.errors import UserError
from videoretalking.models import int8
from videoretalking.models.catalog import build_network, load_network
from videoretalking.models.int8 import (
    MIN_PSNR,
    Int8Conv2d,
    Int8Trial,
    int8_conv2d,
    main_output,
    psnr,
    quantize,
    to_int8,
)
from videoretalking.models.style import StyleConv
from videoretalking.pipeline.networks import prepare

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
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": (2, 1), "padding_mode": "replicate"},
    ],
)
def test_convolution_is_float32_within_the_rounding(options: dict[str, Any]) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(8, 16, 3, **options)
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
        values = int8_conv2d(features(), conv.weight, conv.bias, padding=(1, 1))
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_MIN_WEIGHTS", 1)


class Net(nn.Module):
    """One heavy convolution between light ones, and an image; ``gain`` multiplies what int8 loses."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 64, 3, padding=1)
        self.layers = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)])
        self.final = nn.Conv2d(64, 3, 3, padding=1)
        self.gain = gain
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        out = self.first(image)
        for layer in self.layers:
            out = layer(out)
        return SimpleNamespace(flow=None, image=0.5 + 0.5 * torch.sin(self.gain * self.final(out)))


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_trial_takes_int8_where_the_image_stays_the_same(caplog: pytest.LogCaptureFixture) -> None:
    network, image = Net(gain=1.0), torch.rand(1, 3, 16, 16)
    expected = network(image).image
    trial = Int8Trial(network, enabled=True)
    with caplog.at_level("INFO"):
        trial(image)
    assert isinstance(network.layers[0], Int8Conv2d)
    assert all(type(module) is nn.Conv2d for module in (network.first, network.layers[1], network.final))
    assert "Net in int8" in caplog.text
    with torch.inference_mode():
        result = network(image).image
    assert not torch.equal(result, expected)
    assert psnr(result, expected) >= MIN_PSNR


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_trial_keeps_float32_where_it_does_not(caplog: pytest.LogCaptureFixture) -> None:
    network, image = Net(gain=1e3), torch.rand(1, 3, 16, 16)
    expected, conv = network(image).image, network.layers[0]
    with caplog.at_level("INFO"):
        Int8Trial(network, enabled=True)(image)
    assert network.layers[0] is conv
    assert torch.equal(network(image).image, expected)
    assert "Net stays in float32" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        Int8Trial(network, enabled=True)(image)
    assert not caplog.text  # the verdict holds


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_a_trial_that_breaks_leaves_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("no memory")

    network = Net(gain=1.0)
    conv = network.layers[0]
    monkeypatch.setattr(Int8Conv2d, "forward", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        Int8Trial(network, enabled=True)(torch.rand(1, 3, 16, 16))
    assert network.layers[0] is conv


@pytest.mark.usefixtures("any_size")
def test_trial_that_is_not_wanted_does_nothing() -> None:
    network = Net(gain=1.0)
    Int8Trial(network, enabled=False)(torch.rand(1, 3, 16, 16))
    assert type(network.layers[0]) is nn.Conv2d


def test_small_networks_are_not_tried() -> None:
    network = Net(gain=1.0)
    Int8Trial(network, enabled=True)(torch.rand(1, 3, 16, 16))
    assert type(network.layers[0]) is nn.Conv2d


@pytest.mark.parametrize("name", ["dnet", "lnet", "enet"])
def test_bundled_networks_are_too_small_and_released_ones_are_not(name: str) -> None:
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
        replaced = to_int8(conv)
        assert len(replaced) == 1
        assert not to_int8(conv)  # nothing is left to replace
        result = conv(image, style, noise)
        for owner, name, original in replaced:
            setattr(owner, name, original)
        assert not torch.equal(result, expected)
        assert signal_to_noise(result, expected) > 30.0
        assert torch.equal(conv(image, style, noise), expected)


def test_main_output_and_psnr() -> None:
    image = torch.zeros(1, 3, 2, 2)
    assert main_output(SimpleNamespace(flow=None, image=image)) is image
    assert main_output((image, None)) is image
    assert psnr(image + 0.01, image) == pytest.approx(40.0, abs=1e-3)
    ramp = torch.linspace(0.0, 10.0, 12).view(1, 3, 2, 2)
    assert psnr(ramp + 0.01, ramp) == pytest.approx(60.0, abs=1e-3)


def test_formats_by_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = {}
    for flags in ("avx512f", "avx512f avx512_vnni", "avx512f avx512_vnni amx_bf16"):
        monkeypatch.setattr(devices, "_cpu_flags", lambda flags=flags: flags)
        chosen[flags.split()[-1]] = choose_dtype("auto", CPU)
        assert choose_dtype("float32", CPU) == torch.float32
    has_operator = hasattr(torch.ops.onednn, "qconv2d_pointwise")
    assert chosen == {
        "avx512f": torch.float32,
        "avx512_vnni": torch.int8 if has_operator else torch.float32,
        "amx_bf16": torch.bfloat16,
    }
    monkeypatch.setattr(devices, "_cpu_flags", lambda: "avx512_vnni")
    assert choose_dtype("auto", CPU, compiled=True) == torch.float32
    with pytest.raises(UserError, match="--compile"):
        choose_dtype("int8", CPU, compiled=True)
    monkeypatch.setattr(devices, "_cpu_flags", lambda: "avx512f")
    with pytest.raises(UserError, match="AVX-512 VNNI"):
        choose_dtype("int8", CPU)


def test_int8_is_no_autocast_format() -> None:
    with autocast(CPU, torch.int8):
        assert not torch.is_autocast_enabled("cpu")


def test_only_large_networks_change_how_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("videoretalking.pipeline.networks.keep_freed_memory", lambda: calls.append(True))
    prepare(load_network(DEMO / "lnet.safetensors"))
    assert not calls
    prepare(nn.Sequential(nn.Conv2d(512, 1024, 3)))
    assert calls == [True]

"""Compiled loops compute what PyTorch's operators do."""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.devices import cpu_threads
from videoretalking.models import int8
from videoretalking.models.dnet import DNet, DNetConfig
from videoretalking.models.layers import fused
from videoretalking.models.layers.adain import AdaIN
from videoretalking.models.layers.blocks import ChannelLayerNorm
from videoretalking.models.layers.doubling import interleave
from videoretalking.models.layers.levels import LevelReader
from videoretalking.models.layers.style import StyleConv, ToRGB, Unfinished

SHAPES = [(1, 64, 8, 8), (2, 3, 5, 7), (3, 130, 4, 6), (1, 512, 1, 1)]


class Reader(LevelReader):
    """What a convolution in int8 wants of its map."""

    def __init__(self, channels: int) -> None:
        self.factors = (0.5 + torch.rand(channels)).numpy()


@pytest.fixture(params=[1, 3], autouse=True)
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """On one thread; and with maps shared among three, and several pixels of small ones in a row."""
    monkeypatch.setattr(fused, "_WORTH_SHARING", 0)
    if request.param == 3:
        monkeypatch.setattr(fused, "_MANY", 0)
    with cpu_threads(request.param), torch.inference_mode():
        torch.manual_seed(0)
        yield


def maps(shape: tuple[int, ...]) -> torch.Tensor:
    return (3.0 * torch.randn(shape) + 2.0).contiguous(memory_format=torch.channels_last)


def values(levels: fused.Levels, reader: Reader) -> torch.Tensor:
    """What levels stand for."""
    assert levels.numbers.is_contiguous(memory_format=torch.channels_last)
    return (
        (levels.numbers.float() - levels.zero)
        * levels.scale
        / torch.from_numpy(reader.factors)[:, None, None]
    )


def assert_rounded(levels: fused.Levels, reader: Reader, expected: torch.Tensor) -> None:
    """Each number within half a step, and the steps as fine as can be."""
    factors = torch.from_numpy(reader.factors)[:, None, None]
    assert float(((values(levels, reader) - expected) * factors).abs().max()) <= 0.501 * levels.scale
    scaled = torch.cat([(expected * factors).flatten(), torch.zeros(1)])
    assert levels.scale <= 1.5 * float(scaled.max() - scaled.min()) / 254.0


def without_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "loops", lambda: None)


@pytest.mark.parametrize("shape", SHAPES)
def test_extremes(shape: tuple[int, ...]) -> None:
    features = maps(shape)
    found = fused.extremes(features)
    assert found is not None
    assert torch.equal(torch.from_numpy(found[0]), features.amin(dim=(0, 2, 3)))
    assert torch.equal(torch.from_numpy(found[1]), features.amax(dim=(0, 2, 3)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_found(bad: float) -> None:
    features = maps((2, 8, 4, 4))
    features[1, 3, 2, 1] = bad
    assert fused.extremes(features) is None
    with pytest.raises(ValueError, match="not finite"):
        int8.quantize(features)
    added = fused.add_to_pixels(features, torch.zeros(1, 1, 4, 4), 0.2)
    assert fused.extremes(added) is None  # also by what was seen when it was written


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("balanced", [False, True])
def test_rounding(shape: tuple[int, ...], balanced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    features, balance = maps(shape), 0.5 + torch.rand(shape[1]) if balanced else None
    levels, scale, zero = int8.quantize(features, balance)
    without_loops(monkeypatch)
    expected, expected_scale, expected_zero = int8.quantize(features, balance)
    assert (scale, zero) == (pytest.approx(expected_scale, rel=1e-6), expected_zero)
    assert levels.is_contiguous(memory_format=torch.channels_last)
    # one level where a number lies in the middle between two
    assert (levels.int() - expected.int()).abs().max() <= 1 and (levels != expected).float().mean() < 0.01


def test_a_map_is_looked_at_again_after_another_was_written() -> None:
    first, second = (fused.add_to_pixels(maps((1, 4, 3, 3)), torch.zeros(1, 1, 3, 3), 0.2) for _ in range(2))
    for features in (second, first, second.clone(memory_format=torch.preserve_format)):
        found = fused.extremes(features)
        assert found is not None and found[1].max() == float(features.max())


@pytest.mark.parametrize("shape", [*SHAPES[:-1], (2, 16, 9, 6)])
@pytest.mark.parametrize("slope", [1.0, 0.1])
@pytest.mark.parametrize("inplace", [False, True])
def test_norms(shape: tuple[int, ...], slope: float, inplace: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, instance = ChannelLayerNorm(shape[1]), AdaIN(shape[1], 6)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    condition, features = torch.randn(shape[0], 6), maps(shape)
    given = [features.clone(memory_format=torch.preserve_format) for _ in range(4)]
    more = maps(shape)
    found = (
        layer(given[0], slope, inplace),
        instance(given[1], condition, slope, inplace),
        layer(given[2], slope, halve=True),
        layer(given[3], slope, inplace, added=more),
    )
    if not inplace:
        assert all(torch.equal(one, features) for one in given)
    assert fused.extremes(found[2])[1].max() == float(found[2].max())  # type: ignore[index]
    without_loops(monkeypatch)
    expected = (
        layer(features, slope),
        instance(features, condition, slope),
        layer(features, slope, halve=True),
        layer(features, slope) + more,
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES[:-1], (2, 16, 9, 6), (1, 16, 16, 16)])
def test_norms_of_maps_in_bfloat16(shape: tuple[int, ...]) -> None:
    layer, instance = ChannelLayerNorm(shape[1]), AdaIN(shape[1], 6)
    nn.init.normal_(layer.weight)
    condition, features, more = torch.randn(shape[0], 6), maps(shape).bfloat16(), maps(shape)
    given = features.clone(memory_format=torch.preserve_format)
    ways: list[dict[str, Any]] = [{}, {"added": more}, {"halve": True}]
    for way in ways:
        found = layer(given, 0.1, True, **way)
        assert torch.equal(given, features)  # nothing is written to a map that is read as another type
        torch.testing.assert_close(found, layer(features.float(), 0.1, **way), rtol=1e-5, atol=1e-5)
    found = instance(given, condition, 0.1, True)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, instance(features.float(), condition, 0.1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [*SHAPES[:-1], (2, 16, 9, 6), (1, 16, 16, 16)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_for_a_convolution_in_int8(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    instance, reader = AdaIN(shape[1], 6), Reader(shape[1])
    condition, features = 3.0 * torch.randn(shape[0], 6), maps(shape).to(dtype)
    expected = instance(features.float(), condition, 0.1)
    assert_rounded(instance(features, condition, 0.1, True, reader=reader), reader, expected)
    features[-1, 0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="not finite"):
        instance(features, condition, 0.1, reader=reader)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_with_a_map_of_one_channel(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    features, noise = maps(shape).to(dtype), torch.randn(1, 1, *shape[2:])
    expected = F.leaky_relu(features.float() + noise, 0.2)
    reader, kernel = Reader(shape[1]), torch.randn(3, shape[1])
    image = fused.add_to_pixels_and_project(features, noise, 0.2, kernel)
    torch.testing.assert_close(image, F.conv2d(expected, kernel[:, :, None, None]), rtol=1e-5, atol=1e-3)
    assert_rounded(fused.add_to_pixels(features, noise, 0.2, reader), reader, expected)
    assert torch.equal(fused.add_to_pixels(features, noise, 0.2), expected)
    features[0, 1, 0, 0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        fused.add_to_pixels(features, noise, 0.2, reader)


@pytest.mark.parametrize("shape", [*SHAPES[:-1], (2, 24, 9, 6)])
def test_a_sum_with_another_map(shape: tuple[int, ...]) -> None:
    features, more = maps(shape), maps(shape)
    expected = F.leaky_relu(features, 0.1) + more
    alone = fused.activate(features.clone(memory_format=torch.preserve_format), 0.1)
    assert torch.equal(alone, F.leaky_relu(features, 0.1))
    assert fused.extremes(alone)[0].min() == float(alone.min())  # type: ignore[index]
    found = fused.activate(features, 0.1, more)
    assert found is features and torch.equal(found, expected)
    assert fused.extremes(found)[1].max() == float(found.max())  # type: ignore[index]


def test_a_norm_of_nearly_constant_maps() -> None:
    features = (1000.0 + 1e-2 * torch.randn(1, 4, 32, 32)).contiguous(memory_format=torch.channels_last)
    found = fused.norm(features, torch.ones(1, 4), torch.zeros(1, 4), 1e-5, per_channel=True)
    expected = F.instance_norm(features.double())
    # PyTorch's group norm is off by several deviations here
    torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=0.02)


@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("noisy", [False, True])
def test_interleaving(shift: int, batch: int, noisy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    phases = maps((batch, 4 * 6, 5 + shift, 4 + shift))
    noise = torch.randn(1, 1, 10, 8) if noisy else None
    found = interleave(phases, shift, noise, 0.2)
    assert fused.extremes(found)[0].min() == float(found.min())  # type: ignore[index]
    without_loops(monkeypatch)
    assert torch.equal(found, interleave(phases, shift, noise, 0.2))


@pytest.mark.parametrize("shift", [0, 1])
def test_interleaving_for_a_convolution_in_int8(shift: int) -> None:
    reader, noise = Reader(6), torch.randn(1, 1, 10, 8)
    for dtype in (torch.float32, torch.bfloat16):
        phases = maps((2, 4 * 6, 5 + shift, 4 + shift)).to(dtype)
        expected = interleave(phases.float(), shift, noise, 0.2)
        assert_rounded(interleave(phases, shift, noise, 0.2, reader), reader, expected)
        assert torch.equal(interleave(phases, shift, noise, 0.2, half=True), expected)
    same = interleave(phases, shift, half=True)
    assert same.dtype == torch.bfloat16 and torch.equal(same.float(), interleave(phases.float(), shift))


@pytest.mark.parametrize("upsample", [False, True])
def test_styled_convolutions(upsample: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = StyleConv(64, 64, 5, upsample).eval().requires_grad_(False)
    nn.init.constant_(layer.noise_scale, 0.3)
    nn.init.normal_(layer.bias)
    frozen = copy.deepcopy(layer)
    frozen.conv.freeze()
    side = 12 if upsample else 6
    features, noise = maps((2, 64, 6, 6)), torch.randn(1, 1, side, side)
    styles = [torch.randn(count, 5) for count in (1, 1, 2)]
    found = [frozen(features, style, noise) for style in (*styles, styles[0])]
    without_loops(monkeypatch)
    for one, style in zip(found, (*styles, styles[0]), strict=True):
        torch.testing.assert_close(one, layer(features, style, noise), rtol=1e-5, atol=1e-4)


def test_an_image_of_what_a_convolution_left_unfinished() -> None:
    layer, to_rgb = StyleConv(64, 64, 5).requires_grad_(False), ToRGB(64, 5).requires_grad_(False)
    nn.init.constant_(layer.noise_scale, 0.3)
    features, style, noise = maps((2, 64, 24, 24)), torch.randn(1, 5), torch.randn(1, 1, 24, 24)
    before = torch.rand(2, 3, 12, 12)
    expected = to_rgb(layer(features, style, noise), style, before)
    unfinished = layer(features, style, noise, reader=to_rgb)
    assert isinstance(unfinished, Unfinished)
    torch.testing.assert_close(to_rgb(unfinished, style, before), expected, rtol=1e-5, atol=1e-4)
    # with a style for each sample, and without noise, nothing is left
    assert isinstance(layer(features, torch.randn(2, 5), noise, reader=to_rgb), torch.Tensor)
    assert isinstance(layer(features, style, reader=to_rgb), torch.Tensor)


def test_where_there_is_no_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DNet(DNetConfig(warp_channels=8, warp_max_channels=16, edit_channels=8, edit_max_channels=16))
    network = network.eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    inputs = image, torch.randn(1, 73, 27)
    found = network(*inputs).image
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "videoretalking.models.layers.loops", raising=False)
    monkeypatch.delattr("videoretalking.models.layers.loops")
    fused.loops.cache_clear()
    try:
        assert not fused.is_fit(image)
        torch.testing.assert_close(network(*inputs).image, found, rtol=0.0, atol=1e-5)
    finally:
        fused.loops.cache_clear()


def test_training_has_gradients() -> None:
    with torch.inference_mode(False), torch.enable_grad():
        features = torch.randn(2, 8, 4, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
        assert not fused.is_fit(features)
        ChannelLayerNorm(8)(features, 0.1, inplace=True).square().sum().backward()
        assert features.grad is not None and float(features.grad.abs().max()) > 0.0

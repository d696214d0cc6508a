"""Convolutions in bfloat16: which ones, and how near their networks stay to float32."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from videoretalking.core.quality import psnr
from videoretalking.models.bfloat16 import Bfloat16Conv, bfloat16_conv2d, float32_convs
from videoretalking.models.catalog import load_network
from videoretalking.models.enet import ENet
from videoretalking.models.folding import fold_for_cpu

DEMO = Path(__file__).parents[2] / "checkpoints" / "demo"


def inputs(name: str) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    if name == "lnet":
        return torch.randn(1, 1, 80, 16), torch.rand(1, 6, 12, 12).repeat_interleave(8, 2).repeat_interleave(
            8, 3
        )
    side = 256 if name == "dnet" else 96
    face = torch.rand(1, 3, 8, 8).repeat_interleave(side // 8, 2).repeat_interleave(side // 8, 3)
    return (face, torch.zeros(1, 73, 27)) if name == "dnet" else (face, torch.rand(1, 3, 384, 384))


@pytest.mark.parametrize("name", ["dnet", "lnet", "enet"])
def test_the_bundled_networks_look_the_same(name: str) -> None:
    network = load_network(DEMO / f"{name}.safetensors").requires_grad_(False)
    with torch.inference_mode(False):
        fold_for_cpu(network)

    def image() -> torch.Tensor:
        out = network(*inputs(name))
        return (out if isinstance(out, torch.Tensor) else out.image).clamp(0.0, 1.0)

    expected, convs = image(), float32_convs(network)
    for conv in convs:
        conv.to_bfloat16()
    rounded = image()
    assert rounded.dtype == torch.float32 and not torch.equal(rounded, expected)
    assert float(psnr(rounded, expected)) >= 45.0
    assert not float32_convs(network)
    for conv in convs:
        conv.to_float32()
    assert torch.equal(image(), expected)


def test_flows_and_spectra_stay_exact() -> None:
    for name in ("dnet", "lnet"):
        network = load_network(DEMO / f"{name}.safetensors")
        fold_for_cpu(network)
        for conv in float32_convs(network):
            conv.to_bfloat16()
        rounded = [path for path, module in network.named_modules() if isinstance(module, Bfloat16Conv)]
        assert len(rounded) > 20
        assert not any("flow_conv" in path or "fourier" in path for path in rounded)


def test_what_is_rounded_is_worth_it() -> None:
    network = nn.ModuleList([nn.Conv2d(64, 3, 1), nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3)])
    (found,) = float32_convs(network)
    found.to_bfloat16()
    assert [type(module) is nn.Conv2d for module in network] == [True, True, False]


def test_convolutions_sum_in_float32() -> None:
    features, weight = torch.rand(1, 512, 6, 6), torch.rand(8, 512, 3, 3)
    exact = nn.functional.conv2d(features.bfloat16().float(), weight.bfloat16().float(), padding=1)
    torch.testing.assert_close(bfloat16_conv2d(features, weight, padding=1), exact, rtol=2**-8, atol=0.0)


def test_modulated_convolutions_too() -> None:
    network = load_network(DEMO / "enet.safetensors", "enet")
    assert isinstance(network, ENet)
    for conv in float32_convs(network):
        conv.to_bfloat16()
    assert [conv.conv.convolve is bfloat16_conv2d for conv in network.style_convs] == [
        False,
        True,
        True,
        True,
    ]  # type: ignore[union-attr]
    assert all(
        torch.equal(copy.deepcopy(module).weight, module.weight)
        for module in network.modules()
        if isinstance(module, nn.Linear)
    )


@pytest.mark.parametrize("mode", ["zeros", "replicate"])
def test_weights_in_another_order_compute_the_same(mode: str) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(48, 64, 3, 2, padding=1, padding_mode=mode).requires_grad_(False)  # type: ignore[arg-type]
    rounded, plain = Bfloat16Conv(conv), copy.deepcopy(conv).bfloat16()
    for side in (12, 12, 21):  # the order was chosen for the first
        features = torch.randn(2, 48, side, side).contiguous(memory_format=torch.channels_last)
        expected = plain(features.bfloat16()).float()
        torch.testing.assert_close(rounded(features), expected, atol=0.02, rtol=0.01)
    assert not isinstance(rounded.convolve, nn.Conv2d)

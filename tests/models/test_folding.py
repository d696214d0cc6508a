"""Networks that were rewritten for a CPU compute what they did."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from videoretalking.models.catalog import build_network, load_network
from videoretalking.models.dnet import DNet, DNetConfig
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.folding import FewChannelConv2d, PointwiseConv2d, fold_for_cpu
from videoretalking.models.layers.doubling import RepeatingConv2d
from videoretalking.models.layers.ffc import ProductFourierUnit, SpectralTransform
from videoretalking.models.layers.style import StyleConv
from videoretalking.models.lnet import LNet, LNetConfig
from videoretalking.models.parsenet import ParseNet, ParseNetConfig

SMALL = {"channels": 8, "max_channels": 16, "stage_residuals": (1, 1, 0), "audio_channels": (4, 8, 8, 8, 8)}


def lived_in(network: nn.Module) -> nn.Module:
    """Batch norms that have seen something, and weights other than the first ones."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.copy_(0.2 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
        if isinstance(module, StyleConv):
            nn.init.constant_(module.noise_scale, 0.1)
    return network.eval().requires_grad_(False)


def example(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    if name == "lnet":
        config = LNetConfig(
            **SMALL,
            norm="batch",
            spectral=False,
            blend_reference=True,
            warp_reference=True,  # type: ignore[arg-type]
        )
        return LNet(config), (torch.randn(2, 1, 80, 16), torch.rand(2, 6, 96, 96))
    if name == "dnet":
        small = DNetConfig(warp_channels=8, warp_max_channels=16, edit_channels=8, edit_max_channels=16)
        return DNet(small), (torch.rand(2, 3, 64, 64), torch.randn(2, 73, 27))
    if name == "enet":
        sizes = ENetConfig(identity_channels=(4,) * 7, style_size=8, style_channels=(64, 64))
        return ENet(sizes), (torch.rand(1, 3, 96, 96), torch.rand(1, 3, 384, 384))
    if name == "parsenet":
        return ParseNet(ParseNetConfig((4, 8, 8), 1)), (torch.rand(1, 3, 64, 64),)
    return build_network("bisenet"), (torch.rand(1, 3, 64, 64),)


def tensors(result: Any) -> list[torch.Tensor]:
    return [result] if isinstance(result, torch.Tensor) else list(result)


@pytest.mark.parametrize("name", ["lnet", "dnet", "enet", "bisenet", "parsenet"])
def test_outputs_stay(name: str) -> None:
    network, inputs = example(name)
    plain = lived_in(network)
    folded = copy.deepcopy(plain)
    fold_for_cpu(folded)
    assert name == "parsenet" or any(
        isinstance(module, FewChannelConv2d | PointwiseConv2d) for module in folded.modules()
    )
    repeating = sum(isinstance(module, RepeatingConv2d) for module in folded.modules())
    assert repeating == {"lnet": 3, "dnet": 3, "parsenet": 4}.get(name, 0)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    for got, expected in zip(tensors(folded(*inputs)), tensors(plain(*inputs)), strict=True):
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_part_of_a_face_stays() -> None:
    network, (face, reference) = example("enet")
    few = ENet(ENetConfig(identity_channels=(4,) * 7, style_channels=(32, 16)))
    fold_for_cpu(few)
    assert all(layer.conv.phases is None for layer in few.style_convs)
    plain = lived_in(network)
    folded = copy.deepcopy(plain)
    fold_for_cpu(folded)
    assert isinstance(plain, ENet) and isinstance(folded, ENet)
    assert [layer.conv.phases is None for layer in folded.style_convs] == [True, True, False, True]
    code = plain.identity_encoder(reference)
    for window in (None, (0, 0, 96, 96), (20, 48, 76, 92)):
        got, expected = (which.paint(face, code, window=window) for which in (folded, plain))
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)
    many = code.repeat(2, 1)  # a code for each face
    got, expected = (which.paint(face.repeat(2, 1, 1, 1), many) for which in (folded, plain))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("width", [24, 26])
@pytest.mark.parametrize(("kernel", "outputs"), [(5, 2), (7, 3), ((7, 9), 1)])
def test_neighbors_as_channels(width: int, kernel: int | tuple[int, int], outputs: int) -> None:
    conv = nn.Conv2d(6, outputs, kernel, padding="same").requires_grad_(False)
    conv.padding = tuple(side // 2 for side in conv.kernel_size)
    network = nn.Sequential(conv)
    features = torch.randn(2, 6, 12, width)
    expected = conv(features)
    fold_for_cpu(network)
    assert isinstance(network[0], FewChannelConv2d)
    torch.testing.assert_close(network(features), expected, atol=1e-5, rtol=1e-5)


def test_gradients_pass_1x1_convolutions() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 1))
    fold_for_cpu(network)
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    with torch.inference_mode():
        expected = network(image.detach())
    out = network(image)
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    assert image.grad is not None and image.grad.abs().min() > 0


def test_networks_in_training_keep_their_norms() -> None:
    network = LNet(LNetConfig(**SMALL, norm="batch", spectral=False)).train()  # type: ignore[arg-type]
    before = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    fold_for_cpu(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == before > 0


def test_the_bundled_networks_have_what_is_rewritten() -> None:
    network = load_network("checkpoints/demo/lnet.safetensors")
    fold_for_cpu(network)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(FewChannelConv2d) == 3 and kinds.count(PointwiseConv2d) >= 19


@pytest.mark.parametrize("size", [(12, 12), (24, 24), (48, 48), (9, 6), (5, 7), (30, 4)])
def test_spectra_by_products_of_matrices(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    plain = lived_in(SpectralTransform(16))
    network = copy.deepcopy(plain)
    fold_for_cpu(network)
    assert isinstance(network.fourier, ProductFourierUnit)
    with torch.inference_mode():
        features = torch.randn(2, 16, *size).contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(network(features), plain(features), rtol=1e-5, atol=1e-5)
        assert network(features).is_contiguous(memory_format=torch.channels_last)

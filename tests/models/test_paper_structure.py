"""What the paper's appendix says of the networks' structure, seen from outside: sizes of maps, counts, formulas."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from videoretalking.models.dnet import DNet, DNetConfig, MappingNet
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.layers.adain import AdaIN
from videoretalking.models.layers.attention import CrossAttention
from videoretalking.models.layers.audio_encoder import AudioEncoder
from videoretalking.models.layers.blocks import ResDown, resize, scale_by
from videoretalking.models.layers.editing_blocks import PlainBlock
from videoretalking.models.layers.ffc import FFCResBlock, FourierUnit
from videoretalking.models.layers.style import ModulatedConv, StyleConv, ToRGB
from videoretalking.models.lnet import LNet, LNetConfig, VisualEncoder

DNET = DNetConfig(descriptor_size=16, adain_hidden=8, warp_channels=2, warp_max_channels=4, edit_channels=2)
LNET = LNetConfig(channels=4, num_residual=1, audio_channels=(4, 4, 4, 4, 8), attention_head_size=4)
RELEASED = LNetConfig(spectral=False)  # spectral norm changes no size and costs seconds to set up
ENET = ENetConfig(identity_channels=(4,) * 7, style_channels=(4, 4))


def record(modules: Sequence[nn.Module]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """First input and output of the modules, as they run from here on."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def keep(_: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
        seen.append((inputs[0].clone(), output.clone()))

    for module in modules:
        module.register_forward_hook(keep)
    return seen


def count(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in network.modules())


def run_dnet(network: DNet) -> None:
    with torch.no_grad():
        network(torch.rand(1, 3, 256, 256), torch.randn(1, 73, 27))


def test_mapping_is_four_one_dimensional_convolutions_with_leaky_relu() -> None:
    mapping = MappingNet(DNetConfig())
    assert count(mapping, nn.Conv1d) == 4
    convs = [mapping.first, *mapping.layers]
    seen = record(convs)
    mapping(torch.randn(2, 73, 27))
    before, after = seen[0][1], seen[1][0]
    torch.testing.assert_close(after, torch.where(before > 0, before, 0.1 * before))
    assert all((after < 0).any() for after, _ in seen[1:])  # no ReLU cuts what is negative


def test_warping_goes_down_five_times_and_up_three_times() -> None:
    network = DNet(DNET)
    downs, ups = record(list(network.warping.encoder)), record(list(network.warping.decoder))
    run_dnet(network)
    assert [output.shape[-1] for _, output in downs] == [128, 64, 32, 16, 8]
    assert [output.shape[-1] for _, output in ups] == [16, 32, 64]
    released = DNetConfig()
    assert (released.warp_down, released.warp_up, released.edit_stages) == (5, 3, 3)


def test_editing_has_three_stages_each_way() -> None:
    network = DNet(DNET)
    downs, ups = record(list(network.editing.downs)), record(list(network.editing.ups))
    run_dnet(network)
    assert [output.shape[-1] for _, output in downs] == [128, 64, 32]
    assert [output.shape[-1] for _, output in ups] == [64, 128, 256]


@pytest.mark.parametrize("spectral", [False, True])
def test_editing_convolutions_are_spectrally_normalized_on_demand(spectral: bool) -> None:
    network = DNet(dataclasses.replace(DNET, spectral=spectral))
    for block in network.editing.modules():
        if isinstance(block, PlainBlock):
            assert is_parametrized(block.conv) == spectral
    assert is_parametrized(network.editing.final.conv) == spectral


def test_every_residual_convolution_of_editing_is_followed_by_adain() -> None:
    network = DNet(dataclasses.replace(DNET, two_layer_residual=True)).eval()
    for stage in network.editing.residuals:
        for block in stage:
            convs, norms = record([block.conv1, block.conv2]), record([block.norm1, block.norm2])
            features, descriptor = torch.randn(1, block.conv1.in_channels, 8, 8), torch.randn(1, 16)
            block(features, descriptor)
            for (_, output), (following, _) in zip(convs, norms, strict=True):
                torch.testing.assert_close(output, following)
    # the warping network has one in front of each convolution of its blocks, as released
    assert count(network.warping, AdaIN) == 2 * 5 + 3 * 3


@pytest.mark.parametrize(
    ("config", "vector", "channels"),
    [
        (RELEASED, 512, 512),
        (dataclasses.replace(RELEASED, audio_channels=(32, 64, 128, 256, 256), max_channels=256), 256, 256),
    ],
    ids=["released", "paper"],
)
def test_lnet_has_a_vector_of_speech_and_two_encoders(config: LNetConfig, vector: int, channels: int) -> None:
    assert AudioEncoder(config.audio_channels).eval()(torch.rand(1, 1, 80, 16)).shape == (1, vector)
    encoder = VisualEncoder(config)
    last = record([encoder.masked[-1], encoder.reference[-1]])
    joined, *_ = encoder(*torch.rand(2, 1, 3, 96, 96))
    assert [output.shape for _, output in last] == [(1, channels, 12, 12)] * 2
    assert joined.shape == (1, 2 * channels, 12, 12)


def test_query_and_key_come_from_the_frame_and_value_from_the_reference() -> None:
    attention = CrossAttention(size=6, num_heads=2, head_size=3)
    masked, reference = torch.randn(1, 5, 6), torch.randn(1, 5, 6)
    own, other = attention.norm_masked(masked), attention.norm_reference(reference)
    heads = []
    for head in range(2):
        part = slice(3 * head, 3 * head + 3)
        query, key, value = (
            tokens @ layer.weight[part].T
            for layer, tokens in ((attention.query, own), (attention.key, own), (attention.value, other))
        )
        weights = torch.softmax(query @ key.transpose(1, 2) / math.sqrt(3), dim=-1)
        heads.append(weights @ value)
    expected = masked + attention.out(torch.cat(heads, dim=-1))
    torch.testing.assert_close(attention(masked, reference), expected)


def test_two_blocks_of_cross_attention_are_the_default() -> None:
    with torch.device("meta"):
        assert count(LNet(RELEASED), CrossAttention) == 2
        assert count(LNet(dataclasses.replace(RELEASED, attention_layers=0)), CrossAttention) == 0


def test_the_papers_visual_encoder_is_convolution_batch_norm_and_leaky_relu() -> None:
    network = LNet(dataclasses.replace(LNET, norm="batch", spectral=False))
    for branch in (network.visual_encoder.masked, network.visual_encoder.reference):
        blocks = list(branch)
        assert [block.resample for block in blocks] == ["none", "down", "down", "down"]
        for block in blocks:
            assert isinstance(block.norm, nn.BatchNorm2d) and not is_parametrized(block.conv)
            image = torch.randn(2, block.conv.in_channels, 8, 8)
            normed = F.batch_norm(
                block.conv(image), None, None, block.norm.weight, block.norm.bias, training=True
            )
            wanted = torch.where(normed > 0, normed, 0.1 * normed)
            wanted = F.avg_pool2d(wanted, 2) if block.resample == "down" else wanted
            torch.testing.assert_close(block(image), wanted)


def test_lnet_has_nine_fourier_blocks_in_each_stage() -> None:
    with torch.device("meta"):
        network = LNet(RELEASED)
    assert [len(stage) for stage in network.decoder.residuals] == [9, 9, 9]
    assert count(network, FFCResBlock) == 27 and count(network, AdaIN) == 108
    assert count(network, FourierUnit) == 54


def test_a_fourier_unit_sees_the_whole_map() -> None:
    unit = FourierUnit(2).eval()
    image = torch.rand(1, 2, 16, 16)
    changed = image.clone()
    changed[..., 0, 0] += 1.0
    assert (unit(changed) - unit(image)).abs().amin(dim=1)[0, 8:, 8:].max() > 0


def test_the_frames_own_features_skip_to_the_decoder() -> None:
    network = LNet(LNET).eval()
    audio, faces = torch.randn(1, 1, 80, 16), torch.rand(1, 6, 96, 96)
    jumps = record(list(network.decoder.jumps))
    network(audio, faces)
    assert [output.shape[-1] for _, output in jumps] == [24, 48, 96]
    features = faces[:, :3]
    skips = []
    for layer in network.visual_encoder.masked:
        features = layer(features)
        skips.append(features)
    for (seen, _), skip in zip(jumps, reversed(skips[:-1]), strict=True):
        torch.testing.assert_close(seen, skip)


def test_the_identity_encoder_reduces_256_pixels_six_times_to_512_numbers() -> None:
    network = ENet(ENET)
    downs = record(list(network.identity_encoder.downs))
    reference = torch.rand(1, 3, 384, 384)
    first = record([network.identity_encoder.first])
    code = network.identity_encoder(reference)
    assert code.shape == (1, 512) and count(network.identity_encoder, ResDown) == 6
    torch.testing.assert_close(first[0][0], resize(reference, 256))
    assert [output.shape[-1] for _, output in downs] == [128, 64, 32, 16, 8, 4]
    assert isinstance(network.identity_encoder.linear, nn.Linear)


def test_two_style_blocks_make_384_pixels_of_96() -> None:
    network = ENet(ENET)
    assert count(network, StyleConv) == 4 and len(network.to_rgbs) == 2
    convs = record(list(network.style_convs))
    image = network(torch.rand(1, 3, 96, 96), torch.rand(1, 3, 384, 384))
    assert image.shape[-2:] == (384, 384)
    inner = [
        output.shape[-1] - 2 * 2 * 2**level for (_, output), level in zip(convs, (1, 1, 2, 2), strict=True)
    ]
    assert inner == [192, 192, 384, 384]  # without the padding that is cropped in the end


def test_images_are_modulated_and_added_to_the_enlarged_image_below() -> None:
    layer = ToRGB(4, style_size=6)
    nn.init.normal_(layer.bias)
    features, style, image = torch.randn(2, 4, 8, 8), torch.randn(2, 6), torch.rand(2, 3, 4, 4)
    painted = layer(features, style)
    torch.testing.assert_close(layer(features, style, image), painted + scale_by(image, 2.0))
    scale = layer.conv.modulation(style)
    by_hand = torch.stack(
        [
            F.conv2d(one[None], layer.conv.weight * factor[:, None, None])[0]
            for one, factor in zip(features, scale, strict=True)
        ]
    )
    torch.testing.assert_close(painted, by_hand + layer.bias)  # modulated, and not demodulated
    network = ENet(ENET)
    for to_rgb in network.to_rgbs:
        assert isinstance(to_rgb.conv, ModulatedConv)
        nn.init.zeros_(to_rgb.conv.weight)
    low_res = torch.rand(1, 3, 96, 96)
    plain = network(low_res, torch.rand(1, 3, 384, 384))
    # nothing is painted, so the skips alone bring the small image up
    enlarged = scale_by(scale_by(F.pad(low_res, [2] * 4, mode="reflect"), 2.0), 2.0)
    torch.testing.assert_close(plain, enlarged[..., 8:-8, 8:-8])

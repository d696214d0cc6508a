"""D-Net, L-Net and E-Net at tiny widths: shapes, ranges, gradients, options, released sizes."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from videoretalking.core.quality import detail
from videoretalking.models.dnet import DNet, DNetConfig, MappingNet, warp
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.layers.adain import AdaIN
from videoretalking.models.layers.blocks import fold_spectral_norm
from videoretalking.models.lnet import LNet, LNetConfig, Painting

DNET = DNetConfig(descriptor_size=16, adain_hidden=32, warp_channels=4, warp_max_channels=8, edit_channels=4)
LNET = LNetConfig(channels=8, num_residual=1, audio_channels=(4, 4, 8, 8, 16), attention_head_size=4)
ENET = ENetConfig(identity_channels=(4, 4, 8, 8, 8, 8, 8), style_size=16, style_channels=(8, 4))


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def assert_every_parameter_gets_a_gradient(network: nn.Module, loss: torch.Tensor) -> None:
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        # a bias right before an instance norm has no influence, so its gradient is zero up to rounding
        assert parameter.grad.abs().sum() > 0 or name.endswith(".bias"), name


def lip_inputs(num: int, size: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(num, 1, 80, 16), torch.rand(num, 6, size, size)


@pytest.mark.parametrize("window", [26, 27])
def test_dnet_shapes_and_ranges(window: int) -> None:
    out = DNet(DNET)(torch.rand(2, 3, 256, 256), torch.randn(2, 73, window))
    assert out.flow.shape == (2, 2, 64, 64)
    for image in (out.warped, out.image):
        assert image.shape == (2, 3, 256, 256)
        assert 0.0 <= image.min() <= image.max() <= 1.0


PAPER = {"two_layer_residual": True, "spectral": True, "spectral_warping": True, "adain_after": True}


@pytest.mark.parametrize("options", [{}, {"two_layer_residual": True, "spectral": True}, PAPER])
def test_dnet_gradients(options: dict[str, bool]) -> None:
    network = DNet(dataclasses.replace(DNET, **options))
    out = network(torch.rand(1, 3, 256, 256), torch.randn(1, 73, 27))
    assert_every_parameter_gets_a_gradient(network, (out.image * torch.randn_like(out.image)).sum())


def test_paper_variant_of_dnet_has_its_norms_at_every_convolution() -> None:
    network = DNet(dataclasses.replace(DNET, **PAPER)).eval()
    warping, editing = network.warping, network.editing
    sampling = [
        module
        for module in [*warping.encoder.modules(), *warping.decoder.modules()]
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d))
    ]
    assert len(sampling) == 2 * 5 + 3 * 3
    assert all(is_parametrized(module, "weight") for module in sampling)
    blocks = [editing.first, *editing.downs, *editing.ups, *editing.jumps]
    assert len(blocks) == 1 + 3 * 3
    assert all(isinstance(block.norm, AdaIN) and is_parametrized(block.conv, "weight") for block in blocks)
    released = DNet(DNET)
    assert not any(is_parametrized(module) for module in released.modules())
    assert not any(
        isinstance(block.norm, AdaIN) for block in [released.editing.first, *released.editing.downs]
    )

    image = torch.rand(1, 3, 256, 256)
    with torch.no_grad():
        out = network(image, torch.randn(1, 73, 27))
        # the motion reaches the very first block of the editing network
        features = torch.rand(1, 6, 64, 64)
        first, other = (editing.first(features, torch.randn(1, 16)) for _ in range(2))
        folded = fold_spectral_norm(network)(image, torch.zeros(1, 73, 27))
    assert out.flow.shape == (1, 2, 64, 64) and out.image.shape == (1, 3, 256, 256)
    assert (first - other).abs().max() > 1e-3
    assert torch.isfinite(folded.image).all()


def test_dnet_warp_only_leaves_the_editing_network_alone() -> None:
    network = DNet(DNET)
    out = network(torch.rand(1, 3, 256, 256), torch.randn(1, 73, 27), warp_only=True)
    assert torch.equal(out.image, out.warped)
    (out.image * torch.randn_like(out.image)).sum().backward()
    assert all(parameter.grad is None for parameter in network.editing.parameters())
    assert all(parameter.grad is not None for parameter in network.warping.parameters())


def test_warp_moves_the_picture_against_the_flow() -> None:
    image = torch.zeros(1, 1, 64, 64)
    image[..., 32, 40] = 1.0
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 2.0  # every place looks 2 of 15 steps, about 8.5 pixels, to its right
    row, column = divmod(int(warp(image, flow).argmax()), 64)
    assert abs(row - 32) <= 1
    assert abs(column - 31.5) <= 1


def test_lnet_clips_equal_frames() -> None:
    network = LNet(LNET).eval()
    audio, faces = torch.randn(2, 5, 1, 80, 16), torch.rand(2, 6, 5, 96, 96)
    clip = network(audio, faces)
    assert clip.shape == (2, 3, 5, 96, 96)
    assert 0.0 < clip.min() <= clip.max() < 1.0
    torch.testing.assert_close(clip[1, :, 3], network(audio[1, 3:4], faces[1:2, :, 3])[0])


@pytest.mark.parametrize("layers", [0, 2])
def test_lnet_gradients_with_and_without_attention(layers: int) -> None:
    network = LNet(LNetConfig(**{**LNET.__dict__, "attention_layers": layers}))
    assert (network.visual_encoder.attention is None) == (layers == 0)
    image = network(*lip_inputs(2))
    assert_every_parameter_gets_a_gradient(network, (image * torch.randn_like(image)).sum())


def test_lnet_hears_the_audio_and_sees_the_reference() -> None:
    network = LNet(LNET).eval()
    audio, faces = lip_inputs(1)
    image = network(audio, faces)
    assert not torch.allclose(image, network(torch.randn_like(audio), faces), atol=1e-5)
    other = torch.cat([faces[:, :3], torch.rand(1, 3, 96, 96)], dim=1)
    assert not torch.allclose(image, network(audio, other), atol=1e-5)


def test_folded_spectral_norm_gives_equal_outputs() -> None:
    network = LNet(LNET).eval()
    inputs = lip_inputs(1)
    before = network(*inputs)
    assert not any("parametrizations" in name for name in fold_spectral_norm(network).state_dict())
    torch.testing.assert_close(network(*inputs), before, rtol=0, atol=1e-6)


def test_paper_variant_of_lnet_uses_batch_norm() -> None:
    network = LNet(LNetConfig(**{**LNET.__dict__, "norm": "batch", "spectral": False}))
    names = network.state_dict().keys()
    assert not any("parametrizations" in name for name in names)
    assert any(name.endswith("ups.0.norm.running_mean") for name in names)


AIDED = {**LNET.__dict__, "reference_skips": True, "blend_reference": True, "warp_reference": True}


def test_lnet_with_all_options_starts_as_the_reference_in_part() -> None:
    network = LNet(LNetConfig(**AIDED)).eval()
    audio, faces = lip_inputs(2)
    painting = network.paint(audio, faces)
    assert painting.share is not None and painting.flow is not None
    assert painting.flow.shape == (2, 2, 96, 96) and not painting.flow.any()
    torch.testing.assert_close(
        painting.share, torch.full((2, 1, 96, 96), torch.sigmoid(torch.tensor(-1.0)).item())
    )
    known = torch.cat([faces[:, :3, :48], faces[:, 3:, 48:]], dim=2)
    torch.testing.assert_close(network(audio, faces), known + painting.share * (painting.image - known))


def test_every_option_of_lnet_is_taught_by_the_image() -> None:
    network = LNet(LNetConfig(**AIDED))
    nn.init.normal_(network.decoder.flow.weight, std=0.01)
    image = network(*lip_inputs(2))
    assert_every_parameter_gets_a_gradient(network, (image * torch.randn_like(image)).sum())


def test_reference_skips_show_detail_that_the_bottleneck_loses() -> None:
    audio, faces = lip_inputs(1)
    checks = torch.zeros(1, 3, 96, 96)
    checks[..., ::2] = 1.0  # columns one pixel wide
    other = faces.clone()
    other[:, 3:] = checks

    def detail(network: LNet) -> float:
        change = (network(audio, other) - network(audio, faces))[:, :, 48:]
        return float((change - F.avg_pool2d(change, 3, 1, 1)).detach().std())

    plain, skipping = (
        LNet(LNetConfig(**{**LNET.__dict__, "reference_skips": on})).eval() for on in (False, True)
    )
    assert detail(skipping) > 3 * detail(plain)


def test_a_flow_moves_the_reference_and_never_the_upper_half() -> None:
    frame, reference = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 96, 96)
    flow = torch.zeros(1, 2, 96, 96)
    flow[:, 0] = 3.0  # every pixel comes from three to its right
    shown = Painting(torch.zeros(1, 3, 96, 96), torch.zeros(1, 1, 96, 96), flow).over(frame, reference)
    torch.testing.assert_close(shown[:, :, :48], frame[:, :, :48])
    torch.testing.assert_close(shown[:, :, 48:, :-3], reference[:, :, 48:, 3:], atol=1e-4, rtol=0)


def test_a_painting_laid_over_larger_pictures_keeps_their_detail() -> None:
    frame, reference = torch.rand(1, 3, 384, 384), torch.rand(1, 3, 384, 384)
    share = torch.zeros(1, 1, 96, 96)
    share[..., 70:80, 40:56] = 1.0  # a mouth
    shown = Painting(torch.zeros(1, 3, 96, 96), share, torch.zeros(1, 2, 96, 96)).over(frame, reference)
    torch.testing.assert_close(shown[:, :, 200:260], reference[:, :, 200:260], atol=1e-4, rtol=0)
    assert shown[:, :, 290:310, 170:214].max() == 0.0


def test_a_gain_exaggerates_the_speech_in_use_alone() -> None:
    """Around the mean of the training's audio vectors, which training keeps with the weights."""
    network = LNet(dataclasses.replace(LNET, audio_gain=2.0))
    audio, faces = lip_inputs(8)
    mean = network.get_buffer("audio_mean")
    with torch.no_grad():
        for _ in range(600):
            assert torch.equal(network.listen(audio), network.audio_encoder(audio))
        torch.testing.assert_close(mean, network.audio_encoder(audio).mean(dim=0), rtol=0.01, atol=0.0)
        network.eval()
        heard = network.audio_encoder(audio)
        torch.testing.assert_close(network.listen(audio), (2.0 * heard - mean).clamp(min=0.0))
        shown = network(audio, faces)
        mean.zero_()
        assert not torch.equal(network(audio, faces), shown)


def test_options_of_lnet_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ValueError, match="set both"):
        LNetConfig(warp_reference=True)
    with pytest.raises(ValueError, match="names 1 stages, there are 3"):
        LNetConfig(stage_residuals=(1,))


def test_enet_shapes_gradients_and_stillness() -> None:
    network = ENet(ENET)
    for conv in network.style_convs:
        nn.init.constant_(conv.noise_scale, 0.1)
    low_res, reference = torch.rand(2, 3, 96, 96), torch.rand(2, 3, 384, 384)
    image = network(low_res, reference)
    assert image.shape == (2, 3, 384, 384)
    torch.testing.assert_close(image, network(low_res, reference), rtol=0, atol=0)
    torch.testing.assert_close(image, reload(network)(low_res, reference), rtol=0, atol=0)
    assert_every_parameter_gets_a_gradient(network, (image * torch.randn_like(image)).sum())


def test_a_fresh_identity_encoder_tells_people_apart() -> None:
    """Where codes hardly differ at first, training learns to do without them."""
    torch.manual_seed(0)
    network = ENet(
        ENetConfig(identity_channels=(8, 16, 32, 32, 32, 32, 32), style_size=64, style_channels=(8, 4))
    )
    tones = torch.rand(6, 3, 1, 1) * 0.6 + 0.2  # six complexions, with coarse features
    faces = tones + 0.2 * nn.functional.interpolate(torch.rand(6, 3, 6, 6), size=256, mode="bicubic")
    with torch.no_grad():
        codes = network.identity_encoder(faces)
        spreads = [conv.conv.modulation(codes).std(dim=0).mean() for conv in network.style_convs]
    assert all(0.02 < spread < 0.3 for spread in spreads)


def test_enet_sharpens_in_use_alone() -> None:
    """What is finer than a pixel of L-Net's face gains, the rest stays; a part looks as in the whole."""
    torch.manual_seed(0)
    network = ENet(dataclasses.replace(ENET, detail_gain=0.5))
    plain = ENet(ENET)
    plain.load_state_dict(network.state_dict())
    low_res, reference = torch.rand(1, 3, 96, 96), torch.rand(1, 3, 384, 384)
    with torch.no_grad():
        torch.testing.assert_close(network(low_res, reference), plain(low_res, reference), rtol=0, atol=0)
        network.eval()
        plain.eval()
        sharp, soft = network(low_res, reference), plain(low_res, reference)
        assert detail(sharp).item() > 1.2 * detail(soft).item()
        coarse = [F.avg_pool2d(image, 16) for image in (sharp, soft)]
        torch.testing.assert_close(*coarse, rtol=0, atol=0.02)
        style = network.identity_encoder(reference)
        for window in ((0, 0, 96, 96), (10, 20, 50, 70), (90, 0, 96, 6)):
            left, top, right, bottom = window
            part = network.paint(low_res, style, window=window)
            whole = sharp[..., 4 * top : 4 * bottom, 4 * left : 4 * right]
            torch.testing.assert_close(part, whole, rtol=0, atol=1e-5)


def test_fresh_noise_belongs_to_its_image() -> None:
    network = ENet(ENET)
    for conv in network.style_convs:
        nn.init.constant_(conv.noise_scale, 0.1)
    low_res, reference = torch.rand(2, 3, 96, 96), torch.rand(2, 3, 384, 384)
    with torch.no_grad():
        fixed = network(low_res, reference)
        fresh = network(low_res, reference, torch.tensor([7, 8]))
        assert (fresh - fixed).abs().mean() > 1e-3
        torch.testing.assert_close(fresh[:1], network(low_res[:1], reference[:1], torch.tensor([7])))
        assert not torch.equal(fresh[:1], network(low_res[:1], reference[:1], torch.tensor([8])))
        part = network(low_res[..., 10:74, 20:84], reference, torch.tensor([7, 8]))
    assert part.shape == (2, 3, 256, 256)
    for noise, map_ in zip(network.draw_noise(torch.tensor([1]), 96), network.fixed_noise(), strict=True):
        assert noise.shape == map_.shape and noise.std().item() == pytest.approx(1.0, abs=0.02)


def reload(network: ENet) -> ENet:
    other = ENet(network.config)
    other.load_state_dict(network.state_dict())
    return other


def test_released_sizes_are_the_defaults() -> None:
    # the release lists 22,519,109 for D-Net; 3,183,104 of them are computed and thrown away
    with torch.device("meta"):
        assert count(DNet()) == 22_519_109 - 3_183_104
        assert count(LNet()) == 127_733_507
        assert count(ENet()) == 31_197_581


def test_bfloat16_autocast_keeps_outputs_and_gradients_finite() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        flow = DNet(DNET)(torch.rand(1, 3, 256, 256), torch.randn(1, 73, 27))
        lips = LNet(LNET)(*lip_inputs(2))
        image = ENet(ENET)(lips, torch.rand(2, 3, 384, 384))
    for tensor in (flow.flow, flow.image, lips, image):
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
    image.sum().backward()


def test_standardizing_dnet_sees_coefficients_on_one_scale() -> None:
    plain, standardizing = MappingNet(DNET), MappingNet(dataclasses.replace(DNET, standardize=True))
    standardizing.load_state_dict(plain.state_dict(), strict=False)
    mean, deviation = torch.randn(73) * 100, torch.rand(73) * 10 + 0.1
    deviation[3] = 0.0  # never changes: only centered
    standardizing.set_statistics(mean, deviation)
    numbers = torch.randn(2, 73, 27)
    spread = deviation.clone()
    spread[3] = 1.0
    raw = numbers * spread[:, None] + mean[:, None]
    torch.testing.assert_close(standardizing(raw), plain(numbers), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(plain(raw), plain(numbers), atol=0.1)


def test_lnet_gives_its_parts_in_the_same_call() -> None:
    config = dataclasses.replace(LNET, blend_reference=True, warp_reference=True)
    network = LNet(config).eval()
    audio, faces = torch.randn(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 96, 96)
    with torch.no_grad():
        shown, painting = network(audio, faces, parts=True)
        torch.testing.assert_close(shown, network(audio, faces))
        one = network.paint(audio[1, :1], faces[1:, :, 0])
    assert painting.share.shape == (6, 1, 96, 96) and painting.flow.shape == (6, 2, 96, 96)
    torch.testing.assert_close(painting.image[1:2], one.image)  # time-major: the second clip's first frame


@pytest.mark.parametrize("side", [4, 12, 40])
def test_adain_of_channels_last_maps_is_an_instance_norm(side: int) -> None:
    torch.manual_seed(0)
    norm, condition = AdaIN(6, 5), torch.randn(3, 5)
    maps = 7.0 + 2.0 * torch.randn(3, 6, side, side)
    with torch.no_grad():
        hidden = norm.hidden(condition).relu()
        scale, shift = (layer(hidden)[:, :, None, None] for layer in (norm.scale, norm.shift))
        expected = torch.nn.functional.instance_norm(maps) * (1.0 + scale) + shift
        for kept in (maps, maps.contiguous(memory_format=torch.channels_last)):
            torch.testing.assert_close(norm(kept, condition), expected, atol=2e-4, rtol=1e-4)

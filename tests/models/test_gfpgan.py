from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.gfpgan import GFPGAN, DecoderLevel, GFPGANConfig, SplitFeatureTransform

TINY = GFPGANConfig(widths=(8, 12, 16, 16), style_size=8)


def test_released_size() -> None:
    with torch.device("meta"):
        network = GFPGAN()
    # the release has 86,444,252 with StyleGAN2's mapping network (8 linears 512 -> 512), which nothing reads
    assert sum(parameter.numel() for parameter in network.parameters()) == 86_444_252 - 8 * (512 * 512 + 512)
    assert network.config.image_size == 512
    assert network.num_codes == 16


def test_shapes_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = GFPGAN(TINY)
    assert TINY.image_size == 32
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    restored, side_images = network(image, return_side_images=True)
    assert restored.shape == (2, 3, 32, 32)
    assert [tuple(side.shape) for side in side_images] == [(2, 3, side, side) for side in (8, 16, 32)]
    losses = [(output * torch.randn_like(output)).sum() for output in (restored, *side_images)]
    torch.stack(losses).sum().backward()
    assert dead_parameters(network) == []
    assert image.grad is not None and image.grad.any()


def test_every_image_is_restored_on_its_own_and_always_alike() -> None:
    network = GFPGAN(TINY).eval()
    _use_noise(network)
    image = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        together = network(image)
        torch.testing.assert_close(network(image), together, rtol=0, atol=0)
        torch.testing.assert_close(network(image[1:2]), together[1:2])


def test_noise_maps_are_stored_and_used() -> None:
    network = GFPGAN(TINY).eval()
    _use_noise(network)
    noises = {name for name in network.state_dict() if name.endswith("noise")}
    assert noises == {"decoder.first_noise"} | {
        f"decoder.levels.{level}.{name}" for level in range(3) for name in ("up_noise", "noise")
    }
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = network(image)
        for name in noises:
            saved = network.get_buffer(name).clone()
            network.get_buffer(name).neg_()
            assert not torch.allclose(network(image), before), name
            network.get_buffer(name).copy_(saved)


def test_codes_are_shared_as_in_stylegan2() -> None:
    """Code 3 is the first level's image code and the second level's first code, and so on."""
    network = GFPGAN(TINY).eval()
    used: list[tuple[int, torch.Tensor]] = []
    for index, level in enumerate(network.decoder.levels):
        assert isinstance(level, DecoderLevel)
        level.register_forward_pre_hook(lambda _, inputs, index=index: used.append((index, inputs[3])))
    codes = torch.arange(network.num_codes, dtype=torch.float32).view(1, -1, 1).expand(1, -1, 8)
    conditions = [torch.rand(1, width // 2, side, side) for width, side in ((16, 8), (12, 16), (8, 32))]
    with torch.no_grad():
        network.decoder(codes, conditions)
    assert [(index, value[0, :, 0].tolist()) for index, value in used] == [
        (0, [1, 2, 3]),
        (1, [3, 4, 5]),
        (2, [5, 6, 7]),
    ]


def test_transform_leaves_the_first_half() -> None:
    transform = SplitFeatureTransform(3)
    features, condition = torch.randn(2, 6, 5, 5), torch.randn(2, 3, 5, 5)
    out = transform(features, condition)
    torch.testing.assert_close(out[:, :3], features[:, :3], rtol=0, atol=0)
    expected = features[:, 3:] * transform.scale(condition) + transform.shift(condition)
    torch.testing.assert_close(out[:, 3:], expected)


def test_half_precision_stays_close() -> None:
    network = GFPGAN(TINY).eval()
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        exact = network(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = network(image.contiguous(memory_format=torch.channels_last))
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.1 * exact.std()


def test_config_refuses_odd_widths() -> None:
    with pytest.raises(UserError, match="widths of GFPGANConfig must be even"):
        from_dict(GFPGANConfig, {"widths": [7, 8]})


def _use_noise(network: GFPGAN) -> None:
    """Noise scales start at zero; give them a size that shows."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("noise_scale"):
                parameter.fill_(0.5)

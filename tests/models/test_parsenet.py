from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.parsenet import CLASSES, ParseNet, ParseNetConfig, ReflectConv

TINY = ParseNetConfig(widths=(4, 6, 8), num_body_blocks=2, num_classes=5)


def test_released_size() -> None:
    with torch.device("meta"):
        network = ParseNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 21_303_254
    assert network.mask_head.conv.out_channels == len(CLASSES) == len(set(CLASSES)) == 19


def test_shapes_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = ParseNet(TINY)
    image = torch.rand(2, 3, 24, 32, requires_grad=True)
    output = network(image)
    assert output.logits.shape == (2, 5, 24, 32)
    assert output.image.shape == (2, 3, 24, 32)
    loss = (output.logits * torch.randn_like(output.logits)).sum()
    (loss + (output.image * torch.randn_like(output.image)).sum()).backward()
    assert dead_parameters(network) == []
    assert image.grad is not None and image.grad.any()


def test_range_is_converted_on_both_sides() -> None:
    network = ParseNet(TINY).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    torch.nn.init.zeros_(network.image_head.conv.weight)
    assert network.image_head.conv.bias is not None
    torch.nn.init.constant_(network.image_head.conv.bias, -1.0)
    with torch.no_grad():
        image = network(torch.full((1, 3, 16, 16), 0.75)).image
    torch.testing.assert_close(seen[0], torch.full((1, 3, 16, 16), 0.5))
    torch.testing.assert_close(image, torch.zeros(1, 3, 16, 16))


def test_flat_picture_has_no_border() -> None:
    # reflection at the border keeps a constant constant, zero padding would not
    network = ParseNet(TINY).eval()
    with torch.no_grad():
        logits = network(torch.full((1, 3, 32, 32), 0.3)).logits
    torch.testing.assert_close(logits, logits[:, :, :1, :1].expand_as(logits))


@pytest.mark.parametrize(("resizing", "side"), [("none", 8), ("down", 4), ("up", 16)])
def test_resizing(resizing: str, side: int) -> None:
    conv = ReflectConv(2, 3, resizing)  # type: ignore[arg-type]
    assert conv(torch.rand(1, 2, 8, 8)).shape == (1, 3, side, side)


def test_config_refuses_empty_network() -> None:
    with pytest.raises(UserError, match="num_body_blocks of ParseNetConfig must be positive"):
        from_dict(ParseNetConfig, {"num_body_blocks": 0})
    with pytest.raises(UserError, match="widths"):
        from_dict(ParseNetConfig, {"widths": [8, -1]})

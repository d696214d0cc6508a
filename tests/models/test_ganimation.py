from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.ganimation import GANimation, GANimationConfig

TINY = GANimationConfig(num_action_units=5, width=4, num_halvings=2, num_blocks=2)


def test_released_size() -> None:
    with torch.device("meta"):
        network = GANimation()
    # the release has 8,467,584 with the biases that its instance norms cancel
    canceled = 64 + 128 + 256 + 6 * 2 * 256 + 128 + 64
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_467_584 - canceled


def test_shapes_ranges_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = GANimation(TINY)
    image = torch.rand(2, 3, 16, 24, requires_grad=True)
    action_units = torch.rand(2, 5, requires_grad=True)
    output = network(image, action_units)
    assert output.image.shape == output.color.shape == (2, 3, 16, 24)
    assert output.attention.shape == (2, 1, 16, 24)
    assert output.features.shape == (2, 4, 16, 24)
    for tensor in (output.image, output.color, output.attention):
        assert tensor.min() >= 0 and tensor.max() <= 1
    torch.testing.assert_close(output.image, output.attention * image + (1 - output.attention) * output.color)
    (output.image * torch.randn_like(output.image)).sum().backward()
    assert dead_parameters(network) == []
    assert image.grad is not None and image.grad.any()
    assert action_units.grad is not None and action_units.grad.all()


def test_full_attention_keeps_the_input() -> None:
    network = GANimation(TINY).eval()
    image, action_units = torch.rand(1, 3, 16, 16), torch.rand(1, 5)
    with torch.no_grad():
        # features are not negative after ReLU, so positive weights open the mask wherever one is positive
        network.attention_head.weight.fill_(1e4)
        output = network(image, action_units)
    opened = output.attention == 1
    assert opened.float().mean() > 0.9
    torch.testing.assert_close(output.image[opened.expand_as(image)], image[opened.expand_as(image)])


def test_condition_order_is_image_then_action_units() -> None:
    network = GANimation(TINY).eval()
    seen = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    action_units = torch.tensor([[0.0, 0.1, 0.2, 0.3, 0.4]])
    with torch.no_grad():
        network(torch.full((1, 3, 8, 8), 0.25), action_units)
    expected = torch.tensor([-0.5, -0.5, -0.5, 0.0, 0.1, 0.2, 0.3, 0.4]).view(1, 8, 1, 1)
    torch.testing.assert_close(seen[0], expected.expand(1, 8, 8, 8))


def test_config_names_the_wrong_field() -> None:
    with pytest.raises(UserError, match="num_blocks of GANimationConfig must be positive"):
        from_dict(GANimationConfig, {"num_blocks": 0})

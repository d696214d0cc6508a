from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from videoretalking.core.colors import IMAGENET_MEAN, IMAGENET_STD
from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.bisenet import CLASSES, BiSeNet, BiSeNetConfig
from videoretalking.models.parsenet import CLASSES as PARSENET_CLASSES

TINY = BiSeNetConfig(
    depths=(1, 1, 1, 1), context_channels=4, fusion_channels=8, auxiliary_channels=4, num_classes=3
)


def test_released_size() -> None:
    with torch.device("meta"):
        network = BiSeNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 13_300_416


def test_both_parsers_know_the_same_classes() -> None:
    assert sorted(CLASSES) == sorted(PARSENET_CLASSES)
    assert CLASSES != PARSENET_CLASSES


def test_shapes_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = BiSeNet(TINY)
    outputs = network(torch.rand(2, 3, 64, 48))
    assert [tuple(logits.shape) for logits in outputs] == [(2, 3, 64, 48)] * 3
    torch.stack([(logits * torch.randn_like(logits)).sum() for logits in outputs]).sum().backward()
    assert dead_parameters(network) == []


def test_sides_that_no_stride_divides() -> None:
    network = BiSeNet(TINY).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 75, 53)).logits.shape == (1, 3, 75, 53)


def test_imagenet_statistics_are_removed() -> None:
    network = BiSeNet(TINY).eval()
    seen = []
    network.context.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    with torch.no_grad():
        network((mean + 2 * std).view(1, 3, 1, 1).expand(1, 3, 32, 32))
    torch.testing.assert_close(seen[0], torch.full((1, 3, 32, 32), 2.0))
    assert not any(key in network.state_dict() for key in ("mean", "std"))


def test_corners_of_the_logits_are_those_of_the_head() -> None:
    # corner-aligned resizing keeps the corner values
    network = BiSeNet(TINY).eval()
    seen = []
    network.head.register_forward_hook(lambda _, inputs, output: seen.append(output))
    with torch.no_grad():
        logits = network(torch.rand(1, 3, 64, 64)).logits
    torch.testing.assert_close(logits[..., ::63, ::63], seen[0][..., ::7, ::7])


def test_config_names_the_wrong_field() -> None:
    with pytest.raises(UserError, match="depths must name 4 ResNet stages"):
        from_dict(BiSeNetConfig, {"depths": [2, 2, 2]})
    with pytest.raises(UserError, match="fusion_channels"):
        from_dict(BiSeNetConfig, {"fusion_channels": 3})

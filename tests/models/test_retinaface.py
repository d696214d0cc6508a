from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.official.layout import flip_triples
from videoretalking.models.official.retinaface import LAYOUT
from videoretalking.models.retinaface import STRIDES, RetinaFace, RetinaFaceConfig, _flatten_heads

TINY = RetinaFaceConfig(depths=(1, 1, 1, 1), channels=16)


def test_released_size() -> None:
    with torch.device("meta"):
        network = RetinaFace()
    assert sum(parameter.numel() for parameter in network.parameters()) == 27_293_600


def test_shapes_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = RetinaFace(TINY)
    output = network(torch.rand(2, 3, 64, 96))
    num_anchors = sum(2 * (64 // stride) * (96 // stride) for stride in STRIDES)
    assert output.boxes.shape == (2, num_anchors, 4)
    assert output.landmarks.shape == (2, num_anchors, 10)
    assert output.scores.shape == (2, num_anchors, 2)
    torch.testing.assert_close(output.scores.sum(dim=-1), torch.ones(2, num_anchors))
    torch.stack([(tensor * torch.randn_like(tensor)).sum() for tensor in output]).sum().backward()
    assert dead_parameters(network) == []


def test_sides_that_no_stride_divides() -> None:
    network = RetinaFace(TINY).eval()
    with torch.no_grad():
        boxes = network(torch.rand(1, 3, 75, 53)).boxes
    # cells are counted upwards: 10x7, 5x4, 3x2
    assert boxes.shape == (1, 2 * (70 + 20 + 6), 4)


def test_anchor_order_is_level_row_column_anchor() -> None:
    # each head adds 100 for its second anchor to the cell's own number
    maps = [torch.arange(6.0).view(1, 1, 2, 3), 10 + torch.arange(2.0).view(1, 1, 1, 2)]
    heads = nn.ModuleList(nn.Conv2d(1, 4, 1) for _ in maps)
    for head in heads:
        assert isinstance(head, nn.Conv2d) and head.bias is not None
        nn.init.ones_(head.weight)
        head.bias.data = torch.tensor([0.0, 0.5, 100.0, 100.5])
    flat = _flatten_heads(heads, maps, 2)[0]
    cells = [0, 100, 1, 101, 2, 102, 3, 103, 4, 104, 5, 105, 10, 110, 11, 111]
    torch.testing.assert_close(flat, torch.tensor([[cell, cell + 0.5] for cell in cells]))


def test_rgb_with_flipped_weights_equals_bgr() -> None:
    network = RetinaFace(TINY).eval()
    seen = []
    network.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    rgb = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        network(rgb)
    released_input = rgb.flip(1) * 255.0 - torch.tensor([104.0, 117.0, 123.0]).view(1, 3, 1, 1)
    assert LAYOUT.flip_inputs == ("body.conv1.weight",)
    released_weight = flip_triples(network.body.conv1.weight, dim=1)
    torch.testing.assert_close(
        F.conv2d(seen[0], network.body.conv1.weight),
        F.conv2d(released_input, released_weight),
        rtol=1e-4,
        atol=1e-3,  # of values around 100
    )


def test_config_names_the_wrong_field() -> None:
    with pytest.raises(UserError, match="channels of RetinaFaceConfig must be divisible by 4"):
        from_dict(RetinaFaceConfig, {"channels": 6})
    with pytest.raises(UserError, match="depths"):
        from_dict(RetinaFaceConfig, {"depths": [3, 4, 6]})

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from videoretalking.core.config import from_dict
from videoretalking.core.errors import UserError
from videoretalking.models.s3fd import S3FD, STRIDES, S3FDConfig, ScaledL2Norm

TINY = S3FDConfig(
    stage_channels=(4, 4, 6, 6, 6),
    stage_depths=(1, 1, 2, 1, 1),
    context_channels=8,
    extra_channels=(8, 8, 8, 8),
)


def test_released_size() -> None:
    with torch.device("meta"):
        network = S3FD()
    assert sum(parameter.numel() for parameter in network.parameters()) == 22_459_110


def test_shapes_and_gradients(dead_parameters: Callable[[nn.Module], list[str]]) -> None:
    network = S3FD(TINY)
    output = network(torch.rand(2, 3, 128, 96))
    # padding 3 before the fourth level adds four cells to each side
    sizes = [(32, 24), (16, 12), (8, 6), (8, 7), (4, 4), (2, 2)]
    assert [tuple(scores.shape) for scores in output.scores] == [(2, 2, *size) for size in sizes]
    assert [tuple(boxes.shape) for boxes in output.boxes] == [(2, 4, *size) for size in sizes]
    assert len(STRIDES) == len(sizes)
    losses = [(tensor * torch.randn_like(tensor)).sum() for tensor in (*output.scores, *output.boxes)]
    torch.stack(losses).sum().backward()
    assert dead_parameters(network) == []


def test_smallest_picture() -> None:
    network = S3FD(TINY).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 3, 32, 32)).scores[-1].shape == (1, 2, 2, 2)


def test_finest_level_takes_the_largest_background() -> None:
    network = S3FD(TINY).eval()
    head = network.score_heads[0]
    assert isinstance(head, torch.nn.Conv2d) and head.bias is not None
    torch.nn.init.zeros_(head.weight)
    head.bias.data = torch.tensor([1.0, 5.0, 2.0, 9.0])
    with torch.no_grad():
        scores = network(torch.rand(1, 3, 32, 32)).scores[0]
    torch.testing.assert_close(scores[0, :, 3, 3], torch.tensor([5.0, 9.0]))


def test_means_are_subtracted_in_the_order_of_the_release() -> None:
    network = S3FD(TINY).eval()
    seen = []
    network.stages[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.ones(1, 3, 32, 32))
    torch.testing.assert_close(seen[0][0, :, 0, 0], torch.tensor([151.0, 138.0, 132.0]))


def test_norm_scales_unit_vectors() -> None:
    norm = ScaledL2Norm(3, scale=10.0)
    features = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm(features).norm(dim=1), torch.full((2, 4, 4), 10.0))
    torch.testing.assert_close(norm(5 * features), norm(features))
    assert norm(torch.zeros(1, 3, 1, 1)).abs().sum() == 0


def test_config_names_the_wrong_field() -> None:
    with pytest.raises(UserError, match="five VGG stages"):
        from_dict(S3FDConfig, {"stage_channels": [4, 4, 4, 4]})
    with pytest.raises(UserError, match="extra_channels of S3FDConfig must be positive"):
        from_dict(S3FDConfig, {"extra_channels": [8, 8, 8, 0]})
    with pytest.raises(UserError, match="context_channels of S3FDConfig must be positive"):
        from_dict(S3FDConfig, {"context_channels": 0})

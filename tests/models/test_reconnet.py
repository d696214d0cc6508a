from __future__ import annotations

import pytest
import torch
from torch import nn

from videoretalking.core.coefficients import (
    ANGLES,
    EXPRESSION,
    IDENTITY,
    LIGHTING,
    NUM_COEFFICIENTS,
    TEXTURE,
    TRANSLATION,
)
from videoretalking.models.reconnet import ReconNet, ReconNetConfig

TINY = ReconNetConfig(depths=(1, 1, 1, 1))


def test_released_size() -> None:
    with torch.device("meta"):
        network = ReconNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 24_034_625


def test_heads_follow_the_order_of_the_coefficients() -> None:
    network = ReconNet(TINY).eval()
    with torch.no_grad():
        for index, head in enumerate(network.heads):
            assert isinstance(head, nn.Linear)
            head.weight.zero_()
            head.bias.fill_(float(index))
        coefficients = network(torch.rand(2, 3, 64, 64))
    assert coefficients.shape == (2, NUM_COEFFICIENTS)
    for index, part in enumerate((IDENTITY, EXPRESSION, TEXTURE, ANGLES, LIGHTING)):
        assert (coefficients[:, part] == float(index)).all()
    assert coefficients[:, TRANSLATION].tolist() == [[5.0, 5.0, 6.0]] * 2


def test_every_parameter_learns() -> None:
    network = ReconNet(TINY)
    coefficients = network(torch.rand(2, 3, 64, 64))
    (coefficients * torch.randn_like(coefficients)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_stages_must_be_four() -> None:
    with pytest.raises(ValueError, match="4 ResNet stages"):
        ReconNetConfig(depths=(3, 4, 6))

"""Fixtures of the tests of networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn


@pytest.fixture(scope="session")
def dead_parameters() -> Callable[[nn.Module], list[str]]:
    """Function: names of the parameters that the last backward pass did not reach."""

    def find(network: nn.Module) -> list[str]:
        return [
            name
            for name, parameter in network.named_parameters()
            if parameter.grad is None or not parameter.grad.any()
        ]

    return find

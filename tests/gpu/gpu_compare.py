"""What the tests on a GPU share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

CPU = torch.device("cpu")
ERROR = 1e-4  # standard deviations of a result that float32 may be off by

Compare = Callable[[str, torch.Tensor, torch.Tensor, float], None]


def tensors(value: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Every tensor in what a network or a step returns, with its place."""
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors(part, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, part in enumerate(value):
            yield from tensors(part, f"{name}.{index}")
    elif is_dataclass(value):
        for field in fields(value):
            yield from tensors(getattr(value, field.name), f"{name}.{field.name}")


@torch.no_grad()
def lived_in(network: nn.Module, *inputs: torch.Tensor, **options: Any) -> nn.Module:
    """A fresh network with the statistics and scales that training leaves, so that no layer's output fades."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    network(*inputs, **options)
    for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
        if name.endswith(("scale", "slope")):
            tensor.add_(torch.empty_like(tensor).normal_(std=0.1))
        elif name.endswith("bias") or ".share." in name or ".flow." in name:
            tensor.add_(torch.empty_like(tensor).normal_(std=0.02))
    return network.eval().requires_grad_(False)

"""torch.compile on the GPU: the networks of pass 2 and the trained one."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from gpu_compare import ERROR, Compare
from tiny_weights import DEMO

from videoretalking.models.catalog import build_network, load_network
from videoretalking.pipeline.engine import Engine
from videoretalking.train.compile import compile_in_place, has_compiler

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not has_compiler(), reason="no C++ compiler, which torch.compile needs"),
]


def test_a_network_of_the_engine_gives_the_same(device: torch.device, compare: Compare) -> None:
    network = load_network(DEMO / "enet.safetensors")
    low, high = torch.rand(2, 3, 96, 96), torch.rand(2, 3, 384, 384)
    with torch.inference_mode():
        wanted = network(low, high)
    runner = Engine(device, torch.float32, batch_size=2, compiled=True).prepare(network)
    compare("image", runner(low, high).cpu(), wanted, ERROR)


def test_a_trained_network_has_the_same_gradients(device: torch.device, compare: Compare) -> None:
    plain = build_network("landmarks", {"width_multiplier": 0.125}).to(device)
    compiled = deepcopy(plain)
    compile_in_place(compiled, device)
    crops = torch.rand(2, 3, 128, 128, device=device)
    for network in (plain, compiled):
        found = network(crops)
        (found.points.square().mean() / 128.0 + found.confidence.square().sum()).backward()
    for (name, wanted), found in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        assert wanted.grad is not None and found.grad is not None, name
        # before a normalization a bias has a gradient of rounding only
        if wanted.grad.abs().max() > 1e-4:
            compare(name, found.grad, wanted.grad.cpu(), 50 * ERROR)

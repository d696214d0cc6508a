"""CUDA graphs: a network replayed gives the very numbers of the network, whatever other threads do meanwhile."""

from __future__ import annotations

import threading

import pytest
import torch
from tiny_weights import DEMO

from videoretalking.core.devices import OwnStream
from videoretalking.core.graphs import GraphedFunction, record_on
from videoretalking.models.catalog import load_network
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.engine import Engine

pytestmark = pytest.mark.gpu
CALLS = 6


def test_networks_are_recorded_and_give_the_same(device: torch.device) -> None:
    runner = Engine.from_config(RuntimeConfig(str(device), "bfloat16")).prepare(
        load_network(DEMO / "enet.safetensors")
    )
    with_graphs = runner.using(runner.network.paint)
    engine = Engine(device, torch.bfloat16, 16)
    plain = engine.prepare(load_network(DEMO / "enet.safetensors"))
    without = plain.using(plain.network.paint)
    style = torch.rand(1, runner.network.identity_encoder(torch.rand(1, 3, 384, 384, device=device)).shape[1])
    for count in (2, 3) * CALLS:
        low = torch.rand(count, 3, 96, 96)
        found, wanted = (run(low, style=style.to(device)) for run in (with_graphs, without))
        assert torch.equal(found, wanted)
    recordings = with_graphs._compute._recordings
    assert len(recordings) == (2 if device.type == "cuda" else 0)


def test_a_recording_is_made_beside_the_work_of_other_threads(device: torch.device) -> None:
    stop, failures = threading.Event(), []

    def other() -> None:
        stream = OwnStream(device)
        try:
            while not stop.is_set():
                with stream():
                    # sizes that the allocator has to ask for, and waits: both would break a careless recording
                    size = int(torch.randint(1, 1 << 22, ()))
                    assert float(torch.ones(size).to(device).sum().cpu()) == pytest.approx(size, rel=1e-3)
        except BaseException as error:
            failures.append(error)

    def work(image: torch.Tensor) -> torch.Tensor:
        for _ in range(50):
            image = torch.nn.functional.conv2d(image, kernel, padding=1)
        return image

    kernel = torch.rand(8, 8, 3, 3, device=device) / 36.0
    thread = threading.Thread(target=other)
    thread.start()
    try:
        functions = [GraphedFunction(work, record_on(device)) for _ in range(CALLS)]
        for function in functions:
            for _ in range(CALLS):
                image = torch.rand(2, 8, 32, 32, device=device)
                assert torch.equal(function(image), work(image))
    finally:
        stop.set()
        thread.join()
    assert not failures
    if device.type == "cuda":
        assert all(function._recordings for function in functions)


def test_another_stream_gets_its_own_numbers(device: torch.device) -> None:
    function = GraphedFunction(lambda image: image * 2.0 + 1.0, record_on(device))
    for number in range(CALLS):
        image = torch.full((4,), float(number), device=device)
        assert torch.equal(function(image), image * 2.0 + 1.0)
    with OwnStream(device)():
        image = torch.full((4,), 7.0).to(device)
        assert function(image).cpu().tolist() == [15.0] * 4

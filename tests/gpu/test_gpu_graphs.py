"""CUDA graphs: a network replayed gives the very numbers of the network, whatever other threads do meanwhile."""

from __future__ import annotations

import threading
from contextlib import nullcontext

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
    assert len(with_graphs._compute._recordings) == (2 if device.type == "cuda" else 0)


def test_what_is_recorded_does_not_run_again(device: torch.device) -> None:
    calls = []

    def double(image: torch.Tensor) -> torch.Tensor:
        calls.append(image)
        return image * 2.0

    for stream in (nullcontext, OwnStream(device)):
        calls.clear()
        function = GraphedFunction("double", double, record_on(device))
        with stream():
            for number in range(CALLS):
                assert (
                    function(torch.full((4,), float(number)).to(device)).cpu().tolist() == [2.0 * number] * 4
                )
        assert len(calls) == (3 if device.type == "cuda" else CALLS)


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
        functions = [GraphedFunction("work", work, record_on(device)) for _ in range(CALLS)]
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


def test_an_older_recording_that_nobody_needs_is_not_in_the_way(device: torch.device) -> None:
    for _ in range(CALLS):
        function = GraphedFunction("line", lambda image: image + 1.0, record_on(device))
        function.itself = function  # type: ignore[attr-defined]  # only the collection finds it
        for _ in range(4):
            function(torch.ones(4, device=device))
        del function

    def work(image: torch.Tensor) -> torch.Tensor:
        for _ in range(20_000):  # more than the collection waits for
            _ = [[]]
        return image * 3.0

    function = GraphedFunction("work", work, record_on(device))
    for _ in range(CALLS):
        assert function(torch.ones(4, device=device)).tolist() == [3.0] * 4
    assert len(function._recordings) == (1 if device.type == "cuda" else 0)


def test_a_recording_that_fails_leaves_the_memory_in_order(device: torch.device) -> None:
    function = GraphedFunction("waits", lambda image: image * float(image.sum()), record_on(device))
    for _ in range(CALLS):
        assert function(torch.ones(4, device=device)).tolist() == [4.0] * 4
    assert not function._recordings
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before, beside = torch.cuda.memory_allocated(device), torch.cuda.Stream(device)
        for _ in range(50):
            block = torch.ones(1 << 20, device=device)
            block.record_stream(beside)
            del block
            torch.cuda.synchronize(device)
        assert torch.cuda.memory_allocated(device) - before < 1 << 24


def test_another_stream_gets_its_own_numbers(device: torch.device) -> None:
    function = GraphedFunction("line", lambda image: image * 2.0 + 1.0, record_on(device))
    for number in range(CALLS):
        image = torch.full((4,), float(number), device=device)
        assert torch.equal(function(image), image * 2.0 + 1.0)
    with OwnStream(device)():
        image = torch.full((4,), 7.0).to(device)
        assert function(image).cpu().tolist() == [15.0] * 4

"""When a function is recorded; what CUDA graphs give is tested on a GPU."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from videoretalking.core.graphs import GraphedFunction, Recording, record_on

Run = Callable[[list[torch.Tensor]], torch.Tensor]


class Recorder:
    """Keeps what it was asked to record, and marks what is replayed by a minus."""

    def __init__(self) -> None:
        self.shapes: list[list[torch.Size]] = []

    def __call__(self, run: Run, tensors: list[torch.Tensor]) -> Recording:
        self.shapes.append([tensor.shape for tensor in tensors])
        return lambda values: -run(values)


def scaled(image: torch.Tensor, factor: int = 1, style: torch.Tensor | None = None) -> torch.Tensor:
    return image * factor if style is None else image * factor + style


def test_the_third_call_of_a_kind_is_recorded_and_then_replayed() -> None:
    recorder = Recorder()
    function = GraphedFunction("scaled", scaled, recorder)
    found = [float(function(torch.tensor([float(number)]))) for number in range(1, 6)]
    assert found == [1.0, 2.0, -3.0, -4.0, -5.0]
    assert recorder.shapes == [[torch.Size([1])]]


def test_shapes_formats_and_plain_arguments_make_a_kind_and_numbers_do_not() -> None:
    recorder = Recorder()
    function = GraphedFunction("scaled", scaled, recorder)
    one, two = torch.ones(1), torch.ones(2)
    for _ in range(4):
        function(one)
        function(two)
        function(one.double())
        function(one, factor=2)
        function(one, kind="half")
    assert len(recorder.shapes) == 5
    assert float(function(3.0 * one, factor=2)) == -6.0


def test_tensors_by_name_are_numbers_too() -> None:
    recorder = Recorder()
    function = GraphedFunction("scaled", scaled, recorder)
    for number in range(5):
        found = function(torch.ones(1), style=torch.tensor([float(number)]))
    assert recorder.shapes == [[torch.Size([1])] * 2]
    assert float(found) == -5.0


def test_it_runs_in_its_context_and_in_inference_mode() -> None:
    def product(image: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        return image @ image

    for recorder in (None, Recorder()):
        function = GraphedFunction("product", product, recorder)
        for _ in range(4):
            found = function(torch.eye(2), context=lambda: torch.autocast("cpu", torch.bfloat16))
        assert found.dtype == torch.bfloat16


def test_what_cannot_be_recorded_runs_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    tries = []

    def record(run: Run, tensors: list[torch.Tensor]) -> Recording:
        tries.append(tensors)
        raise RuntimeError("operation not permitted\nwhen stream is capturing")

    function = GraphedFunction("scaled", scaled, record)
    with caplog.at_level("INFO"):
        found = [float(function(torch.ones(1), factor=number)) for number in (1, 1, 1, 1, 1, 1, 2, 2, 2)]
    assert found == [1.0] * 6 + [2.0] * 3
    assert len(tries) == 3
    assert caplog.text.count("scaled runs without CUDA graphs: operation not permitted") == 1


def test_what_was_in_the_way_once_is_recorded_later() -> None:
    recorder, tries = Recorder(), []

    def record(run: Run, tensors: list[torch.Tensor]) -> Recording:
        tries.append(tensors)
        if len(tries) == 1:
            raise RuntimeError("previous error during capture")
        return recorder(run, tensors)

    function = GraphedFunction("scaled", scaled, record)
    assert [float(function(torch.ones(1))) for _ in range(5)] == [1.0, 1.0, 1.0, -1.0, -1.0]


def test_what_there_is_no_memory_for_is_recorded_once_there_is() -> None:
    recorder, free = Recorder(), [False]
    function = GraphedFunction(
        "scaled", scaled, lambda run, tensors: recorder(run, tensors) if free[0] else None
    )
    assert [float(function(torch.ones(1))) for _ in range(8)] == [1.0] * 8
    free[0] = True
    assert float(function(torch.ones(1))) == -1.0


def test_forgotten_recordings_are_made_anew() -> None:
    recorder = Recorder()
    function = GraphedFunction("scaled", scaled, recorder)
    found = [float(function(torch.ones(1))) for _ in range(3)]
    function.forget()
    found += [float(function(torch.ones(1))) for _ in range(3)]
    assert found == [1.0, 1.0, -1.0] * 2 and len(recorder.shapes) == 2


def test_kinds_without_end_are_not_all_recorded() -> None:
    recorder = Recorder()
    function = GraphedFunction("scaled", scaled, recorder)
    for size in range(1, 31):
        for _ in range(3):
            function(torch.ones(size))
    assert 1 < len(recorder.shapes) < 20


def test_nothing_is_recorded_on_a_cpu() -> None:
    assert record_on(torch.device("cpu")) is None

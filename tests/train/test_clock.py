"""Runs with a time limit: the schedule follows the time, a stopped run goes on with the time that is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.distributed import World
from videoretalking.train import clock, loop
from videoretalking.train.catalog import step_class
from videoretalking.train.config import LoopConfig, TrainingConfig
from videoretalking.train.state import STATE
from videoretalking.train.steps.base import Step, StepOutput

DebugConfig = Callable[..., TrainingConfig]
ALONE = World(rank=0, size=1, device=torch.device("cpu"))
LOOP = LoopConfig(folder="", steps=100, batch_size=1, minutes=1.0)


class Time:
    """A clock that stands still until a run looks at it: each step takes a second."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=self.tick))
        monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: self.now))

    def tick(self) -> float:
        self.now += 1.0
        return self.now


def record_places(monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, fatal: int = -1) -> list[int]:
    """The place of every training step from now on; the one at place ``fatal`` ends the run."""
    chosen = step_class(config)
    generate, places = chosen.generate, []

    def recording(self: Step, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        if module.training:
            if step == fatal:
                raise InterruptedError
            places.append(step)
        return generate(self, module, batch, step)

    monkeypatch.setattr(chosen, "generate", recording)
    return places


def test_places_are_steps_or_shares_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    counted = clock.Clock(dataclasses.replace(LOOP, minutes=0.0), 0.0, ALONE, time.now)
    assert [counted.place(step) for step in (0, 7, 99)] == [0, 7, 99]
    assert not counted.is_over(99) and counted.is_over(100) and counted.most_steps == 100
    timed = clock.Clock(LOOP, 0.0, ALONE, time.now)
    assert [timed.place(step) for step in range(3)] == [1, 3, 5]  # seconds 1, 2, 3 of 60
    time.now += 26
    assert timed.place(3) == 50 and not timed.is_over(4)
    assert timed.describe(4, 0.5) == "step 4, 0.50 steps/s, 0:00:30 left"
    time.now += 100
    assert timed.place(4) == 99 and timed.is_over(5)
    assert timed.most_steps > 10**9


def test_processes_agree_about_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    time = Time(monkeypatch)
    asked: list[float] = []

    def average(values: Mapping[str, float], world: World) -> dict[str, float]:
        asked.append(values["seconds"])
        return {"seconds": values["seconds"] + 29.0}  # the other process is 58 seconds ahead

    monkeypatch.setattr(clock, "average_over_world", average)
    timed = clock.Clock(LOOP, 0.0, dataclasses.replace(ALONE, size=2), time.now)
    assert [timed.place(step) for step in range(9)] == [50] * 8 + [51]
    assert asked == [1.0, 2.0]


def test_a_limited_run_ends_decayed_and_goes_on_with_the_time_left(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["loop.image_every=0", "loop.validate_every=0", "loop.steps=100", "optimizer.decay=cosine"]
    settings += ["loop.minutes=0.1", "loop.save_every=2", "optimizer.warmup_steps=20"]
    rates: list[float] = []
    set_rate = loop.set_learning_rate

    def recording(*arguments: Any) -> float:
        rates.append(set_rate(*arguments))
        return rates[-1]

    monkeypatch.setattr(loop, "set_learning_rate", recording)

    def run(name: str, fatal: int = -1) -> list[int]:
        with monkeypatch.context() as patch:
            Time(patch)
            config = debug_config("landmarks", *settings, folder=name)
            places = record_places(patch, config, fatal)
            with pytest.raises(InterruptedError) if fatal >= 0 else nullcontext():
                loop.train(config)
        return places

    def read(name: str) -> dict[str, Any]:
        folder = Path(debug_config("landmarks", folder=name).loop.folder)
        extra = read_metadata(folder / "landmarks.safetensors")["extra"]
        assert (extra["step"], extra["minutes"]) == (6, 0.1)
        state = torch.load(folder / STATE, weights_only=True)
        assert (state["step"], state["seconds"]) == (6, 6.0)
        return dict(state["parts"]["generator"])

    assert run("whole") == [16, 33, 50, 66, 83, 99]
    assert 0.0 < rates[-1] < 1e-3 * max(rates)
    assert run("whole") == []  # nothing is left to do
    assert run("killed", fatal=66) == [16, 33, 50]
    assert run("killed") == [50, 66, 83, 99]  # saved after two steps
    whole, killed = read("whole"), read("killed")
    assert all(torch.equal(whole[key], killed[key]) for key in whole)

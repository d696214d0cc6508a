from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.locations import HOME_VARIABLE
from videoretalking.core.workers import Place
from videoretalking.scripts.preprocess import __main__ as preprocess
from videoretalking.scripts.preprocess import crew
from videoretalking.scripts.preprocess.clips import ClipConfig
from videoretalking.scripts.preprocess.crew import Crew, parse_devices
from videoretalking.scripts.preprocess.offsets import OffsetConfig
from videoretalking.scripts.preprocess.runner import (
    Outcome,
    Rejected,
    forget_rejects,
    plain,
    read_rejects,
    run_step,
)
from videoretalking.scripts.preprocess.splits import SplitConfig


@dataclass(frozen=True)
class _Item:
    name: str


def _work(folder: Path, item: _Item) -> None:
    if item.name == "bad":
        raise Rejected("too  short")
    if item.name == "broken":
        raise OSError("disk")
    if item.name == "killer":
        os.kill(os.getpid(), signal.SIGKILL)
    (folder / item.name).touch()


def _run(folder: Path, names: str, crew: Crew | None = None) -> Outcome:
    return run_step(
        "demo",
        [_Item(name) for name in names.split()],
        partial(plain, partial(_work, folder)),
        lambda item: (folder / item.name).is_file(),
        folder,
        crew or Crew(processes=0),
    )


def test_counts_reports_and_resumes(tmp_path: Path) -> None:
    (tmp_path / "there").touch()
    assert _run(tmp_path, "there a bad broken") == Outcome(done=1, skipped=1, rejected=1, failed=1)
    assert read_rejects(tmp_path, "demo") == {"bad": "too short"}
    # what was rejected is not tried again, what failed is
    assert _run(tmp_path, "there a bad broken b") == Outcome(done=1, skipped=3, rejected=0, failed=1)


def test_a_step_in_which_everything_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="broken: OSError: disk"):
        _run(tmp_path, "broken")


def test_processes_give_the_same_result_and_a_killed_one_costs_its_item(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = _run(tmp_path, "a b bad killer c", Crew(processes=2))
    assert outcome == Outcome(done=3, skipped=0, rejected=2, failed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "rejects"]
    assert "process died" in read_rejects(tmp_path, "demo")["killer"]
    assert any("killer rejected: the worker process died" in message for message in caplog.messages)


def test_the_bar_names_the_item_that_is_worked_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _run(tmp_path, "there some/long.name")
    assert "some/long.name" in capsys.readouterr().err


def test_a_torn_last_line_of_the_rejects_costs_that_line_only(tmp_path: Path) -> None:
    _run(tmp_path, "bad a")
    path = tmp_path / "rejects" / "demo.csv"
    with path.open("a") as handle:
        handle.write('"half a na')  # killed while it wrote
    assert read_rejects(tmp_path, "demo") == {"bad": "too short"}
    _run(tmp_path, "bad b", Crew(processes=0))
    assert path.read_text().splitlines() == ["name,reason", "bad,too short"]
    forget_rejects(tmp_path, "demo", lambda name: name == "bad")
    assert read_rejects(tmp_path, "demo") == {}


def test_rejects_are_written_in_linear_time(tmp_path: Path) -> None:
    def work(item: _Item) -> None:
        raise Rejected("too short")

    def cpu(folder: Path, count: int) -> float:
        items = [_Item(f"{number:06d}") for number in range(count)]
        begin = time.process_time()
        run_step("demo", items, partial(plain, work), lambda item: False, folder, Crew(processes=0))
        return time.process_time() - begin

    few, many = cpu(tmp_path / "few", 400), cpu(tmp_path / "many", 4000)
    assert len(read_rejects(tmp_path / "many", "demo")) == 4000
    assert many < 30 * few + 0.5  # ten times as many; quadratic would be a hundred times


def test_devices_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "usable_cpus", lambda: 8)
    monkeypatch.setattr(crew, "visible_gpus", lambda: ("cuda:0", "cuda:1"))
    assert parse_devices("auto") == () and parse_devices("cuda:1, cpu") == ("cuda:1", "cpu")
    with pytest.raises(
        argparse.ArgumentTypeError, match="'cuda:2' is no device of this machine, which has cuda:0, cuda:1"
    ):
        parse_devices("cuda:0,cuda:2")
    workers = Crew(processes=4)
    assert workers.places(networks=True) == [Place("cuda:0", 4), Place("cuda:1", 4)]
    assert workers.places(networks=False) == [Place("cpu", 1)] * 4
    assert Crew(4, ("cpu", "cpu")).places(networks=True) == [Place("cpu", 4)] * 2
    monkeypatch.setattr(crew, "visible_gpus", lambda: ())
    assert workers.places(networks=True) == [Place("cpu", 2)] * 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--val-share", "1.5"], "--val-share is 1.5: it must be at least 0 and at most 1"),
        (["--max-face", "0"], "--max-face is 0: it must be at least 16"),
        (["--expert", "nowhere.safetensors"], "nowhere.safetensors"),
        (["--restore"], "gpen"),
        (["--reconstructor", "reconnet"], "reconnet"),
    ],
)
def test_what_cannot_work_is_said_before_hours_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], message: str
) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    (tmp_path / "videos").mkdir()
    given = ["--root", str(tmp_path / "videos"), "--output", str(tmp_path / "out"), *options]
    monkeypatch.setattr(sys, "argv", ["preprocess", *given])
    with pytest.raises(UserError, match=message):
        preprocess.main()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipConfig(max_seconds=0.0), "--max-seconds is 0: it must be at least 1"),
        (lambda: ClipConfig(max_repeats=2.0), "--max-repeats is 2: .* at most 1"),
        (
            lambda: SplitConfig(val_share=0.8, test_share=0.4),
            "the sum of --val-share and --test-share is 1.2",
        ),
        (lambda: OffsetConfig(max_shift=0), "--max-shift is 0"),
    ],
)
def test_options_out_of_range_are_refused(make: Callable[[], object], message: str) -> None:
    SplitConfig(val_share=0.9, test_share=0.1)
    with pytest.raises(UserError, match=message):
        make()

"""Worker processes: one item at a time, each process on its own device, and what happens when one dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.workers import Finished, Place, run_locally


def _builder(folder: Path, device: str) -> Callable[[str], str]:
    """Writes down what a process finds when it is built; its work kills it on some items."""
    (folder / f"process-{os.getpid()}").write_text(f"{device} {os.environ['CUDA_VISIBLE_DEVICES']}")
    return partial(_work, folder)


def _work(folder: Path, item: str) -> str:
    with (folder / "log").open("a") as log:
        log.write(f"{item}\n")
    tried = (folder / "log").read_text().split().count(item)
    if item.startswith("killer") or (item.startswith("once") and tried == 1):
        os.kill(os.getpid(), signal.SIGKILL)
    while item.startswith("wait") and len(list(folder.glob("process-*"))) < 3:
        time.sleep(0.05)
    return item.upper()


def _run(folder: Path, items: str, places: list[Place]) -> dict[str, Finished[str, str]]:
    found = list(run_locally(partial(_builder, folder), items.split(), places))
    assert len({result.item for result in found}) == len(found)
    return {result.item: result for result in found}


def test_a_worker_that_dies_costs_its_item_only(tmp_path: Path) -> None:
    found = _run(tmp_path, "a killer b once c d", [Place(), Place()])
    assert {item: result.value for item, result in found.items()} == {
        **{item: item.upper() for item in ("a", "b", "once", "c", "d")},
        "killer": None,
    }
    assert [item for item, result in found.items() if result.died] == ["killer"]
    tries = (tmp_path / "log").read_text().split()
    assert tries.count("killer") == tries.count("once") == 2
    assert all(tries.count(item) == 1 for item in "abcd")  # the innocent are not done again


def test_every_worker_sees_its_own_gpu_and_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, GPU-5")
    _run(tmp_path, "wait1 wait2 wait3", [Place("cuda:0"), Place("cuda:1"), Place("cpu")])
    facts = sorted(path.read_text() for path in tmp_path.glob("process-*"))
    assert facts == ["cpu ", "cuda 4", "cuda GPU-5"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4, GPU-5"  # this process keeps its own


def _threads_of(device: str) -> Callable[[str], list[int]]:
    import torch  # as the steps with networks do

    assert torch.get_num_threads() > 0
    return _threads


def _threads(item: str) -> list[int]:
    import cv2
    import torch

    return [torch.get_num_threads(), cv2.getNumThreads()]


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_limited(threads: int) -> None:
    (result,) = run_locally(_threads_of, ["a"], [Place("cpu", threads)])
    assert result.value == [threads, threads]


def test_without_a_choice_of_gpus_the_number_is_the_name() -> None:
    assert Place("cuda:3").environment({})["CUDA_VISIBLE_DEVICES"] == "3"
    assert Place("cpu").environment({"CUDA_VISIBLE_DEVICES": "0"})["CUDA_VISIBLE_DEVICES"] == ""


def _no_weights(device: str) -> Callable[[str], str]:
    raise UserError(f"no weights for {device}")


def test_what_cannot_be_built_is_said_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights for cpu"):
        list(run_locally(_no_weights, ["a", "b"], [Place(), Place()]))


def test_workers_that_always_die_end_the_run(tmp_path: Path) -> None:
    items = [f"killer{number}" for number in range(30)]
    with pytest.raises(UserError, match="8 worker processes in a row died, the last one on killer7"):
        list(run_locally(partial(_builder, tmp_path), items, [Place()]))


def _sleeps(folder: Path, device: str) -> Callable[[str], str]:
    return partial(_sleep, folder)


def _sleep(folder: Path, item: str) -> str:
    (folder / "pid").write_text(str(os.getpid()))
    if item == "long":
        time.sleep(600)
    return item


def test_who_stops_early_leaves_no_process(tmp_path: Path) -> None:
    results = run_locally(partial(_sleeps, tmp_path), ["short", "long"], [Place()])
    assert next(results).item == "short"
    pid = int((tmp_path / "pid").read_text())
    results.close()
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            return
        time.sleep(0.05)
    pytest.fail(f"process {pid} is still there")

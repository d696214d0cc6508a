"""Work on a Ray cluster of three machines, one of which goes away midway; skipped without Ray."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from ray_machines import remove_one_when, three_machines

from videoretalking.core.cluster import run_on_ray
from videoretalking.core.errors import UserError
from videoretalking.core.workers import Finished

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def machines() -> Iterator[Any]:
    with three_machines() as cluster:
        yield cluster


def _no_weights(device: str) -> Callable[[str], str]:
    raise UserError(f"no weights for {device}")


def test_what_cannot_be_built_is_said_once(machines: Any) -> None:
    with pytest.raises(UserError, match="no weights for cpu"):
        list(run_on_ray(_no_weights, ["a", "b"]))


def _build(folder: Path, device: str) -> Callable[[str], str]:
    (folder / f"process-{os.getpid()}").write_text(device)
    return partial(_work, folder)


def _work(folder: Path, item: str) -> str:
    with (folder / "log").open("a") as log:
        log.write(f"{item}\n")
    time.sleep(0.5)
    if item == "bad":
        os.kill(os.getpid(), 9)
    return item.upper()


def test_all_items_are_done_though_a_machine_goes_away(machines: Any, tmp_path: Path) -> None:
    items = [f"item{number}" for number in range(20)]
    log = tmp_path / "log"
    with remove_one_when(machines, lambda: log.exists() and len(log.read_text().split()) >= 5):
        found: list[Finished[str, str]] = list(run_on_ray(partial(_build, tmp_path), [*items, "bad"]))
    assert {result.item: result.value for result in found if not result.died} == {
        item: item.upper() for item in items
    }
    assert [result.item for result in found if result.died] == ["bad"]
    assert len(found) == 21 and len(list(tmp_path.glob("process-*"))) >= 3

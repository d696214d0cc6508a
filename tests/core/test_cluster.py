"""Work on a Ray cluster of three machines, one of which goes away midway; skipped without Ray."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from videoretalking.core.errors import UserError

ray = pytest.importorskip("ray")

from ray.cluster_utils import Cluster  # noqa: E402

from videoretalking.core.cluster import run_on_ray  # noqa: E402
from videoretalking.core.workers import Finished  # noqa: E402


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Three machines of one CPU, the first of which holds the cluster together."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))  # where the workers find this file
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    machines = Cluster(initialize_head=True, head_node_args=node)
    machines.removable = [machines.add_node(**node) for _ in range(2)]
    machines.wait_for_nodes()
    ray.init(address=machines.address, log_to_driver=False)
    yield machines
    ray.shutdown()
    machines.shutdown()


def remove_one_when(cluster: Any, ready: Callable[[], bool]) -> threading.Thread:
    """Kill a machine, without a goodbye, as soon as something is the case."""

    def remove() -> None:
        while not ready():
            time.sleep(0.05)
        cluster.remove_node(cluster.removable.pop(), allow_graceful=False)

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    return thread


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


def _count(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_all_items_are_done_though_a_machine_goes_away(cluster: Any, tmp_path: Path) -> None:
    items = [f"item{number}" for number in range(20)]
    log = tmp_path / "log"
    remover = remove_one_when(cluster, lambda: log.exists() and len(log.read_text().split()) >= 5)
    found: list[Finished[str, str]] = list(run_on_ray(partial(_build, tmp_path), [*items, "bad"]))
    remover.join(timeout=30)
    assert not remover.is_alive() and len([node for node in ray.nodes() if node["Alive"]]) == 2
    assert {result.item: result.value for result in found if not result.died} == {
        item: item.upper() for item in items
    }
    assert [result.item for result in found if result.died] == ["bad"]
    assert len(list(tmp_path.glob("process-*"))) >= 3


def _no_weights(device: str) -> Callable[[str], str]:
    raise UserError(f"no weights for {device}")


def test_what_cannot_be_built_is_said_once(cluster: Any) -> None:
    with pytest.raises(UserError, match="no weights for cpu"):
        list(run_on_ray(_no_weights, ["a", "b"]))

"""Three Ray machines inside this one, of which one can be killed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def three_machines() -> Iterator[Any]:
    """A joined cluster of one CPU a machine; ``remove_one_when`` takes one away."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("RAY_worker_niceness", "0")  # Ray's own choice starves on a busy machine
        tests = Path(__file__).parent
        patch.setenv(
            "PYTHONPATH", f"{tests}{os.pathsep}{tests / 'core'}"
        )  # where workers find a test's functions
        machines = Cluster(initialize_head=True, head_node_args=node)
        try:
            machines.removable = [machines.add_node(**node) for _ in range(2)]
            machines.wait_for_nodes()
            ray.init(address=machines.address, log_to_driver=False)
            yield machines
        finally:
            ray.shutdown()
            machines.shutdown()


@contextmanager
def remove_one_when(machines: Any, ready: Callable[[], bool]) -> Iterator[None]:
    """Kill a machine, without a goodbye, as soon as something is the case; it must be before the block ends."""
    ended, killed = threading.Event(), threading.Event()

    def remove() -> None:
        while not ready():
            if ended.wait(0.05):
                return
        machines.remove_node(machines.removable.pop(), allow_graceful=False)
        killed.set()

    thread = threading.Thread(target=remove, daemon=True)
    thread.start()
    yield
    assert killed.is_set(), "the work was over before the machine was killed"
    ended.set()
    thread.join(timeout=60)

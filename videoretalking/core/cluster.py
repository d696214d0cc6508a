"""Work spread over the machines of a Ray cluster (extra ``cluster``).

Ray places the workers, moves the items and notices what dies. All machines see the files under the same paths.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic

from videoretalking.core.errors import UserError
from videoretalking.core.workers import Build, Finished, Item, Report, Value, limit_threads, spread

TRIES = 4  # of an item whose worker died; machines that go away are no fault of the item


def run_on_ray(
    build: Build[Item, Value],
    items: Sequence[Item],
    num_workers: int | None = None,
    gpus_per_worker: float = 0.0,
    report: Report[Item] | None = None,
) -> Generator[Finished[Item, Value]]:
    """Have items done, one at a time by each worker; workers that died are replaced where there is room.

    A worker is built once per process, so networks are loaded once. A running cluster is joined through
    ``RAY_ADDRESS``; otherwise one is started on this machine. An item whose machine goes away is done again
    elsewhere, so it may be done twice: its results must be files under its own name, each written whole.

    Args:
        build: makes the function that takes one item, for the device ``cuda`` or ``cpu``; must be picklable.
        items: what to do, in any order.
        num_workers: processes; None for one per GPU of the cluster, or one per CPU where workers need no GPU.
        gpus_per_worker: share of a GPU that each worker needs.
        report: told the items under way, the oldest first, whenever they change.

    Yields:
        Every item once, as they are finished.

    Raises:
        UserError: Ray is not installed, from ``build``, or workers die whatever they work on.
    """
    resources = join_cluster()
    if num_workers is None:
        free = resources.get("GPU", 0.0) / gpus_per_worker if gpus_per_worker else resources.get("CPU", 1.0)
        num_workers = int(free)
    count = max(1, min(num_workers, len(items)))
    return spread(items, [_Actor(build, gpus_per_worker) for _ in range(count)], TRIES, report)


def join_cluster() -> dict[str, float]:
    """Join the cluster, or start one here.

    Returns:
        How much of each resource (``CPU``, ``GPU`` ...) all its machines have together.

    Raises:
        UserError: Ray is not installed, or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise UserError("a Ray cluster needs the package ray: pip install -e '.[cluster]'") from None
    try:
        ray.init(ignore_reinit_error=True)
    except ConnectionError as error:
        raise UserError(f"the Ray cluster cannot be reached ({error}): check RAY_ADDRESS") from None
    resources: dict[str, float] = ray.cluster_resources()
    return resources


def whole_gpus() -> float:
    """GPUs for each worker with networks: 1 where the cluster has any, else 0."""
    return float(join_cluster().get("GPU", 0.0) > 0)


class _Actor(Generic[Item, Value]):
    """One process somewhere in the cluster."""

    def __init__(self, build: Build[Item, Value], gpus: float) -> None:
        import ray

        # Restarts and retries are left to the caller, who does not wait for room that a lost machine took along.
        options = {"num_cpus": 1, "num_gpus": gpus, "max_restarts": 0, "max_task_retries": 0}
        self._remote = ray.remote(**options, scheduling_strategy="SPREAD")(_Process)
        self._build = build
        self._device = "cuda" if gpus else "cpu"
        self._actor: Any = None

    def start(self) -> Future[None]:
        self.stop()
        self._actor = self._remote.remote()
        future: Future[None] = self._actor.start.remote(self._build, self._device, str(Path.cwd())).future()
        return future

    def do(self, item: Item) -> Future[Value]:
        future: Future[Value] = self._actor.do.remote(item).future()
        return future

    def is_death(self, error: BaseException) -> bool:
        from ray.exceptions import RayError, RayTaskError

        return isinstance(error, RayError) and not isinstance(error, RayTaskError)

    def stop(self) -> None:
        import ray

        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)
        self._actor = None


class _Process:
    """What runs in the cluster."""

    def start(self, build: Build[Any, Any], device: str, folder: str) -> None:
        os.chdir(folder)  # relative paths are the caller's
        self.work = build(device)
        if device == "cpu":
            limit_threads(1)

    def do(self, item: Any) -> Any:
        return self.work(item)

"""Spread work over a Ray cluster (extra ``cluster``): idle workers take the next item, dead ones are replaced."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

from videoretalking.core.errors import UserError

Item = TypeVar("Item")
Worker = Callable[[Item], None]

MAX_RETRIES = 3  # of an item whose worker died


def run_on_ray(
    build: Callable[[], Worker[Item]],
    items: Sequence[Item],
    num_workers: int | None,
    gpus_per_worker: float = 0.0,
) -> None:
    """Run a worker's function over all items.

    A worker is built once per process, so networks are loaded once. A running cluster is joined through
    ``RAY_ADDRESS``; otherwise one is started on this machine.

    Args:
        build: makes the function that takes one item; must be picklable.
        items: what to do, in any order.
        num_workers: processes; None for one per GPU of the cluster, or one per CPU where workers need no GPU.
        gpus_per_worker: share of a GPU that each worker needs.

    Raises:
        UserError: Ray is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        from ray.util import ActorPool
    except ImportError:
        raise UserError("--engine ray needs the package ray: pip install -e '.[cluster]'") from None
    ray.init(ignore_reinit_error=True)

    class Process:
        def __init__(self) -> None:
            self.run = build()

        def do(self, item: Item) -> None:
            self.run(item)

    if num_workers is None:
        resources = ray.cluster_resources()
        num_workers = int(resources.get("GPU", 0) / gpus_per_worker if gpus_per_worker else resources["CPU"])
    remote = ray.remote(max_restarts=-1, max_task_retries=MAX_RETRIES, num_gpus=gpus_per_worker)(Process)
    pool = ActorPool([remote.remote() for _ in range(max(1, min(num_workers, len(items))))])
    results = pool.map_unordered(lambda process, item: process.do.remote(item), items)
    for _ in tqdm(results, total=len(items), unit="video", desc="cluster"):
        pass

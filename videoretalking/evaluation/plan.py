"""One evaluation as plain values, and the ways to run it: in this process, or over a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videoretalking.core.cluster import run_on_ray
from videoretalking.core.devices import exact_float32
from videoretalking.core.errors import UserError
from videoretalking.core.files import check_folder
from videoretalking.core.locations import user_folder
from videoretalking.evaluation.config import EvaluationConfig, build_measures
from videoretalking.evaluation.methods import make_method
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.run import Evaluation


@dataclass(frozen=True)
class Plan:
    """What one evaluation is made from; plain values, so that it travels to other processes.

    Attributes:
        method: see :func:`evaluation.methods.make_method`.
        name: of the method in tables; None for the usual one.
        settings: of the main job, dotted keys.
        config: what is measured.
        folder: output.
        cache: face tracks and FID features of source videos, shared by evaluations.
        retry_failed: try failed pairs again.
    """

    method: str
    name: str | None
    settings: dict[str, Any]
    config: EvaluationConfig
    folder: Path
    cache: Path
    retry_failed: bool = False

    def build(self) -> Evaluation:
        """Load the networks; from here on float32 is float32 in this process, on every card.

        Raises:
            UserError: weights are missing, the folder holds results of other settings, or it or the cache is a
                file.
        """
        check_folder(self.folder, "the output folder")
        check_folder(self.cache, "the cache folder")
        exact_float32()
        settings = {"runtime.cache_dir": str(self.cache / "analysis"), **self.settings}
        method = make_method(self.method, settings, self.name)
        measures = build_measures(self.config, self.cache / "faces")
        reference = self.cache / "fid"
        config = self.config
        return Evaluation(
            self.folder, method, measures, reference, config.seed, self.retry_failed, config.intervals
        )


def default_cache() -> Path:
    """Where evaluations keep what they know about source videos: face tracks and FID features."""
    return user_folder() / "evaluation"


def run_locally(plan: Plan, pairs: Sequence[Pair]) -> Evaluation:
    """Evaluate pairs one after the other in this process."""
    evaluation = plan.build()
    for pair in tqdm(pairs, desc=evaluation.method.name, unit="video"):
        evaluation.evaluate(pair)
    return evaluation


def run_on_cluster(
    plan: Plan, pairs: Sequence[Pair], num_workers: int | None, gpus_per_worker: float
) -> Evaluation:
    """Spread the pairs that are not finished over a Ray cluster; see :func:`core.cluster.run_on_ray`.

    Raises:
        UserError: the process died at every try of some pair; the others are finished.
    """
    evaluation = plan.build()
    waiting = [pair for pair in pairs if not evaluation.is_finished(pair)]
    results = run_on_ray(partial(_build_worker, plan), waiting, num_workers, gpus_per_worker)
    bar = tqdm(results, total=len(waiting), desc=evaluation.method.name, unit="video")
    lost = [result.item.name for result in bar if result.died]
    if lost:
        raise UserError(
            f"the process of {len(lost)} of {len(waiting)} pairs died each time it was tried, such as that of "
            f"{lost[0]}: see what Ray says above; the same command tries them again"
        )
    return evaluation


def _build_worker(plan: Plan, device: str) -> Callable[[Pair], None]:
    """What a process of the cluster runs for each pair."""
    return plan.build().evaluate

"""Score a method over a pair list.

``python -m scripts.evaluate --pairs pairs.csv --method ours`` dubs every pair, scores it, and prints the averages;
``--method`` may also be ``wav2lip``, ``wav2lip-gan``, ``copy`` or a folder of results made elsewhere. A run that is
stopped goes on where it was when started again. ``--shard 2/8`` does one of eight parts, on any machine that sees
the output folder; ``--engine ray`` spreads the pairs over a Ray cluster. See docs/metrics.md.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.locations import bundled
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.hygiene import check_disjoint
from videoretalking.evaluation.methods import METHODS
from videoretalking.evaluation.pairs import read_pairs, shard
from videoretalking.evaluation.plan import Plan, default_cache, run_locally, run_on_cluster
from videoretalking.evaluation.provenance import describe_runtime

logger = logging.getLogger(__name__)


def print_summary(summary: dict[str, Any]) -> None:
    """The averages, remarks and failures of an evaluation, on standard output."""
    print(f"{summary['method']}: {summary['videos']} videos")
    for runtime in summary["runtimes"]:
        print(f"  {describe_runtime(runtime)}")
    for name, value in summary["values"].items():
        low, high = summary["intervals"].get(name, (None, None))
        print(f"  {name:20s} {value:.4f}" + ("" if low is None else f"  [{low:.4f}, {high:.4f}]"))
    if summary["intervals"]:
        print(f"  {summary['interval_method']}")
    for name, worst in summary["worst"].items():
        print(f"  worst {name:14s} {', '.join(worst)}")
    for name, note in summary["notes"].items():
        print(f"  note on {name}: {note}")
    for name in summary["failed"]:
        print(f"  failed: {name}")


def parse_shard(text: str) -> tuple[int, int]:
    """``2/8`` -> (2, 8)."""
    try:
        number, total = (int(part) for part in text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected NUMBER/TOTAL such as 2/8, got {text!r}") from None
    return number, total


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    assert __doc__ is not None
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pairs", type=Path, required=True, help="CSV of pairs, or one of Wav2Lip's file lists"
    )
    parser.add_argument("--data-root", type=Path, help="folder that names in the list refer to")
    parser.add_argument("--method", required=True, help=f"{', '.join(METHODS)}, or a folder of results")
    parser.add_argument("--name", help="name of the method in tables")
    parser.add_argument("--out", type=Path, help="output folder (default: results/evaluation/METHOD)")
    add_settings(parser)
    parser.add_argument("--limit", type=positive, help="only the first pairs of the list")
    parser.add_argument(
        "--shard", type=parse_shard, default=(1, 1), metavar="I/N", help="one part of the list"
    )
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument(
        "--workers", type=positive, help="processes of the cluster (default: one per GPU, or per CPU)"
    )
    parser.add_argument("--gpus-per-worker", type=float, default=0.0)
    parser.add_argument("--retry-failed", action="store_true", help="try pairs again that failed before")
    parser.add_argument(
        "--cache",
        type=Path,
        default=default_cache(),
        help="face tracks and FID features of source videos (default: %(default)s)",
    )
    return parser.parse_args(arguments)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Options that say what is measured, how the main job runs, and on what it must not have been trained."""
    parser.add_argument(
        "--config", type=Path, default=bundled("configs/evaluation.yaml"), help="what is measured (YAML)"
    )
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of --config")
    parser.add_argument("--job", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the main job")
    parser.add_argument(
        "--train-manifest",
        type=Path,
        metavar="FILE",
        help="manifest.csv of the training; refuse pairs whose people or clips it holds",
    )


def parse_settings(items: Sequence[str]) -> dict[str, Any]:
    """``key=value`` items of ``--job``, values read as YAML.

    Raises:
        UserError: an item is not of that form, or its value is no YAML.
    """
    settings = {}
    for item in items:
        key, separator, text = item.partition("=")
        if not separator or not key:
            raise UserError(f"--job {item!r} is not of the form key=value")
        try:
            settings[key] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise UserError(f"--job {item!r}: the value is not valid YAML") from None
    return settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if pairs failed or are still missing."""
    options = parse_arguments(arguments)
    plan = Plan(
        method=options.method,
        name=options.name,
        settings=parse_settings(options.job),
        config=load_config(EvaluationConfig, options.config, options.set),
        folder=options.out or Path("results/evaluation") / Path(options.method).name,
        cache=options.cache,
        retry_failed=options.retry_failed,
    )
    pairs = read_pairs(options.pairs, options.data_root)[: options.limit]
    if options.train_manifest is not None:
        check_disjoint(pairs, options.train_manifest)
    part = shard(pairs, *options.shard)
    if options.engine == "ray":
        evaluation = run_on_cluster(plan, part, options.workers, options.gpus_per_worker)
    else:
        evaluation = run_locally(plan, part)
    missing = evaluation.missing(pairs)
    if missing:
        logger.info("%d of %d pairs are still to be done by other shards", len(missing), len(pairs))
        return 0
    summary = evaluation.summarize(pairs)
    print_summary(summary)
    return 1 if summary["failed"] else 0


if __name__ == "__main__":
    run_command(main)

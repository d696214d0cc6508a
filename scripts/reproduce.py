"""Reproduce the paper's tables: dub, score, and print our figures beside the paper's.

``python -m scripts.reproduce table1 --lrs2 DIR --hdtf DIR`` compares methods, ``table3`` ablates the networks and
``table4`` interpolates the expression template. ``--plan`` says how long it takes here. ``--preset mini`` does the
same on a few two-second clips of any folders of talking faces, to see that everything works. Runs resume;
nothing is dubbed or scored twice, and the tables share what they have in common. Networks run in float32 unless
``--job runtime.dtype=...`` says otherwise. Table 2 is ``python -m scripts.user_study``. See docs/metrics.md.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.estimate import Work, describe_work
from videoretalking.evaluation.hygiene import check_disjoint
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.paper import TABLE_1
from videoretalking.evaluation.provenance import write_json
from videoretalking.evaluation.records import describe_table, draw_table, worst_table, write_worst
from videoretalking.evaluation.reproduction import (
    DATASETS,
    PRESETS,
    Outcome,
    Reproduction,
    TablePlan,
    make_table,
    plan_table1,
    plan_table3,
    plan_table4,
)
from videoretalking.scripts.evaluate import add_settings, parse_settings

logger = logging.getLogger(__name__)

LONG = 10  # pairs of a row from which on the time is estimated without being asked for


def _results_folder(text: str) -> tuple[str, Path]:
    key, separator, folder = text.partition("=")
    method, _, dataset = key.partition(":")
    if not separator or method not in TABLE_1 or dataset not in DATASETS:
        known = ", ".join(TABLE_1)
        raise argparse.ArgumentTypeError(
            f"expected METHOD:DATASET=FOLDER with a method of {known}, got {text!r}"
        )
    return key, Path(folder)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line."""
    assert __doc__ is not None
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=("table1", "table3", "table4"))
    parser.add_argument("--lrs2", type=Path, help="folder of LRS2's videos (mvlrs_v1/main)")
    parser.add_argument(
        "--lrs2-list", type=Path, help="pair list, such as Wav2Lip's published one; default: drawn"
    )
    parser.add_argument("--hdtf", type=Path, help="folder of HDTF's videos")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="paper")
    parser.add_argument("--out", type=Path, help="output folder (default: results/reproduce/PRESET)")
    add_settings(parser)
    parser.add_argument("--seed", type=int, default=0, help="of the pair lists")
    parser.add_argument("--limit", type=positive, help="only the first pairs of each list")
    parser.add_argument(
        "--plan",
        action="store_true",
        help="do the first pairs of every row, say how long the rest takes, stop",
    )
    parser.add_argument(
        "--lnet-without-attention",
        metavar="CHECKPOINT",
        help="for the first row of table 3 (default: lnet_no_attention.safetensors among the weights)",
    )
    parser.add_argument(
        "--results",
        action="append",
        type=_results_folder,
        default=[],
        metavar="METHOD:DATASET=FOLDER",
        help="results of a method made elsewhere, for table 1",
    )
    return parser.parse_args(arguments)


def make_reproduction(options: argparse.Namespace) -> Reproduction:
    """What runs the jobs of a command line."""
    return Reproduction(
        out=options.out or Path("results/reproduce") / options.preset,
        preset=PRESETS[options.preset],
        config=load_config(EvaluationConfig, options.config, options.set),
        seed=options.seed,
        job_settings=parse_settings(options.job),
        limit=options.limit,
    )


def make_plan(options: argparse.Namespace, reproduction: Reproduction) -> TablePlan:
    """What a table needs.

    Raises:
        UserError: a data set that it needs was not given, or its pairs were trained on.
    """
    lists: dict[str, list[Pair]] = {}
    if options.lrs2 is not None and options.table == "table1":
        lists["LRS2"] = reproduction.pairs("LRS2", options.lrs2, options.lrs2_list)
    if options.hdtf is not None:
        lists["HDTF"] = reproduction.pairs("HDTF", options.hdtf)
    if not lists:
        needed = "--lrs2, --hdtf or both" if options.table == "table1" else "--hdtf"
        raise UserError(f"{options.table} needs {needed}")
    if options.train_manifest is not None:
        check_disjoint([pair for pairs in lists.values() for pair in pairs], options.train_manifest)
    if options.table == "table1":
        return plan_table1(reproduction, lists, dict(options.results))
    if options.table == "table3":
        return plan_table3(reproduction, lists["HDTF"], options.lnet_without_attention)
    return plan_table4(reproduction, lists["HDTF"])


def write_files(
    options: argparse.Namespace,
    reproduction: Reproduction,
    plan: TablePlan,
    outcomes: Sequence[Outcome],
    work: Sequence[Work],
) -> list[str]:
    """Write the table as Markdown, LaTeX and JSON, its worst videos as CSV, and its pictures.

    Returns:
        The texts, to be printed.
    """
    table = make_table(reproduction, plan, outcomes)
    pictures = draw_table(reproduction.out, options.table, plan, outcomes)
    parts = [table.markdown(), *(f"![{plan.title}]({picture.name})\n" for picture in pictures)]
    if any(outcome.summary["worst"] for outcome in outcomes):
        parts.append(worst_table(plan, outcomes).markdown())
    texts = {".md": "\n".join(parts), ".tex": table.latex()}
    for suffix, text in texts.items():
        with atomic_path(reproduction.out / f"{options.table}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
    write_worst(reproduction.out / f"{options.table}_worst.csv", plan, outcomes)
    record = describe_table(reproduction, plan, outcomes, work, options.train_manifest)
    write_json(reproduction.out / f"{options.table}.json", record)
    return list(texts.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if pairs failed."""
    options = parse_arguments(arguments)
    reproduction = make_reproduction(options)
    plan = make_plan(options, reproduction)
    work: list[Work] = []
    if options.plan or any(len(job.pairs) >= LONG for job in plan.jobs):
        work, device = reproduction.estimate(plan)
        text = describe_work(plan.title, work, device)
        if options.plan:
            print(text)
            return 0
        logger.info("%s", text)
    outcomes = reproduction.run(plan, work)
    for text in write_files(options, reproduction, plan, outcomes, work):
        print(text)
    return 1 if reproduction.has_failures else 0


if __name__ == "__main__":
    run_command(main)

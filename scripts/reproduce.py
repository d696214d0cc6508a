"""Reproduce the paper's tables: dub, score, and print our figures beside the paper's.

``python -m scripts.reproduce table1 --lrs2 DIR --hdtf DIR`` compares methods, ``table3`` ablates the networks and
``table4`` interpolates the expression template. ``--preset mini`` does the same on a few two-second clips of any
folders of talking faces, to see that everything works. Runs resume; nothing is dubbed or scored twice, and the
tables share what they have in common. Table 2 is ``python -m scripts.user_study``. See docs/metrics.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.paper import TABLE_1
from videoretalking.evaluation.reproduction import (
    DATASETS,
    PRESETS,
    Reproduction,
    table1,
    table3,
    table4,
)
from videoretalking.evaluation.tables import Table
from videoretalking.scripts.evaluate import add_settings, parse_settings


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
    parser.add_argument("--limit", type=int, help="only the first pairs of each list")
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


def make_table(options: argparse.Namespace, reproduction: Reproduction) -> Table:
    """Run what a table needs.

    Raises:
        UserError: a data set that it needs was not given.
    """
    lists: dict[str, list[Pair]] = {}
    if options.lrs2 is not None and options.table == "table1":
        lists["LRS2"] = reproduction.pairs("LRS2", options.lrs2, options.lrs2_list)
    if options.hdtf is not None:
        lists["HDTF"] = reproduction.pairs("HDTF", options.hdtf)
    if options.table == "table1":
        if not lists:
            raise UserError("table1 needs --lrs2, --hdtf or both")
        return table1(reproduction, lists, dict(options.results))
    if not lists:
        raise UserError(f"{options.table} needs --hdtf")
    if options.table == "table3":
        return table3(reproduction, lists["HDTF"], options.lnet_without_attention)
    return table4(reproduction, lists["HDTF"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns 1 if pairs failed."""
    options = parse_arguments(arguments)
    reproduction = make_reproduction(options)
    table = make_table(options, reproduction)
    for suffix, text in ((".md", table.markdown()), (".tex", table.latex())):
        with atomic_path(reproduction.out / f"{options.table}{suffix}") as temporary:
            temporary.write_text(text, encoding="utf-8")
        print(text)
    return 1 if reproduction.has_failures else 0


if __name__ == "__main__":
    run_command(main)

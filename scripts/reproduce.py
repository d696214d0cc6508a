"""Reproduce the paper's tables: dub, score, and print our figures beside the paper's.

``python -m scripts.reproduce table1 --lrs2 DIR --hdtf DIR`` compares methods, ``table3`` ablates the networks and
``table4`` interpolates the expression template. ``--preset mini`` does the same on a few two-second clips of any
folders of talking faces, to see that everything works. Runs resume; nothing is dubbed or scored twice, and the
tables share what they have in common. Table 2 is ``python -m scripts.user_study``. See docs/metrics.md.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.commands import CommandParser
from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.methods import (
    LNET_ONLY,
    OURS,
    WITHOUT_DNET,
    MissingWeightsError,
    Settings,
    baseline_weights,
)
from videoretalking.evaluation.pairs import Pair, read_pairs
from videoretalking.evaluation.paper import TABLE_1, TABLE_3, TABLE_4, Figures
from videoretalking.evaluation.tables import UNAVAILABLE, Table, figure, heading
from videoretalking.scripts.evaluate import DEFAULT_CONFIG, Plan, parse_settings, run_locally
from videoretalking.scripts.make_pairs import make_pair_list

logger = logging.getLogger(__name__)

QUALITY = ("fid", "cpbd", "lse_d", "lse_c")
SYNC = ("lse_d", "lse_c")
DATASETS = ("LRS2", "HDTF")
TABLE_4_PAIRS = 10
WITHOUT_ATTENTION = "L-Net w/o cross-attention"
TABLE_1_METHODS = {"Wav2Lip w/o GAN": "wav2lip", "Wav2Lip": "wav2lip-gan", "Ours": "ours"}


@dataclass(frozen=True)
class Preset:
    """Size of a reproduction.

    Attributes:
        lrs2_pairs: pairs drawn from LRS2 where no file list is given.
        lrs2_seconds: length of its clips; None for whole videos.
        hdtf_pairs: pairs drawn from HDTF.
        hdtf_seconds: length of its clips.
        table4_pairs: videos of table 4.
        min_detections: shortest face track that is scored, frames.
    """

    lrs2_pairs: int
    lrs2_seconds: float | None
    hdtf_pairs: int
    hdtf_seconds: float
    table4_pairs: int
    min_detections: int


PRESETS = {
    # The paper: 14k pairs of LRS2, 100 pairs of twenty seconds of HDTF, 10 videos for table 4.
    "paper": Preset(14_000, None, 100, 20.0, TABLE_4_PAIRS, 100),
    "mini": Preset(2, 2.0, 2, 2.0, 2, 25),
}


@dataclass(frozen=True)
class Job:
    """One row of a table on one data set.

    Attributes:
        row: as the table names it.
        method: see :func:`evaluation.methods.make_method`.
        settings: of the main job.
        folder: name of the output folder; rows that are the same job share it.
    """

    row: str
    method: str
    settings: Settings
    folder: str


class Reproduction:
    """Runs jobs and remembers what could not be run.

    Args:
        out: results of all tables.
        preset: size.
        config: what is measured.
        seed: of the pair lists.
        job_settings: settings of the main job for every method.
        limit: at most so many pairs of each list.
    """

    def __init__(
        self,
        out: Path,
        preset: Preset,
        config: EvaluationConfig,
        seed: int,
        job_settings: Settings,
        limit: int | None = None,
    ) -> None:
        self.out = out
        self.preset = preset
        self.config = config
        self.seed = seed
        self.job_settings = dict(job_settings)
        self.limit = limit
        self.notes: dict[str, None] = {}  # in order, each once
        self.has_failures = False

    def pairs(self, dataset: str, videos: Path, file_list: Path | None = None) -> list[Pair]:
        """The data set's pair list, drawn on first use.

        Raises:
            UserError: too few videos, or a damaged list.
        """
        folder = self.out / dataset.lower()
        seed = self.seed + DATASETS.index(dataset)  # so that one folder given for both is not drawn alike
        if file_list is not None:
            return read_pairs(file_list, videos)[: self.limit]
        if dataset == "LRS2":
            count, seconds, group = self.preset.lrs2_pairs, self.preset.lrs2_seconds, _lrs2_group(videos)
        else:
            count, seconds, group = self.preset.hdtf_pairs, self.preset.hdtf_seconds, "file"
        return read_pairs(make_pair_list(videos, folder, count, seconds, seed, group))[: self.limit]

    def run(self, dataset: str, pairs: Sequence[Pair], job: Job) -> dict[str, float] | None:
        """Averages of a row on a data set; None, with a note, where its weights are missing.

        Raises:
            UserError: it cannot be run for another reason.
        """
        plan = Plan(
            method=job.method,
            name=job.row,
            settings={**job.settings, **self.job_settings},
            config=self._config(dataset),
            folder=self.out / dataset.lower() / job.folder,
            cache=self.out / "cache",
        )
        try:
            evaluation = run_locally(plan, pairs)
        except MissingWeightsError as error:
            self.note(f"{job.row}: not available ({error})")
            return None
        summary = evaluation.summarize(pairs)
        for name, remark in summary["notes"].items():
            if name in ("fid", "lse"):
                self.note(f"{name.upper()}: {remark}")
        if summary["failed"]:
            self.has_failures = True
            self.note(
                f"{job.row} on {dataset}: {len(summary['failed'])} of {len(pairs)} pairs failed, see "
                f"{plan.folder / 'scores' / summary['failed'][0]}.json"
            )
        values: dict[str, float] = summary["values"]
        return values

    def _config(self, dataset: str) -> EvaluationConfig:
        """LRS2 clips are faces already and are scored whole by SyncNet, as the published script does."""
        tracking = replace(self.config.sync.tracking, min_detections=self.preset.min_detections)
        sync = replace(self.config.sync, tracking=tracking)
        if dataset == "LRS2" and self.preset.lrs2_seconds is None:
            sync = replace(sync, view="frame")
        return replace(self.config, sync=sync)

    def length(self, dataset: str) -> str:
        """Length of a data set's clips, for the note below a table."""
        seconds = self.preset.lrs2_seconds if dataset == "LRS2" else self.preset.hdtf_seconds
        return f" of {seconds:g} s" if seconds is not None else ""

    def note(self, text: str) -> None:
        """Add a remark below the table."""
        self.notes[text] = None
        logger.info("%s", text)


def _lrs2_group(videos: Path) -> str:
    """LRS2 keeps each programme in its own folder; a flat folder tells videos apart by file."""
    return "folder" if any(path.is_dir() and any(path.glob("*.mp4")) for path in videos.iterdir()) else "file"


def table1(reproduction: Reproduction, lists: Mapping[str, list[Pair]], folders: Mapping[str, Path]) -> Table:
    """Methods on both data sets.

    Args:
        reproduction: runs the jobs.
        lists: data set -> pairs.
        folders: ``METHOD:DATASET`` -> results made elsewhere.
    """
    headings = ["Method"]
    for dataset in lists:
        for name in QUALITY:
            headings += [f"{dataset} {heading(name)}", "paper"]
    rows = []
    for method, paper in TABLE_1.items():
        row = [method]
        for dataset, pairs in lists.items():
            values = _table1_cell(reproduction, dataset, pairs, method, folders)
            row += _beside(QUALITY, values, paper.get(dataset))
        rows.append(row)
    return Table("Table 1: comparison with other methods", headings, rows, _notes(reproduction, lists))


def _table1_cell(
    reproduction: Reproduction, dataset: str, pairs: list[Pair], method: str, folders: Mapping[str, Path]
) -> dict[str, float] | None:
    folder = folders.get(f"{method}:{dataset}")
    if folder is not None:
        job = Job(method, str(folder), {}, f"folder-{method.lower().replace(' ', '-').replace('/', '')}")
    elif method in TABLE_1_METHODS:
        choice = TABLE_1_METHODS[method]
        job = Job(method, choice, {}, choice)
    else:
        reproduction.note(
            f"{method}: not available (give its results with --results '{method}:DATASET=FOLDER')"
        )
        return None
    return reproduction.run(dataset, pairs, job)


def table3(reproduction: Reproduction, pairs: list[Pair], lnet_without_attention: str | None) -> Table:
    """Ablation of the networks on HDTF.

    Args:
        reproduction: runs the jobs.
        pairs: pairs of HDTF.
        lnet_without_attention: checkpoint of an L-Net trained without cross-attention; None looks for
            ``lnet_no_attention.safetensors`` beside the other weights.
    """
    jobs = {
        "L-Net": Job("L-Net", "ours", LNET_ONLY, "l"),
        "L-Net + E-Net": Job("L-Net + E-Net", "ours", WITHOUT_DNET, "l-e"),
        "L-Net + E-Net + D-Net": Job("L-Net + E-Net + D-Net", "ours", OURS, "ours"),
    }
    try:
        path = _without_attention(lnet_without_attention, reproduction.job_settings)
        settings = {**LNET_ONLY, "weights.lnet": str(path)}
        jobs[WITHOUT_ATTENTION] = Job(WITHOUT_ATTENTION, "ours", settings, "l-without-attention")
    except MissingWeightsError as error:
        reproduction.note(f"{WITHOUT_ATTENTION}: not available ({error})")
    rows = []
    for name, paper in TABLE_3.items():
        values = reproduction.run("HDTF", pairs, jobs[name]) if name in jobs else None
        rows.append([name, *_beside(QUALITY, values, paper)])
    title = "Table 3: ablation on HDTF"
    return Table(title, _headings("Networks", QUALITY), rows, _notes(reproduction, {"HDTF": pairs}))


def _without_attention(given: str | None, settings: Settings) -> Path:
    path = Path(given) if given is not None else baseline_weights("lnet_no_attention", settings)
    metadata = read_metadata(path)
    if metadata["network"] != "lnet" or metadata["config"].get("attention_layers") != 0:
        raise UserError(f"{path} is no L-Net without cross-attention (model.attention_layers=0)")
    return path


def table4(reproduction: Reproduction, pairs: list[Pair]) -> Table:
    """Expression templates between neutral and smile on a few videos of HDTF."""
    pairs = pairs[: reproduction.preset.table4_pairs]
    rows = []
    for ratio, paper in TABLE_4.items():
        settings = {**OURS, "render.expression": "smile", "render.expression_blend": ratio}
        job = Job(f"ratio {ratio:g}", "ours", settings, f"expression-{ratio:g}")
        values = reproduction.run("HDTF", pairs, job)
        rows.append([f"{ratio:g}", *_beside(SYNC, values, paper)])
    title = "Table 4: expression template, from neutral (0) to smile (1)"
    return Table(title, _headings("Ratio", SYNC), rows, _notes(reproduction, {"HDTF": pairs}))


def _headings(first: str, names: Sequence[str]) -> list[str]:
    return [first, *(text for name in names for text in (heading(name), "paper"))]


def _beside(names: Sequence[str], values: Mapping[str, float] | None, paper: Figures | None) -> Iterator[str]:
    for name in names:
        yield UNAVAILABLE if values is None else figure(name, values)
        yield figure(name, paper)


def _notes(reproduction: Reproduction, lists: Mapping[str, list[Pair]]) -> list[str]:
    sizes = ", ".join(
        f"{len(pairs)} pairs of {dataset}{reproduction.length(dataset)}" for dataset, pairs in lists.items()
    )
    return [f"{sizes}; seed {reproduction.seed}", *reproduction.notes]


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
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, help="what is measured (YAML)")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides of --config")
    parser.add_argument("--job", nargs="+", default=[], metavar="KEY=VALUE", help="settings of the main job")
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

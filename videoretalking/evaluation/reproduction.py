"""The paper's tables: what runs for each row, and our figures beside the paper's."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.corpora import find_lrs2_list
from videoretalking.core.errors import UserError
from videoretalking.core.files import check_folder
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.draw import make_pair_list
from videoretalking.evaluation.lrs2 import lrs2_test_clips, lrs2_videos
from videoretalking.evaluation.methods import (
    LNET_ONLY,
    METHODS,
    OURS,
    WITHOUT_DNET,
    MissingWeightsError,
    Settings,
    baseline_weights,
)
from videoretalking.evaluation.pairs import Pair, read_pairs
from videoretalking.evaluation.paper import TABLE_1, TABLE_3, TABLE_4, Figures
from videoretalking.evaluation.plan import Plan, run_locally
from videoretalking.evaluation.provenance import describe_runtime
from videoretalking.evaluation.tables import UNAVAILABLE, Table, figure, heading

logger = logging.getLogger(__name__)

QUALITY = ("fid", "cpbd", "lse_d", "lse_c")
SYNC = ("lse_d", "lse_c")
DATASETS = ("LRS2", "HDTF")
TABLE_4_PAIRS = 10
WITHOUT_ATTENTION = "L-Net w/o cross-attention"
TABLE_1_METHODS = {method.title: name for name, method in METHODS.items() if method.title in TABLE_1}


@dataclass(frozen=True)
class Preset:
    """Size of a reproduction.

    Attributes:
        lrs2_pairs: pairs drawn from the test clips of LRS2 where no pair list is given.
        lrs2_seconds: length of its clips; None for whole videos, which have to be those of LRS2's test list.
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
class TableRow:
    """What runs for one row of a table.

    Attributes:
        name: as the table shows it.
        method: see :func:`evaluation.methods.make_method`.
        settings: of the main job.
        folder: name of the output folder; rows that are the same share it.
    """

    name: str
    method: str
    settings: Settings
    folder: str


class Reproduction:
    """Runs rows and remembers what could not be run.

    Args:
        out: results of all tables.
        preset: size.
        config: what is measured.
        seed: of the pair lists.
        job_settings: settings of the main job for every method.
        limit: at most so many pairs of each list.

    Raises:
        UserError: ``out`` is a file.
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
        check_folder(out, "the output folder")
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
            UserError: no such folder, too few videos, a damaged list, or all of LRS2 without its test list.
        """
        if not videos.is_dir():
            raise UserError(f"the folder of {dataset}'s videos {videos} does not exist")
        folder = self.out / dataset.lower()
        seed = self.seed + DATASETS.index(dataset)  # so that one folder given for both is not drawn alike
        if file_list is not None:
            root = lrs2_videos(videos) if dataset == "LRS2" else videos
            return read_pairs(file_list, root)[: self.limit]
        only: list[Path] | None = None
        if dataset == "LRS2":
            count, seconds = self.preset.lrs2_pairs, self.preset.lrs2_seconds
            if seconds is None or find_lrs2_list(videos, "test") is not None:
                only, videos = lrs2_test_clips(videos), lrs2_videos(videos)
            group = _lrs2_group(videos)
        else:
            count, seconds, group = self.preset.hdtf_pairs, self.preset.hdtf_seconds, "file"
        return read_pairs(make_pair_list(videos, folder, count, seconds, seed, group, only))[: self.limit]

    def run(self, dataset: str, pairs: Sequence[Pair], row: TableRow) -> dict[str, float] | None:
        """Averages of a row on a data set; None, with a note, where its weights are missing.

        Raises:
            UserError: it cannot be run for another reason.
        """
        plan = Plan(
            method=row.method,
            name=row.name,
            settings={**row.settings, **self.job_settings},
            config=self._config(dataset),
            folder=self.out / dataset.lower() / row.folder,
            cache=self.out / "cache",
        )
        try:
            evaluation = run_locally(plan, pairs)
        except MissingWeightsError as error:
            self.note(f"{row.name}: not available ({error})")
            return None
        summary = evaluation.summarize(pairs)
        for name, remark in summary["notes"].items():
            if name in ("fid", "lse"):
                self.note(f"{name.upper()}: {remark}")
        for runtime in summary["runtimes"]:
            self.note(describe_runtime(runtime))
        if summary["failed"]:
            self.has_failures = True
            self.note(
                f"{row.name} on {dataset}: {len(summary['failed'])} of {len(pairs)} pairs failed, see "
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
    """LRS2 keeps each broadcast in its own folder; a flat folder tells videos apart by file."""
    return "folder" if any(path.is_dir() and any(path.glob("*.mp4")) for path in videos.iterdir()) else "file"


def table1(reproduction: Reproduction, lists: Mapping[str, list[Pair]], folders: Mapping[str, Path]) -> Table:
    """Methods on both data sets.

    Args:
        reproduction: runs the rows.
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
        row = TableRow(method, str(folder), {}, f"folder-{method.lower().replace(' ', '-').replace('/', '')}")
    elif method in TABLE_1_METHODS:
        choice = TABLE_1_METHODS[method]
        row = TableRow(method, choice, {}, choice)
    else:
        reproduction.note(
            f"{method}: not available (give its results with --results '{method}:DATASET=FOLDER')"
        )
        return None
    return reproduction.run(dataset, pairs, row)


def table3(reproduction: Reproduction, pairs: list[Pair], lnet_without_attention: str | None) -> Table:
    """Ablation of the networks on HDTF.

    Args:
        reproduction: runs the rows.
        pairs: pairs of HDTF.
        lnet_without_attention: checkpoint of an L-Net trained without cross-attention; None looks for
            ``lnet_no_attention.safetensors`` beside the other weights.
    """
    by_name = {
        "L-Net": TableRow("L-Net", "ours", LNET_ONLY, "l"),
        "L-Net + E-Net": TableRow("L-Net + E-Net", "ours", WITHOUT_DNET, "l-e"),
        "L-Net + E-Net + D-Net": TableRow("L-Net + E-Net + D-Net", "ours", OURS, "ours"),
    }
    try:
        path = _without_attention(lnet_without_attention, reproduction.job_settings)
        settings = {**LNET_ONLY, "weights.lnet": str(path)}
        by_name[WITHOUT_ATTENTION] = TableRow(WITHOUT_ATTENTION, "ours", settings, "l-without-attention")
    except MissingWeightsError as error:
        reproduction.note(f"{WITHOUT_ATTENTION}: not available ({error})")
    rows = []
    for name, paper in TABLE_3.items():
        values = reproduction.run("HDTF", pairs, by_name[name]) if name in by_name else None
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
        row = TableRow(f"ratio {ratio:g}", "ours", settings, f"expression-{ratio:g}")
        values = reproduction.run("HDTF", pairs, row)
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

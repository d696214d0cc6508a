"""The paper's tables: what runs for each row, how long it takes, and our figures beside the paper's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.corpora import find_lrs2_list
from videoretalking.core.errors import UserError
from videoretalking.core.files import check_folder
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.draw import make_pair_list
from videoretalking.evaluation.estimate import REHEARSED, Work, count_frames, seconds_per_frame, total_hours
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
from videoretalking.evaluation.run import Evaluation
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
        method: see :func:`evaluation.methods.make_method`.
        settings: of the main job.
        folder: name of the output folder; rows that are the same share it.
    """

    method: str
    settings: Settings
    folder: str


@dataclass(frozen=True)
class Job:
    """One row of a table on one data set.

    Attributes:
        name: of the row, as the table shows it.
        dataset: ``LRS2`` or ``HDTF``.
        pairs: what is dubbed and scored.
        row: what runs; None where it is known that nothing can.
        paper: the paper's figures; None where it has none.
    """

    name: str
    dataset: str
    pairs: Sequence[Pair]
    row: TableRow | None
    paper: Figures | None


@dataclass(frozen=True)
class TablePlan:
    """All that a table needs.

    Attributes:
        title: caption.
        first: heading of the first column.
        quantities: what is shown of every job.
        jobs: rows from top to bottom; jobs of one name stand in one row.
        several: whether it can show several data sets, so that headings name theirs.
        ratios: name of a row -> place on the axis, for a table that is a curve; empty for others.
    """

    title: str
    first: str
    quantities: Sequence[str]
    jobs: Sequence[Job]
    several: bool = False
    ratios: Mapping[str, float] = field(default_factory=dict)

    @property
    def datasets(self) -> list[str]:
        """In the order of the columns."""
        return list(dict.fromkeys(job.dataset for job in self.jobs))


@dataclass(frozen=True)
class Outcome:
    """What came out of a job.

    Attributes:
        job: what was to be done.
        summary: see :meth:`evaluation.run.Evaluation.summarize`.
        videos: name of a pair -> values.
        settings: all that shapes the figures: settings, number format and hashes of weights.
    """

    job: Job
    summary: Mapping[str, Any]
    videos: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, Any]


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

    def estimate(self, plan: TablePlan) -> tuple[list[Work], str]:
        """Do the first pairs of every row and tell from them how long the rest takes here.

        Returns:
            The work that is left, and where it runs.

        Raises:
            UserError: a row cannot be run for another reason than missing weights.
        """
        work, device = [], ""
        for job in plan.jobs:
            if job.row is None:
                continue
            try:
                evaluation = run_locally(self._plan(job), job.pairs[:REHEARSED])
            except MissingWeightsError:
                continue  # said when its turn comes
            rate = seconds_per_frame(evaluation.timings(job.pairs))
            left = [pair for pair in job.pairs if not evaluation.is_finished(pair)]
            work.append(Work(job.name, job.dataset, len(left), count_frames(left), rate))
            device = describe_runtime(evaluation.runtime) or device
        return work, device

    def run(self, plan: TablePlan, work: Sequence[Work] = ()) -> list[Outcome]:
        """All jobs of a table; one whose weights are missing leaves a note instead of an outcome.

        Args:
            plan: the table.
            work: estimate of the jobs, to say after each how long the rest takes.

        Raises:
            UserError: a job cannot be run for another reason.
        """
        outcomes = []
        left = {(item.row, item.dataset): item for item in work}
        for number, job in enumerate(plan.jobs, start=1):
            outcome = self._run_job(job)
            if outcome is not None:
                outcomes.append(outcome)
            left.pop((job.name, job.dataset), None)
            hours = total_hours(list(left.values()))
            remaining = f", about {hours:.1f} hours to go" if hours else ""
            logger.info("%s on %s: %d of %d%s", job.name, job.dataset, number, len(plan.jobs), remaining)
        return outcomes

    def _run_job(self, job: Job) -> Outcome | None:
        if job.row is None:
            return None
        try:
            evaluation = run_locally(self._plan(job), job.pairs)
        except MissingWeightsError as error:
            self.note(f"{job.name}: not available ({error})")
            return None
        summary = evaluation.summarize(job.pairs)
        self._note_remarks(job, summary, evaluation)
        return Outcome(job, summary, evaluation.videos(job.pairs), evaluation.settings)

    def _plan(self, job: Job) -> Plan:
        assert job.row is not None
        return Plan(
            method=job.row.method,
            name=job.name,
            settings={**job.row.settings, **self.job_settings},
            config=self._config(job.dataset),
            folder=self.out / job.dataset.lower() / job.row.folder,
            cache=self.out / "cache",
        )

    def _note_remarks(self, job: Job, summary: Mapping[str, Any], evaluation: Evaluation) -> None:
        for name, remark in summary["notes"].items():
            if name in ("fid", "lse"):
                self.note(f"{name.upper()}: {remark}")
        for runtime in summary["runtimes"]:
            self.note(describe_runtime(runtime))
        if summary["failed"]:
            self.has_failures = True
            self.note(
                f"{job.name} on {job.dataset}: {len(summary['failed'])} of {len(job.pairs)} pairs failed, see "
                f"{evaluation.folder / 'scores' / summary['failed'][0]}.json"
            )

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


def plan_table1(
    reproduction: Reproduction, lists: Mapping[str, list[Pair]], folders: Mapping[str, Path]
) -> TablePlan:
    """Methods on both data sets.

    Args:
        reproduction: takes the notes on rows that cannot be run.
        lists: data set -> pairs.
        folders: ``METHOD:DATASET`` -> results made elsewhere.

    Raises:
        UserError: one of these folders does not exist.
    """
    jobs = [
        Job(method, dataset, pairs, _table1_row(reproduction, dataset, method, folders), paper.get(dataset))
        for method, paper in TABLE_1.items()
        for dataset, pairs in lists.items()
    ]
    return TablePlan("Table 1: comparison with other methods", "Method", QUALITY, jobs, several=True)


def _table1_row(
    reproduction: Reproduction, dataset: str, method: str, folders: Mapping[str, Path]
) -> TableRow | None:
    folder = folders.get(f"{method}:{dataset}")
    if folder is not None:
        if not folder.is_dir():
            raise UserError(f"--results {method}:{dataset}={folder}: there is no such folder")
        return TableRow(str(folder), {}, f"folder-{method.lower().replace(' ', '-').replace('/', '')}")
    if method in TABLE_1_METHODS:
        choice = TABLE_1_METHODS[method]
        return TableRow(choice, {}, choice)
    reproduction.note(f"{method}: not available (give its results with --results '{method}:DATASET=FOLDER')")
    return None


def plan_table3(
    reproduction: Reproduction, pairs: list[Pair], lnet_without_attention: str | None
) -> TablePlan:
    """Ablation of the networks on HDTF.

    Args:
        reproduction: takes the notes on rows that cannot be run.
        pairs: pairs of HDTF.
        lnet_without_attention: checkpoint of an L-Net trained without cross-attention; None looks for
            ``lnet_no_attention.safetensors`` beside the other weights.
    """
    by_name = {
        "L-Net": TableRow("ours", LNET_ONLY, "l"),
        "L-Net + E-Net": TableRow("ours", WITHOUT_DNET, "l-e"),
        "L-Net + E-Net + D-Net": TableRow("ours", OURS, "ours"),
    }
    try:
        path = _without_attention(lnet_without_attention, reproduction.job_settings)
        settings = {**LNET_ONLY, "weights.lnet": str(path)}
        by_name[WITHOUT_ATTENTION] = TableRow("ours", settings, "l-without-attention")
    except MissingWeightsError as error:
        reproduction.note(f"{WITHOUT_ATTENTION}: not available ({error})")
    jobs = [Job(name, "HDTF", pairs, by_name.get(name), paper) for name, paper in TABLE_3.items()]
    return TablePlan("Table 3: ablation on HDTF", "Networks", QUALITY, jobs)


def _without_attention(given: str | None, settings: Settings) -> Path:
    path = Path(given) if given is not None else baseline_weights("lnet_no_attention", settings)
    metadata = read_metadata(path)
    if metadata["network"] != "lnet" or metadata["config"].get("attention_layers") != 0:
        raise UserError(f"{path} is no L-Net without cross-attention (model.attention_layers=0)")
    return path


def plan_table4(reproduction: Reproduction, pairs: list[Pair]) -> TablePlan:
    """Expression templates between neutral and smile on a few videos of HDTF."""
    pairs = pairs[: reproduction.preset.table4_pairs]
    jobs, ratios = [], {}
    for ratio, paper in TABLE_4.items():
        settings = {**OURS, "render.expression": "smile", "render.expression_blend": ratio}
        ratios[f"{ratio:g}"] = ratio
        jobs.append(
            Job(f"{ratio:g}", "HDTF", pairs, TableRow("ours", settings, f"expression-{ratio:g}"), paper)
        )
    title = "Table 4: expression template, from neutral (0) to smile (1)"
    return TablePlan(title, "Ratio", SYNC, jobs, ratios=ratios)


def make_table(reproduction: Reproduction, plan: TablePlan, outcomes: Sequence[Outcome]) -> Table:
    """Our figures with their intervals beside the paper's."""
    headings = [plan.first]
    for dataset in plan.datasets:
        prefix = f"{dataset} " if plan.several else ""
        for name in plan.quantities:
            headings += [f"{prefix}{heading(name)}", "paper"]
    summaries = {(outcome.job.name, outcome.job.dataset): outcome.summary for outcome in outcomes}
    rows: dict[str, list[str]] = {}
    for job in plan.jobs:
        cells = rows.setdefault(job.name, [job.name])
        summary = summaries.get((job.name, job.dataset))
        for name in plan.quantities:
            ours = UNAVAILABLE if summary is None else figure(name, summary["values"], summary["intervals"])
            cells += [ours, figure(name, job.paper)]
    return Table(plan.title, headings, list(rows.values()), _notes(reproduction, plan, outcomes))


def _notes(reproduction: Reproduction, plan: TablePlan, outcomes: Sequence[Outcome]) -> list[str]:
    counts = {job.dataset: len(job.pairs) for job in plan.jobs}
    sizes = ", ".join(
        f"{count} pairs of {dataset}{reproduction.length(dataset)}" for dataset, count in counts.items()
    )
    methods = dict.fromkeys(
        outcome.summary["interval_method"] for outcome in outcomes if outcome.summary["intervals"]
    )
    return [f"{sizes}; seed {reproduction.seed}", *methods, *reproduction.notes]

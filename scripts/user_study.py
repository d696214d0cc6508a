"""The user study of table 2: build the rating page, and average what comes back.

``python -m scripts.user_study make --results Ours=DIR --results Wav2Lip=DIR --out study`` writes
``study/study.html``, which needs no server, and ``study/key.json``, which stays with the organizer.
``python -m scripts.user_study score --key study/key.json ratings/*.csv`` prints the table.
"""

from __future__ import annotations

import argparse
import base64
import csv
import json
import logging
import random
import shutil
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.paper import COLUMNS, TABLE_2
from videoretalking.evaluation.plots import Panel, Sample, draw_distributions, panel_title
from videoretalking.evaluation.provenance import fingerprint, read_json, write_json
from videoretalking.evaluation.tables import ABSENT, Table, figure, heading

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("user_study_page.html")
QUESTIONS = ("visual", "lip_sync")
SUFFIXES = {".mp4": "video/mp4", ".webm": "video/webm"}
LARGE_PAGE = 200 * 2**20  # bytes; browsers become slow beyond
CONFIDENCE = 0.95
NUM_WORST = 3  # videos of each method that are named as lowest rated


@dataclass(frozen=True)
class Rating:
    """One opinion.

    Attributes:
        participant: who gave it.
        item: what was shown.
        scores: question -> 1..5.
    """

    participant: str
    item: str
    scores: Mapping[str, int]


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: mean of the participants' means.
        half_width: half of the 95 % interval; None for fewer than two participants.
    """

    mean: float
    half_width: float | None


def choose_videos(folders: Mapping[str, Path], num_videos: int, seed: int) -> list[str]:
    """Names of videos that every method has, drawn from a seed.

    Raises:
        UserError: fewer are common to all methods.
    """
    names = [
        {path.name for path in folder.iterdir() if path.suffix in SUFFIXES} for folder in folders.values()
    ]
    common = sorted(set.intersection(*names))
    if len(common) < num_videos:
        raise UserError(
            f"{num_videos} videos wanted, but only {len(common)} exist under one name in all folders"
        )
    return random.Random(seed).sample(common, num_videos)


def make_study(
    folders: Mapping[str, Path], out: Path, num_videos: int = 10, seed: int = 0, external: bool = False
) -> Path:
    """Write the page and its key.

    Args:
        folders: method -> folder of its results; a video has the same name in all of them.
        out: folder for ``study.html`` and ``key.json``.
        num_videos: videos of each method.
        seed: of the choice of videos and of the items' names.
        external: put copies of the videos beside the page instead of into it.

    Returns:
        Path of the page.

    Raises:
        UserError: a folder does not exist, or too few videos are common to all.
    """
    for folder in folders.values():
        if not folder.is_dir():
            raise UserError(f"the folder of results {folder} does not exist")
    generator = random.Random(seed)
    key: dict[str, dict[str, str]] = {}
    items: list[dict[str, str]] = []
    for name in choose_videos(folders, num_videos, seed):
        for method, folder in folders.items():
            item = f"{generator.getrandbits(48):012x}"
            key[item] = {"method": method, "video": name}
            items.append({"id": item, "source": _source(folder / name, item, out, external)})
    items.sort(key=lambda entry: entry["id"])  # the order in the file must not give the methods away
    study = {"id": fingerprint(key), "items": items}
    page = TEMPLATE.read_text(encoding="utf-8").replace("STUDY_JSON", json.dumps(study))
    path = out / "study.html"
    with atomic_path(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    write_json(out / "key.json", {"study": study["id"], "items": key})
    if len(page) > LARGE_PAGE:
        logger.warning("%s has %d MiB: consider --external or shorter videos", path, len(page) >> 20)
    return path


def _source(video: Path, item: str, out: Path, external: bool) -> str:
    if external:
        copy = Path("videos") / f"{item}{video.suffix}"
        with atomic_path(out / copy) as temporary:
            shutil.copyfile(video, temporary)
        return copy.as_posix()
    return f"data:{SUFFIXES[video.suffix]};base64,{base64.b64encode(video.read_bytes()).decode('ascii')}"


def read_ratings(paths: Iterable[Path], key: Mapping[str, object]) -> list[Rating]:
    """Read the files that participants sent back.

    Args:
        paths: CSV files of the page.
        key: content of ``key.json``.

    Raises:
        UserError: unreadable file, another study, unknown item, a score outside 1..5, or a rating given twice.
    """
    ratings: dict[tuple[str, str], Rating] = {}
    for path in paths:
        try:
            rows = list(csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines()))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read {path}: {error}") from None
        if not rows:
            raise UserError(f"{path} holds no ratings")
        for number, row in enumerate(rows, start=2):
            rating = _parse_rating(row, key, f"{path}, line {number}")
            if (rating.participant, rating.item) in ratings:
                raise UserError(f"{path}, line {number}: this participant has rated this video already")
            ratings[rating.participant, rating.item] = rating
    return list(ratings.values())


def _parse_rating(row: Mapping[str, str], key: Mapping[str, object], where: str) -> Rating:
    if row.get("study") != key["study"]:
        raise UserError(f"{where}: belongs to study {row.get('study')!r}, the key to {key['study']!r}")
    items = key["items"]
    assert isinstance(items, Mapping)
    if row.get("item") not in items:
        raise UserError(f"{where}: unknown video {row.get('item')!r}")
    scores = {}
    for question in QUESTIONS:
        if row.get(question) not in ("1", "2", "3", "4", "5"):
            raise UserError(f"{where}: {question} must be 1 to 5, found {row.get(question)!r}")
        scores[question] = int(row[question])
    return Rating(row["participant"], row["item"], scores)


def score_study(ratings: Sequence[Rating], key: Mapping[str, object]) -> dict[str, dict[str, Interval]]:
    """Mean opinion of each method with its 95 % confidence interval.

    Opinions of one person depend on each other, so each participant counts as one observation: the mean of their
    scores for a method. The interval is Student's over participants.

    Args:
        ratings: all opinions.
        key: content of ``key.json``.

    Returns:
        Method -> question -> interval.
    """
    return {
        method: {question: confidence_interval(values) for question, values in questions.items()}
        for method, questions in participant_means(ratings, key).items()
    }


def participant_means(
    ratings: Sequence[Rating], key: Mapping[str, object]
) -> dict[str, dict[str, list[float]]]:
    """Method -> question -> mean score of each participant."""
    items = key["items"]
    assert isinstance(items, Mapping)
    scores: dict[str, dict[str, dict[str, list[int]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for rating in ratings:
        method = items[rating.item]["method"]
        for question, score in rating.scores.items():
            scores[method][question][rating.participant].append(score)
    return {
        method: {
            question: [float(np.mean(values)) for values in people.values()]
            for question, people in questions.items()
        }
        for method, questions in scores.items()
    }


def lowest_rated(ratings: Sequence[Rating], key: Mapping[str, object]) -> list[str]:
    """For each method a line that names the videos with the lowest mean of all scores, the lowest first."""
    items = key["items"]
    assert isinstance(items, Mapping)
    scores: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for rating in ratings:
        entry = items[rating.item]
        scores[entry["method"]][entry["video"]] += rating.scores.values()
    lines = []
    for method, videos in scores.items():
        means = {video: float(np.mean(values)) for video, values in videos.items()}
        worst = sorted(means, key=lambda video: (means[video], video))[:NUM_WORST]
        lines.append(
            f"{method}, lowest rated: {', '.join(f'{video} ({means[video]:.2f})' for video in worst)}"
        )
    return lines


def draw_study(path: Path, means: Mapping[str, Mapping[str, Sequence[float]]]) -> None:
    """Distribution of the participants' means by method, as PNG."""
    panels = []
    for question in QUESTIONS:
        samples = []
        for method, questions in means.items():
            interval = confidence_interval(questions[question])
            half = interval.half_width
            ends = None if half is None else (interval.mean - half, interval.mean + half)
            paper = TABLE_2.get(method, {}).get(question)
            samples.append(Sample(method, questions[question], interval.mean, ends, paper))
        panels.append(Panel(panel_title(COLUMNS[question][0], higher=True), samples))
    draw_distributions(path, "User study: mean opinion of each participant", panels, "every participant")


def confidence_interval(values: Sequence[float]) -> Interval:
    """Mean of independent observations and half of Student's 95 % interval."""
    if len(values) < 2:
        return Interval(float(np.mean(values)), None)
    from scipy.stats import t

    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Interval(float(np.mean(values)), float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error)


def study_table(
    scores: Mapping[str, Mapping[str, Interval]], num_ratings: int, num_people: int, notes: Sequence[str] = ()
) -> Table:
    """Table 2 with the paper's figures beside ours."""
    methods = [*scores, *(method for method in TABLE_2 if method not in scores)]
    headings = ["Method"]
    for question in QUESTIONS:
        headings += [heading(question), f"{COLUMNS[question][0]} (paper)"]
    rows = []
    for method in methods:
        row = [method]
        for question in QUESTIONS:
            row += [_cell(scores.get(method, {}).get(question)), figure(question, TABLE_2.get(method))]
        rows.append(row)
    note = f"{num_ratings} opinions of {num_people} people; ± is half of the 95 % confidence interval over people"
    return Table("User study", headings, rows, [note, *notes])


def _cell(interval: Interval | None) -> str:
    if interval is None:
        return ABSENT
    if interval.half_width is None:
        return f"{interval.mean:.3f}"
    return f"{interval.mean:.3f} ± {interval.half_width:.3f}"


def _named_folder(text: str) -> tuple[str, Path]:
    name, separator, folder = text.partition("=")
    if not separator or not name or not folder:
        raise argparse.ArgumentTypeError(f"expected METHOD=FOLDER, got {text!r}")
    return name, Path(folder)


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of both steps."""
    parser = CommandParser(description=__doc__.splitlines()[0])
    steps = parser.add_subparsers(dest="step", required=True)
    make = steps.add_parser("make", help="build the page and its key")
    make.add_argument(
        "--results", action="append", type=_named_folder, required=True, metavar="METHOD=FOLDER"
    )
    make.add_argument("--out", type=Path, required=True, help="folder for study.html and key.json")
    make.add_argument("--num-videos", type=int, default=10, help="videos of each method (default: 10)")
    make.add_argument("--seed", type=int, default=0)
    make.add_argument("--external", action="store_true", help="keep the videos beside the page")
    score = steps.add_parser("score", help="average the files that came back")
    score.add_argument("ratings", nargs="+", type=Path, metavar="CSV")
    score.add_argument("--key", type=Path, required=True)
    score.add_argument("--format", choices=("markdown", "latex"), default="markdown")
    score.add_argument("--plot", type=Path, metavar="PNG", help="draw the distribution of the opinions")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    options = parse_arguments(arguments)
    if options.step == "make":
        if len({name for name, _ in options.results}) < len(options.results):
            raise UserError("every method needs its own name")
        path = make_study(
            dict(options.results), options.out, options.num_videos, options.seed, options.external
        )
        logger.info("wrote %s; keep %s to yourself", path, path.with_name("key.json"))
        return
    key = read_json(options.key)
    ratings = read_ratings(options.ratings, key)
    people = {rating.participant for rating in ratings}
    notes = lowest_rated(ratings, key)
    table = study_table(score_study(ratings, key), len(ratings), len(people), notes)
    if options.plot is not None:
        draw_study(options.plot, participant_means(ratings, key))
    print(table.latex() if options.format == "latex" else table.markdown())


if __name__ == "__main__":
    run_command(main)

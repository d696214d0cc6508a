"""The evaluation loop: dub, score and store one pair at a time, so that it can stop and go on anywhere.

Everything a finished pair leaves behind is under its own name in the output folder; a pair is finished when its
score file is there, was made with the same settings and belongs to the same result. The table is made from these
files alone, in the order of the pair list, so it does not depend on shards, machines or interruptions.
"""

from __future__ import annotations

import csv
import hashlib
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation.intervals import (
    FidGroups,
    Interval,
    IntervalConfig,
    features_statistics,
    mean_intervals,
)
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.provenance import (
    describe_code,
    describe_environment,
    fingerprint,
    read_json,
    write_json,
)
from videoretalking.evaluation.tables import summarize, worst_videos
from videoretalking.evaluation.video import VideoScorer, video_features
from videoretalking.metrics.fid import FeatureStatistics, FidFeatures, frechet_distance

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a method gives for a pair.

    Attributes:
        video: the generated video.
        speech: file whose sound the video is scored against.
    """

    video: Path
    speech: Path


class Method(Protocol):
    """A way to dub videos.

    Attributes:
        name: as shown in tables.
    """

    name: str

    def describe(self) -> dict[str, Any]:
        """Settings and hashes of weights: all that shapes the results."""

    def runtime(self) -> dict[str, str]:
        """``device`` and ``dtype`` of its networks as they run here; empty where none runs."""

    def result(self, pair: Pair, folder: Path) -> Result:
        """Where the result for a pair is or will be.

        Args:
            pair: what is dubbed.
            folder: for videos that the method makes itself.

        Raises:
            UserError: the method cannot make it and it does not exist.
        """

    def dub(self, pair: Pair, video: Path) -> None:
        """Make the result at the path that :meth:`result` gave.

        Raises:
            UserError: it cannot be made.
        """


@dataclass(frozen=True)
class Measures:
    """What is measured, and how.

    Attributes:
        scorer: metrics of single videos.
        fid: feature extractor of FID, which must also be among the scorer's metrics; None leaves FID out.
        settings: configuration and hashes of weights behind the numbers.
        notes: name of a quantity -> remark for its readers, such as a stand-in network.
        device: where it is computed, always in float32.
    """

    scorer: VideoScorer
    fid: FidFeatures | None
    settings: Mapping[str, Any]
    notes: Mapping[str, str]
    device: str


class Evaluation:
    """One method over one pair list.

    Args:
        folder: output; holds ``manifest.json``, ``videos``, ``scores``, ``features``, ``scores.csv`` and
            ``summary.json``.
        method: what makes the videos.
        measures: what is measured.
        reference_folder: where features of real videos are kept, shared by methods; they are found by content.
        seed: of random numbers drawn while dubbing; each pair has its own stream.
        retry_failed: try pairs again that failed before.
        intervals: how the confidence intervals are drawn.

    Raises:
        UserError: the folder holds results of other settings.
    """

    def __init__(
        self,
        folder: Path,
        method: Method,
        measures: Measures,
        reference_folder: Path | None = None,
        seed: int = 0,
        retry_failed: bool = False,
        intervals: IntervalConfig | None = None,
    ) -> None:
        self.folder = folder
        self.method = method
        self.measures = measures
        self.reference_folder = reference_folder or folder / "reference"
        self.seed = seed
        self.retry_failed = retry_failed
        self.intervals = intervals or IntervalConfig()
        settings = {"method": method.describe(), "measures": dict(measures.settings), "seed": seed}
        self.settings: Mapping[str, Any] = settings
        self.fingerprint = fingerprint(settings)
        self.runtime = {
            "method": method.runtime(),
            "measures": {"device": measures.device, "dtype": "float32"},
        }
        self._write_manifest(settings)

    def _write_manifest(self, settings: Mapping[str, Any]) -> None:
        path = self.folder / "manifest.json"
        code = describe_code()
        if path.is_file():
            old = read_json(path)
            if old.get("fingerprint") != self.fingerprint:
                raise UserError(
                    f"{self.folder} holds results of other settings: choose another --out or delete it"
                )
            if old.get("code") != code:
                logger.warning("%s was begun by another state of the code (%s)", self.folder, old.get("code"))
            return
        content = {
            "fingerprint": self.fingerprint,
            "settings": settings,
            "runtime": self.runtime,
            "notes": dict(self.measures.notes),
            "code": code,
            "environment": describe_environment(),
        }
        write_json(path, content)

    def evaluate(self, pair: Pair) -> None:
        """Dub and score a pair unless it is finished; what goes wrong is stored and logged, not raised."""
        if self.is_finished(pair):
            return
        record: dict[str, Any] = {"name": pair.name, "video": str(pair.video), "audio": str(pair.audio)}
        record |= {"fingerprint": self.fingerprint, "runtime": self.runtime, "seconds": {}}
        try:
            self._seed(pair)
            result = self.method.result(pair, self.folder / "videos")
            self._remove_namesake(pair, result.video)
            started = perf_counter()
            if not result.video.is_file():
                self.method.dub(pair, result.video)
                record["seconds"]["dub"] = round(perf_counter() - started, 3)
            record["sha256"] = file_hash(result.video)
            started = perf_counter()
            record["values"] = self.measures.scorer(result.video, pair.video, result.speech)
            self._store_features(pair)
            record["seconds"]["measure"] = round(perf_counter() - started, 3)
        except UserError as error:
            logger.error("%s failed: %s", pair.name, error)
            record["error"] = str(error)
        except Exception as error:  # one bad video must not end a run of thousands
            logger.exception("%s failed", pair.name)
            record["error"] = f"{type(error).__name__}: {error}"
        write_json(self._score_path(pair), record)

    def is_finished(self, pair: Pair) -> bool:
        """Whether the pair's score is stored and its result, where still kept, has not changed since."""
        record = self._record(pair)
        if record is None:
            return False
        if "error" in record:
            return not self.retry_failed
        try:
            video = self.method.result(pair, self.folder / "videos").video
        except UserError:
            return True  # made elsewhere and since removed
        return not video.is_file() or file_hash(video) == record["sha256"]

    def missing(self, pairs: Sequence[Pair]) -> list[Pair]:
        """Pairs without a stored score."""
        return [pair for pair in pairs if self._record(pair) is None]

    def timings(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """Frames and seconds of each pair that was dubbed and measured, or only measured, here or elsewhere."""
        found = []
        for pair in pairs:
            record = self._record(pair) or {}
            if "values" in record and record.get("seconds"):
                found.append((record["values"]["frames"], sum(record["seconds"].values())))
        return found

    def videos(self, pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
        """Name of the pair -> values of every scored pair, in the order of the list."""
        records = {pair.name: self._record(pair) or {} for pair in pairs}
        return {name: record["values"] for name, record in records.items() if "values" in record}

    def summarize(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Average the finished pairs and write ``scores.csv`` and ``summary.json``.

        Returns:
            ``method``, ``videos`` (scored), ``failed`` (names), ``runtimes`` (devices and number formats, each
            once: shards may run on different machines), ``notes``, ``values``, ``intervals`` (low and high of
            those that have any), ``interval_method`` and ``worst`` (quantity -> names, the worst first).
        """
        records = {pair.name: self._record(pair) or {"error": "not evaluated"} for pair in pairs}
        scored = [pair for pair in pairs if "values" in records[pair.name]]
        videos = {pair.name: records[pair.name]["values"] for pair in scored}
        values = summarize(list(videos.values()))
        sources = [str(pair.video) for pair in scored]
        intervals = mean_intervals(list(videos.values()), sources, self.intervals)
        runtimes: list[Any] = []
        for record in records.values():
            if record.get("runtime") not in [None, *runtimes]:
                runtimes.append(record["runtime"])
        if self.measures.fid is not None and scored:
            values["fid"], interval = self._fid(scored, self.measures.fid)
            if interval is not None:
                intervals["fid"] = interval
        summary = {
            "method": self.method.name,
            "videos": len(scored),
            "failed": [name for name, record in records.items() if "error" in record],
            "runtimes": runtimes,
            "notes": dict(self.measures.notes),
            "values": values,
            "intervals": {name: list(interval) for name, interval in intervals.items()},
            "interval_method": self.intervals.describe(),
            "worst": worst_videos(videos),
        }
        self._write_table(scored, list(videos.values()))
        write_json(self.folder / "summary.json", summary)
        return summary

    def _fid(self, pairs: Sequence[Pair], features: FidFeatures) -> tuple[float, Interval | None]:
        generated, real = FeatureStatistics(), FeatureStatistics()
        dubs: dict[Path, list[Pair]] = {}
        for pair in pairs:
            dubs.setdefault(pair.video, []).append(pair)
        groups = FidGroups(len(dubs), self.intervals)
        for number, (video, made) in enumerate(dubs.items()):
            blocks = [features_statistics(np.load(self._feature_path(pair))) for pair in made]
            source = features_statistics(self._reference_features(video, features))
            for block in blocks:
                generated.merge(block)
            real.merge(source)
            groups.add(number, blocks, source)
        fid = frechet_distance(generated, real)
        return fid, groups.interval(fid)

    def _reference_features(self, video: Path, features: FidFeatures) -> npt.NDArray[np.float32]:
        settings = fingerprint({"video": file_hash(video), "fid": self.measures.settings["fid"]})
        path = self.reference_folder / f"{settings}.npy"
        if not path.is_file():
            _save_array(path, video_features(video, features, self.measures.scorer.chunk_size))
        return np.asarray(np.load(path), dtype=np.float32)

    def _store_features(self, pair: Pair) -> None:
        if self.measures.fid is not None:
            _save_array(self._feature_path(pair), self.measures.fid.features)
            self._reference_features(pair.video, self.measures.fid)

    def _seed(self, pair: Pair) -> None:
        digest = hashlib.sha256(f"{self.seed}/{pair.name}".encode()).digest()
        number = int.from_bytes(digest[:4], "big")
        random.seed(number)
        np.random.seed(number)  # noqa: NPY002 - for code that still draws from the global generator
        torch.manual_seed(number)

    def _remove_namesake(self, pair: Pair, video: Path) -> None:
        """Remove a dub that was made here of another pair of this name, as after a change of the list."""
        path = self._score_path(pair)
        if path.is_file() and video.parent == self.folder / "videos":
            record = read_json(path)
            if (record.get("video"), record.get("audio")) != (str(pair.video), str(pair.audio)):
                video.unlink(missing_ok=True)

    def _record(self, pair: Pair) -> dict[str, Any] | None:
        path = self._score_path(pair)
        if not path.is_file():
            return None
        record: dict[str, Any] = read_json(path)
        same = record.get("fingerprint") == self.fingerprint
        same = same and (record["video"], record["audio"]) == (str(pair.video), str(pair.audio))
        return record if same else None

    def _score_path(self, pair: Pair) -> Path:
        return self.folder / "scores" / f"{pair.name}.json"

    def _feature_path(self, pair: Pair) -> Path:
        return self.folder / "features" / f"{pair.name}.npy"

    def _write_table(self, pairs: Sequence[Pair], videos: Sequence[Mapping[str, float]]) -> None:
        columns = sorted({name for video in videos for name in video})
        path = self.folder / "scores.csv"
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(["name", *columns])
            for pair, video in zip(pairs, videos, strict=True):
                writer.writerow([pair.name, *(video.get(name, "") for name in columns)])


def _save_array(path: Path, array: npt.NDArray[np.float32]) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, array)

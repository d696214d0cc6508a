"""How far the figures of a table can be trusted: 95 % bootstrap intervals over source videos (Efron 1979).

What is drawn again is the source video with all dubs of it, because dubs of one video resemble each other.
Quantities that single videos have are averaged over each draw, and the interval goes from the 2.5th to the 97.5th
percentile.

FID belongs to the whole set and grows when videos are drawn twice, as it grows with fewer frames, so percentiles
would lie above the figure itself: its interval is the figure plus and minus 1.96 standard deviations of the draws.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from videoretalking.core.arrays import Floats64, Ints64
from videoretalking.core.config import require_range
from videoretalking.evaluation.tables import PER_TRACK, TRACK_COUNT, per_track
from videoretalking.metrics.fid import FeatureStatistics, frechet_distance

CONFIDENCE = 0.95
_NORMAL_QUANTILE = 1.959964  # of (1 + CONFIDENCE) / 2

Interval = tuple[float, float]


@dataclass(frozen=True)
class IntervalConfig:
    """How often is drawn; part of no result.

    Attributes:
        draws: of the quantities that single videos have; 0 leaves all intervals out.
        fid_draws: of FID, each of which takes seconds; 0 leaves its interval out.
        fid_groups: at most so many groups of videos are drawn for FID; each keeps two covariances in memory.
        seed: of the draws.
    """

    draws: int = 1000
    fid_draws: int = 50
    fid_groups: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers with which nothing can be drawn."""
        require_range(self, "draws", "fid_draws", "seed", least=0)
        require_range(self, "fid_groups", least=2)

    def describe(self) -> str:
        """The method in one sentence, for the note below a table."""
        return (
            f"[low, high]: {100 * CONFIDENCE:g} % bootstrap interval over source videos, percentiles of "
            f"{self.draws} draws; FID: 1.96 standard deviations of {self.fid_draws} draws; seed {self.seed}"
        )


def draw_counts(num_items: int, num_draws: int, seed: int) -> Ints64:
    """[draws, items] int64: how often each item occurs when as many items are drawn with replacement."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(num_items, np.full(num_items, 1.0 / num_items), size=num_draws)


def mean_intervals(
    videos: Sequence[Mapping[str, float]], sources: Sequence[Hashable], config: IntervalConfig
) -> dict[str, Interval]:
    """Interval of every average of :func:`evaluation.tables.summarize`.

    Args:
        videos: name -> value of each video.
        sources: the source video of each; videos of one source are drawn together.
        config: how often is drawn.

    Returns:
        Name -> low and high; a quantity of fewer than two sources has none.
    """
    places = {source: place for place, source in enumerate(dict.fromkeys(sources))}
    if len(places) < 2 or config.draws == 0:
        return {}
    counts = draw_counts(len(places), config.draws, config.seed).astype(np.float64)
    owners = [places[source] for source in sources]
    names = sorted({name for video in videos for name in video})
    columns = {name: [(video.get(name), 1.0) for video in videos] for name in names}
    for name in PER_TRACK:
        columns[per_track(name)] = [(video.get(name), video.get(TRACK_COUNT, 0.0)) for video in videos]
    intervals = {}
    for name, cells in columns.items():
        sums, weights = np.zeros(len(places)), np.zeros(len(places))
        for owner, (value, weight) in zip(owners, cells, strict=True):
            if value is not None:
                sums[owner] += weight * value
                weights[owner] += weight
        if np.count_nonzero(weights) >= 2:
            intervals[name] = _percentiles(counts, sums, weights)
    return intervals


def _percentiles(counts: Floats64, sums: Floats64, weights: Floats64) -> Interval:
    """Of the weighted means of all draws that hit at least one video with a value."""
    totals = counts @ weights
    means = (counts @ sums)[totals > 0] / totals[totals > 0]
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


class FidGroups:
    """Statistics of features in a few groups of source videos, for the interval of FID.

    Args:
        num_sources: source videos in all.
        config: how often is drawn, in how many groups.
    """

    def __init__(self, num_sources: int, config: IntervalConfig) -> None:
        self.config = config
        self.num_groups = min(num_sources, config.fid_groups) if config.fid_draws else 0
        self.generated = [FeatureStatistics() for _ in range(self.num_groups)]
        self.real = [FeatureStatistics() for _ in range(self.num_groups)]

    def add(self, source: int, generated: Sequence[FeatureStatistics], real: FeatureStatistics) -> None:
        """Take the statistics of a source video, by its number, and of the dubs of it."""
        if self.num_groups:
            group = source % self.num_groups
            self.real[group].merge(real)
            for statistics in generated:
                self.generated[group].merge(statistics)

    def interval(self, fid: float) -> Interval | None:
        """Interval around the figure itself; None for fewer than two groups."""
        if self.num_groups < 2:
            return None
        draws = draw_counts(self.num_groups, self.config.fid_draws, self.config.seed)
        known: dict[tuple[int, ...], float] = {}  # few groups can be drawn in few ways only
        values = []
        for counts in tqdm(draws.tolist(), desc="interval of FID", unit="draw", delay=2.0, leave=False):
            key = tuple(counts)
            if key not in known:
                known[key] = frechet_distance(_drawn(self.generated, key), _drawn(self.real, key))
            values.append(known[key])
        half = _NORMAL_QUANTILE * float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        return fid - half, fid + half


def _drawn(groups: Sequence[FeatureStatistics], counts: Sequence[int]) -> FeatureStatistics:
    total = FeatureStatistics()
    for statistics, times in zip(groups, counts, strict=True):
        if times:
            total.merge(statistics, times)
    return total


def features_statistics(features: npt.ArrayLike) -> FeatureStatistics:
    """Statistics of [N, features] rows."""
    statistics = FeatureStatistics()
    statistics.update(features)
    return statistics

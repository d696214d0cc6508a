"""Step 8: list the finished clips in ``manifest.csv``, split by identity.

A clip takes the split that its data set gave it. Where there is none, people named with ``--val`` or ``--test``
validate and test, with ``--release-only`` so do all clips whose weights may not be published (as validation),
and the others are drawn by their name: the same people are in the same split whenever this runs, also after
more clips were added. A data set that has a part for training and none for validation (VoxCeleb as the first-order
motion model divides it) gives people of the first to the second by the same draw.

Somebody always trains and validates: where the draw leaves one side empty, the person with the nearest number
changes sides. With one person alone the last clips validate, under the name of the person and :data:`LATER`.

    python -m scripts.preprocess.splits --work data/work --root data/prepared --val-share 0.05
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import TRAIN_FPS
from videoretalking.core.corpora import LATER
from videoretalking.core.errors import UserError, run_command
from videoretalking.datasets.clips import META, PreparedClip
from videoretalking.datasets.manifest import ManifestEntry, write_manifest
from videoretalking.scripts.preprocess.changes import unlisted_sources
from videoretalking.scripts.preprocess.runner import check_range, read_rejects
from videoretalking.scripts.preprocess.sources import Source, read_sources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitConfig:
    """How people without a given split are divided.

    Attributes:
        val: identities that validate.
        test: identities that test.
        val_share: share of the other identities that validates; somebody always does.
        test_share: share that tests.
        release_only: everything that may not be published validates.
    """

    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    val_share: float = 0.0
    test_share: float = 0.0
    release_only: bool = False

    def __post_init__(self) -> None:
        """Refuse shares that are none.

        Raises:
            UserError: names the option.
        """
        check_range("--val-share", self.val_share, 0.0, 1.0)
        check_range("--test-share", self.test_share, 0.0, 1.0)
        # 0.9 and 0.1 add up to a little more than 1 in floating point
        check_range(
            "the sum of --val-share and --test-share", self.val_share + self.test_share, 0.0, 1.0 + 1e-9
        )


def choose_split(given: str, identity: str, release_training: bool, config: SplitConfig) -> str:
    """Split of one clip: ``train``, ``val`` or ``test``.

    Args:
        given: split of the data set, or empty.
        identity: the person.
        release_training: whether weights trained on the clip may be published.
        config: rules for clips without a given split.
    """
    if given:
        return given
    if identity in config.test:
        return "test"
    if identity in config.val or (config.release_only and not release_training):
        return "val"
    draw = _uniform(identity)
    if draw < config.val_share:
        return "val"
    return "test" if draw < config.val_share + config.test_share else "train"


def collect(
    root: Path, sources: list[Source], config: SplitConfig, rejected: Collection[str] = ()
) -> list[ManifestEntry]:
    """Manifest entries of all finished clips below ``root``.

    Args:
        root: folder of the prepared clips.
        sources: where they come from.
        config: rules of the splits.
        rejected: names of sources whose clips are left out.

    Raises:
        UserError: there is none, or a clip comes from no known source.
    """
    by_name = {source.name: source for source in sources}
    validates = any(source.split == "val" and source.name not in rejected for source in sources)
    entries, free = [], set()
    for clip in finished_clips(root):
        source = by_name.get(clip.rpartition("/")[0])
        if source is None:
            raise UserError(f"clip {root / clip} comes from no source of this work folder: remove it")
        if source.name in rejected:
            continue
        meta = PreparedClip(root / clip).meta
        given, rules = source.split, config
        if (
            given == "train" and not validates
        ):  # the data set leaves the validation to its users, but not the test
            given, rules = "", replace(config, test=(), test_share=0.0)
        if not given and meta.identity not in (*rules.val, *rules.test):
            free.add(meta.identity)
        split = choose_split(given, meta.identity, meta.release_training, rules)
        entries.append(ManifestEntry(clip, split, meta.identity, meta.num_frames, meta.release_training))
    if not entries:
        raise UserError(f"no finished clip below {root}: run scripts.preprocess.clips first")
    return fill_both_sides(entries, free, config.val_share)


def finished_clips(root: Path) -> Iterator[str]:
    """Folders of finished clips relative to ``root``, with forward slashes, in order."""
    found = []
    for folder, folders, files in os.walk(root):
        if META in files:
            folders.clear()  # a clip holds no clips
            found.append(Path(folder).relative_to(root).as_posix())
    yield from sorted(found)


def fill_both_sides(
    entries: list[ManifestEntry], free: Collection[str], val_share: float
) -> list[ManifestEntry]:
    """The entries with somebody on both sides, as far as there are clips for it; what changes is logged.

    Args:
        entries: with splits.
        free: people whom neither the data set nor the user gave a split.
        val_share: share of the frames that validates where there is one person only.
    """
    drawn = _people(entries, "val") & set(free)
    if not _people(entries, "train") and drawn:
        entries = _move(entries, max(drawn, key=_uniform), "train")
    training = _people(entries, "train")
    if _people(entries, "val") or not training:
        return entries
    if len(training) == 1:
        return _split_by_time(entries, val_share)
    return _move(entries, min(_first_choice(entries, training & set(free) or training), key=_uniform), "val")


def _people(entries: Iterable[ManifestEntry], split: str) -> set[str]:
    return {entry.identity for entry in entries if entry.split == split}


def _first_choice(entries: Iterable[ManifestEntry], people: set[str]) -> set[str]:
    """Those of some people with a clip of at least a second, which every data set can use; all where nobody has."""
    return {
        entry.identity for entry in entries if entry.identity in people and entry.num_frames >= TRAIN_FPS
    } or people


def _move(entries: list[ManifestEntry], identity: str, split: str) -> list[ManifestEntry]:
    other = {"train": "val", "val": "train"}[split]
    logger.warning("nobody was drawn for split %s: %s leaves split %s for it", split, identity, other)
    return [
        replace(entry, split=split) if entry.identity == identity and entry.split == other else entry
        for entry in entries
    ]


def _split_by_time(entries: list[ManifestEntry], val_share: float) -> list[ManifestEntry]:
    """Let the last clips of the only person that trains validate: at least one, and one is left to train."""
    training = [entry for entry in entries if entry.split == "train"]
    wanted = val_share * sum(entry.num_frames for entry in training)
    later: set[str] = set()
    for entry in reversed(training[1:]):
        if later and wanted <= 0:
            break
        later.add(entry.clip)
        wanted -= entry.num_frames
    if not later:
        logger.warning(
            "there is one clip only, which trains: train with loop.validate_every=0, or add clips, or cut shorter "
            "ones (scripts.preprocess.clips --max-seconds)"
        )
        return entries
    logger.warning(
        "%s is the only person: the last %d of %d clips validate, whose figures say nothing about other people",
        training[0].identity, len(later), len(training),
    )  # fmt: skip
    return [
        replace(entry, split="val", identity=entry.identity + LATER) if entry.clip in later else entry
        for entry in entries
    ]


@cache
def _uniform(identity: str) -> float:
    """A number in [0, 1) that depends on the name only."""
    return int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2.0**64


def run(work: Path, root: Path, config: SplitConfig) -> Path:
    """Write the manifest of all finished clips whose sound the offset filter, if it ran, did not reject."""
    unlisted = unlisted_sources(work)
    left_out = {*read_rejects(work, "offsets"), *(source.name for source in unlisted)}
    entries = collect(root, [*read_sources(work), *unlisted], config, left_out)
    path = write_manifest(root, entries)
    counts = Counter(entry.split for entry in entries)
    logger.info("%s: %s", path, ", ".join(f"{count} {split}" for split, count in sorted(counts.items())))
    return path


def main() -> None:
    """Command line of step 8."""
    parser = CommandParser(description="Step 8: manifest with splits by identity")
    parser.add_argument("--work", type=Path, required=True, help="folder for what the steps hand on")
    parser.add_argument("--root", type=Path, required=True, help="folder of the prepared clips")
    parser.add_argument("--val", nargs="*", default=[], help="identities that validate")
    parser.add_argument("--test", nargs="*", default=[], help="identities that test")
    parser.add_argument("--val-share", type=float, default=0.05, help="share of the other identities")
    parser.add_argument("--test-share", type=float, default=0.0)
    parser.add_argument("--release-only", action="store_true", help="unpublishable clips only validate")
    arguments = parser.parse_args()
    config = SplitConfig(
        val=tuple(arguments.val),
        test=tuple(arguments.test),
        val_share=arguments.val_share,
        test_share=arguments.test_share,
        release_only=arguments.release_only,
    )
    run(arguments.work, arguments.root, config)


if __name__ == "__main__":
    run_command(main)

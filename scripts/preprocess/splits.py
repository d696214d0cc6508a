"""Step 8: list the finished clips in ``manifest.csv``, split by identity.

A clip takes the split that its data set gave it. Where there is none, people named with ``--val`` or ``--test``
validate and test, with ``--release-only`` so do all clips whose weights may not be published (as validation),
and the others are drawn by their name: the same people are in the same split whenever this runs, also after
more clips were added.

    python -m scripts.preprocess.splits --work data/work --root data/prepared --val-share 0.05
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.datasets.clips import META, PreparedClip
from videoretalking.datasets.manifest import ManifestEntry, write_manifest
from videoretalking.scripts.preprocess.changes import unlisted_sources
from videoretalking.scripts.preprocess.runner import read_rejects
from videoretalking.scripts.preprocess.sources import Source, read_sources

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SplitConfig:
    """How people without a given split are divided.

    Attributes:
        val: identities that validate.
        test: identities that test.
        val_share: share of the other identities that validates.
        test_share: share that tests.
        release_only: everything that may not be published validates.
    """

    val: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    val_share: float = 0.0
    test_share: float = 0.0
    release_only: bool = False


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
    entries = []
    for path in sorted(root.rglob(META)):
        clip = path.parent.relative_to(root).as_posix()
        source = by_name.get(clip.rpartition("/")[0])
        if source is None:
            raise UserError(f"clip {root / clip} comes from no source of this work folder: remove it")
        if source.name in rejected:
            continue
        meta = PreparedClip(path.parent).meta
        split = choose_split(source.split, meta.identity, meta.release_training, config)
        entries.append(ManifestEntry(clip, split, meta.identity, meta.num_frames, meta.release_training))
    if not entries:
        raise UserError(f"no finished clip below {root}: run scripts.preprocess.clips first")
    return entries


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

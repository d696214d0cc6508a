"""A table must not be measured on what the networks were trained on."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from videoretalking.core.corpora import HDTF_SUBSETS, hdtf_person, plain_person, voxceleb_speaker
from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair

NUM_NAMED = 3


def check_disjoint(pairs: Sequence[Pair], manifest: Path) -> None:
    """Refuse pairs whose clip or person a training manifest lists for training or validation.

    A file is known by its name, by its folder's (LRS2: ``BROADCAST/CLIP``; any folder of people), by the person
    that HDTF and VoxCeleb write into names, and by the name that cutting gives a clip (``BROADCAST_CLIP.mp4``).
    Files that somebody renamed are not recognized.

    Args:
        pairs: what is to be evaluated, picture and sound.
        manifest: ``manifest.csv`` of a prepared data set (docs/data.md).

    Raises:
        UserError: something is in both; the message names up to three. Or the manifest cannot be read.
    """
    trained = _trained(manifest)
    files = dict.fromkeys(file for pair in pairs for file in (pair.video, pair.audio) if file is not None)
    shared: dict[str, int] = {}
    for file in files:
        found = next((name for name in _names(file) if name in trained), None)
        if found is not None:
            shared[found] = shared.get(found, 0) + 1
    if shared:
        named = ", ".join(list(shared)[:NUM_NAMED])
        more = f" and {len(shared) - NUM_NAMED} more" if len(shared) > NUM_NAMED else ""
        raise UserError(
            f"{manifest}: the pairs to evaluate and the training share {named}{more} ({sum(shared.values())} of "
            f"{len(files)} files); take other pairs, or train without them"
        )


def _names(file: Path) -> Iterator[str]:
    """What a clip and its person may be called in a manifest, the clip first."""
    stem, folder = file.stem, file.parent.name
    yield f"{folder}/{stem}"
    if not stem.isdecimal():  # a bare number says nothing without its folder
        yield stem
    words = stem.split("_")
    for tail in (
        "_".join(words[first:]) for first in range(len(words))
    ):  # cutting puts folders before the name
        if tail.startswith(tuple(f"{subset}_" for subset in HDTF_SUBSETS)):
            yield hdtf_person(tail)
        yield voxceleb_speaker(PurePosixPath(tail))
    yield voxceleb_speaker(PurePosixPath(*file.parts[-3:]))
    yield folder
    yield stem.rpartition("_")[0]


def _trained(manifest: Path) -> set[str]:
    """Names of the clips and people of a manifest that train or validate."""
    try:
        with manifest.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if not {"clip", "split", "identity"} <= set(reader.fieldnames or ()):
                raise UserError(f"{manifest} is no training manifest: it needs clip, split and identity")
            rows = [row for row in reader if row["split"] != "test"]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the training manifest {manifest}: {error}") from None
    names: set[str] = set()
    for row in rows:
        # a prepared clip is SOURCE/NUMBER, and the source bears the name of the file and of its folders
        parts = row["clip"].split("/")[:-1]
        names |= {row["identity"], plain_person(row["identity"])}
        names |= {"/".join(parts), "/".join(parts[-2:]), "_".join(parts)}
        if parts and not parts[-1].isdecimal():
            names.add(parts[-1])
    return names - {""}

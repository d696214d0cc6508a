"""A table must not be measured on what the networks were trained on."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair

NUM_NAMED = 3


def check_disjoint(pairs: Sequence[Pair], manifest: Path) -> None:
    """Refuse pairs whose clip or person a training manifest lists for training or validation.

    A file of a pair is known by its name and by its folder's, as LRS2 names clips (``BROADCAST/CLIP``) and HDTF
    people.

    Args:
        pairs: what is to be evaluated.
        manifest: ``manifest.csv`` of a prepared data set (docs/data.md).

    Raises:
        UserError: something is in both; the message names up to three. Or the manifest cannot be read.
    """
    trained = _trained(manifest)
    files = dict.fromkeys(file for pair in pairs for file in (pair.video, pair.audio) if file is not None)
    shared = dict.fromkeys(name for file in files for name in _names(file) if name in trained)
    if shared:
        named = ", ".join(list(shared)[:NUM_NAMED])
        more = f" and {len(shared) - NUM_NAMED} more" if len(shared) > NUM_NAMED else ""
        raise UserError(
            f"{manifest}: the pairs to evaluate and the training share {named}{more}; take other pairs, or train "
            "without them"
        )


def _names(file: Path) -> tuple[str, ...]:
    return (f"{file.parent.name}/{file.stem}", file.stem, file.parent.name)


def _trained(manifest: Path) -> set[str]:
    try:
        with manifest.open(newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if not {"clip", "split", "identity"} <= set(reader.fieldnames or ()):
                raise UserError(f"{manifest} is no training manifest: it needs clip, split and identity")
            rows = [row for row in reader if row["split"] != "test"]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the training manifest {manifest}: {error}") from None
    # a prepared clip is SOURCE/NUMBER, and the source bears the name of the file
    return {name for row in rows for name in (row["identity"], row["clip"].rpartition("/")[0]) if name}

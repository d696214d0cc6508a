"""Layouts that no corpus prescribes: any folder of videos, and a table of files."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator
from pathlib import Path

from videoretalking.core.errors import UserError
from videoretalking.datasets.manifest import SPLITS
from videoretalking.scripts.preprocess.layouts.base import (
    MEDIA_SUFFIXES,
    LayoutOptions,
    Source,
    media_files,
)

TABLE = "manifest.csv"


def list_folder(root: Path, options: LayoutOptions) -> Iterator[Source]:
    """Any folder of videos and pictures."""
    for file in media_files(root):
        yield Source(file.name, file.path, file.parts[0])


def list_table(
    root: Path, options: LayoutOptions, table: str = TABLE, publishable: Collection[str] = ("yes",)
) -> Iterator[Source]:
    """Files named by a table in the root; lines that are neither video nor picture are left out.

    Args:
        root: of the data set.
        options: of all layouts; none concerns this one.
        table: name of the table.
        publishable: values of ``release_training`` that stand for yes.

    Raises:
        UserError: there is no such table, or it lacks a column.
    """
    path = root / table
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}), which --layout table needs") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is no table of text in UTF-8: {error}") from None
    if rows and not {"file", "identity"} <= rows[0].keys():
        raise UserError(f"{path} needs the columns file and identity")
    for row in rows:
        relative = Path(row["file"] or "")  # a line that ends early has no value
        if relative.suffix.lower() in MEDIA_SUFFIXES and row["identity"]:
            yield Source(
                name=relative.with_suffix("").as_posix(),
                path=root / relative,
                identity=row["identity"],
                split=row["split"] if row.get("split") in SPLITS else "",
                license=row.get("license") or row.get("licence") or "",
                release_training=(row.get("release_training") or "no").lower() in publishable,
            )

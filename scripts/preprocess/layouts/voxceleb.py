"""VoxCeleb: as the first-order motion model cuts it (``vox-metadata.csv``), cut already, or as VoxCeleb comes.

``vox-metadata.csv`` names for each of its spans the video of YouTube, the first frame and the frame behind the last
at ``fps``, the box of the face ``left-top-right-bottom`` in a frame of ``width`` x ``height``, the part (``train``
or ``test``) and the person. The spans are read from raw videos (``VIDEO_ID.mp4``) where these are, else from those
that were cut already (``id10001#VIDEO_ID#000100#000200.mp4``): a raw video shows what lies around the box.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from videoretalking.core.corpora import voxceleb_speaker
from videoretalking.core.errors import UserError
from videoretalking.media.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from videoretalking.scripts.preprocess.layouts.base import (
    LayoutOptions,
    LeftOut,
    Source,
    media_files,
    write_region,
)

METADATA = "vox-metadata.csv"
_NEEDED = {"video_id", "start", "end", "bbox", "fps", "height", "partition"}


def list_voxceleb(root: Path, options: LayoutOptions) -> Iterator[Source]:
    """VoxCeleb 1 or 2.

    Raises:
        UserError: no video that the layout knows, a damaged list, or a cut into pictures.
    """
    path = _metadata(root, options)
    return _by_name(root) if path is None else _by_metadata(root, path)


def _metadata(root: Path, options: LayoutOptions) -> Path | None:
    if options.lists is not None and not options.lists.is_dir():
        return options.lists
    folders = options.list_folders(root)
    found = next((path for folder in folders if (path := folder / METADATA).is_file()), None)
    if found is None and options.lists is not None:
        raise UserError(f"{options.lists} holds no {METADATA}")
    return found


def _by_name(root: Path) -> Iterator[Source]:
    """Videos whose path names the speaker; folders ``train`` and ``test`` set the split."""
    empty = True
    for file in media_files(root, VIDEO_SUFFIXES):
        empty = False
        identity = voxceleb_speaker(PurePosixPath(file.name))
        if not identity:
            raise UserError(
                f"{file.path} has no speaker (id and five digits) in its path: is this VoxCeleb? Raw videos of "
                f"YouTube need {METADATA} beside them, or --lists"
            )
        split = next((part for part in file.parts if part in {"train", "test"}), "")
        yield Source(file.name, file.path, identity, split)
    if empty and next(media_files(root, IMAGE_SUFFIXES), None) is not None:
        raise UserError(f"{root} holds pictures and no video: cut VoxCeleb with --format .mp4")


def _by_metadata(root: Path, path: Path) -> Iterator[Source]:
    """The spans of ``vox-metadata.csv`` whose video is there."""
    videos: dict[str, Path] = {}
    for file in media_files(root, VIDEO_SUFFIXES):
        videos.setdefault(file.stem, file.path)
    left_out = LeftOut("VoxCeleb")
    names: set[str] = set()
    for number, row in enumerate(_rows(path), 2):
        try:
            source = _span(row, videos)
        except (ValueError, TypeError, AttributeError, ZeroDivisionError):
            left_out.add(f"malformed in {path.name}", f"line {number}")
            continue
        if source is None:
            left_out.add("without a video below the root (many are gone from YouTube)", row["video_id"])
        elif source.name in names:
            left_out.add(f"repeated in {path.name}", f"line {number}")
        else:
            names.add(source.name)
            yield source
    if not names:
        raise left_out.refuse(f"no span of {path} can be read")
    left_out.report()


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle)
            if _NEEDED - set(reader.fieldnames or ()):
                raise UserError(f"{path} needs the columns {', '.join(sorted(_NEEDED))}")
            return list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {error}") from None


def _span(row: Mapping[str, str], videos: Mapping[str, Path]) -> Source | None:
    """The source of one line; None where neither its raw nor its cut video is there.

    Raises:
        ValueError: a value is none, as other errors of missing or odd cells do.
    """
    video, _, person = row["video_id"].partition("#")  # lists that the cutting program wrote itself join both
    person = row.get("person_id") or person
    start, end, split = int(row["start"]), int(row["end"]), row["partition"]
    left, top, right, bottom = (float(edge) for edge in row["bbox"].split("-"))
    if not voxceleb_speaker(PurePosixPath(person)) or split not in {"train", "test"}:
        raise ValueError(person, split)
    if not (video and end > start >= 0 and right > left and bottom > top):
        raise ValueError("an empty span or box")
    cut = f"{person}#{video}#{start:06d}#{end:06d}"
    name, fps = f"{split}/{cut}", float(row["fps"])
    region = write_region(left, top, right, bottom, float(row["height"]))
    if video in videos:
        return Source(name, videos[video], person, split, start=start / fps, end=end / fps, region=region)
    return Source(name, videos[cut], person, split) if cut in videos else None

"""HDTF: clips that its usual downloader cut, or raw videos with the three lists of each subset.

The lists of RD, WDA and WRA (``HDTF_dataset`` of the publisher) name a video as ``RandPaul2.mp4``; its file is
called ``WRA_RandPaul2.mp4``:

- ``WRA_annotion_time.txt``: ``RandPaul2.mp4 00:01-04:25 04:25-09:30``, the stretches to keep;
- ``WRA_crop_wh.txt``: ``RandPaul2_1.mp4 563 828 8 828``, left, width, top, height of the square in stretch 1;
- ``WRA_resolution.txt``: ``RandPaul2.mp4 1080``, the height of the video in which the square was measured.

The downloader leaves out stretches without a square (hands or backgrounds move there), and so does this listing. It
keeps the raw videos in ``_videos_raw`` beside the clips that it cut from them: a video whose clips are there is not
read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from videoretalking.core.corpora import HDTF_RAW_FOLDER, HDTF_SUBSETS, hdtf_person
from videoretalking.core.errors import UserError
from videoretalking.media.suffixes import VIDEO_SUFFIXES
from videoretalking.scripts.preprocess.layouts.base import (
    LayoutOptions,
    LeftOut,
    MediaFile,
    Source,
    media_files,
    write_region,
)

_TIMES, _SQUARES, _HEIGHTS = "annotion_time", "crop_wh", "resolution"  # as the files are spelled


@dataclass
class _Lists:
    """The lists of all subsets; a video is ``WRA_RandPaul2``.

    Attributes:
        spans: video -> its stretches, texts such as ``00:01-04:25``.
        squares: stretch (``WRA_RandPaul2_1``) -> left, width, top, height in pixels.
        heights: video -> rows of the frame in which the squares were measured; 0 where the list does not know.
        with_squares: subsets whose list of squares is there.
    """

    spans: dict[str, list[str]] = field(default_factory=dict)
    squares: dict[str, tuple[float, float, float, float]] = field(default_factory=dict)
    heights: dict[str, float] = field(default_factory=dict)
    with_squares: set[str] = field(default_factory=set)

    def video(self, file: MediaFile) -> str:
        """The video that a raw file is, as the lists would call it."""
        stem, folder = file.stem, file.parts[-2] if len(file.parts) > 1 else ""
        if stem.startswith(tuple(f"{subset}_" for subset in HDTF_SUBSETS)):
            return stem
        subsets = (folder,) if folder in HDTF_SUBSETS else HDTF_SUBSETS
        return next((name for subset in subsets if (name := f"{subset}_{stem}") in self.spans), stem)


def list_hdtf(root: Path, options: LayoutOptions) -> Iterator[Source]:
    """HDTF, cut or raw, every stretch once.

    Raises:
        UserError: a damaged list, raw videos without lists, or no video.
    """
    lists, left_out = _read_lists(root, options), LeftOut("HDTF")
    files = list(media_files(root, VIDEO_SUFFIXES))
    clips = [file for file in files if _is_clip(file, lists)]
    cut = {lists.video(_whole(clip)) for clip in clips}
    seen: set[tuple[str, int]] = set()
    empty = True
    for clip in clips:
        empty = False
        video = lists.video(_whole(clip))
        stretch = video, int(clip.name.rpartition("_")[2])
        if stretch in seen:
            left_out.add("clips that are there under two names", clip.name)
        else:
            seen.add(stretch)
            yield Source(clip.name, clip.path, hdtf_person(video))
    for file in files:
        video = lists.video(file)
        if _is_clip(file, lists):
            continue
        if video in cut:
            left_out.add("raw videos whose clips are there", file.name)
        elif video not in lists.spans:
            left_out.add(
                "raw videos without a line in *_annotion_time.txt (--lists names their folder)", file.name
            )
        else:
            for source in _spans(file, video, lists, left_out):
                empty = False
                yield source
    if empty:
        raise left_out.refuse(f"{root} holds no video of HDTF that can be read")
    left_out.report()


def _is_clip(file: MediaFile, lists: _Lists) -> bool:
    """Whether a file is one stretch that was cut already: its name is that of a video and a number."""
    whole = _whole(file)
    return HDTF_RAW_FOLDER not in file.parts and whole is not file and lists.video(file) not in lists.spans


def _whole(clip: MediaFile) -> MediaFile:
    """The raw file from which a clip would have been cut; the file itself where its name has no number."""
    video, separator, number = clip.name.rpartition("_")
    return MediaFile(clip.path, video) if separator and number.isdecimal() else clip


def _spans(file: MediaFile, video: str, lists: _Lists, left_out: LeftOut) -> Iterator[Source]:
    """The stretches of a raw video."""
    subset = video.partition("_")[0]
    for index, text in enumerate(lists.spans[video]):
        example = f"{video} {text}"
        start, separator, end = text.partition("-")
        try:
            first, last = _seconds(start), _seconds(end)
        except ValueError:
            first, last = 0.0, 0.0
        square, height = lists.squares.get(f"{video}_{index}"), lists.heights.get(video, 0.0)
        if not separator or last <= first:
            left_out.add("malformed stretches", example)
        elif square is None and subset in lists.with_squares:
            left_out.add("stretches without a square in *_crop_wh.txt", example)
        else:
            region = ""
            if square is not None and height > 0:
                left, wide, top, high = square
                region = write_region(left, top, left + wide, top + high, height)
            name = f"{file.name}_{index:03d}"
            yield Source(name, file.path, hdtf_person(video), start=first, end=last, region=region)


def _read_lists(root: Path, options: LayoutOptions) -> _Lists:
    lists = _Lists()
    for subset in HDTF_SUBSETS:
        for words in _lines(root, options, f"{subset}_{_TIMES}.txt"):
            lists.spans[_key(subset, words[0])] = words[1:]
        for words in _lines(root, options, f"{subset}_{_SQUARES}.txt"):
            lists.with_squares.add(subset)
            if len(words) == 5 and all(_is_number(word) for word in words[1:]):
                left, wide, top, high = (float(word) for word in words[1:])
                lists.squares[_key(subset, words[0])] = left, wide, top, high
        for words in _lines(root, options, f"{subset}_{_HEIGHTS}.txt"):
            if len(words) == 2 and _is_number(words[1]):
                lists.heights[_key(subset, words[0])] = float(words[1])
    return lists


def _lines(root: Path, options: LayoutOptions, name: str) -> list[list[str]]:
    """Words of every line of a list; nothing where the list is not there."""
    folders = options.list_folders(root)
    if options.lists is None:
        folders += root / "HDTF_dataset", root.parent / "HDTF_dataset"
    path = next((path for folder in folders if (path := folder / name).is_file()), None)
    if path is None and options.lists is None:
        path = next(iter(sorted(root.rglob(name))), None)
    if path is None:
        return []
    try:
        # one of the published files begins with a byte order mark
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from None
    return [line.split() for line in lines if line.strip()]


def _key(subset: str, name: str) -> str:
    return f"{subset}_{name.lstrip(chr(0xFEFF)).removesuffix('.mp4')}"


def _is_number(text: str) -> bool:
    return text.isdecimal()


def _seconds(text: str) -> float:
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60.0 + float(part)
    return seconds

"""Draw a pair list from a folder of videos, reproducibly from a seed, and cut its clips."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from videoretalking.core.corpora import HDTF_RAW_FOLDER
from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair, write_pairs
from videoretalking.evaluation.provenance import read_json, write_json
from videoretalking.media.reader import VideoReader
from videoretalking.media.suffixes import VIDEO_SUFFIXES
from videoretalking.media.writer import VideoWriter

logger = logging.getLogger(__name__)

DRAWING = "pairs.json"  # beside the list: what it was drawn from

GROUPS: dict[str, Callable[[Path], str]] = {
    "file": lambda path: path.stem,
    "folder": lambda path: path.parent.name,
}


def find_videos(folder: Path, min_seconds: float = 0.0, only: Sequence[Path] | None = None) -> list[Path]:
    """Videos with sound of at least some length, sorted.

    Args:
        folder: where to look, at any depth; raw videos that HDTF's downloader keeps beside its clips do not count.
        min_seconds: least length.
        only: files to choose from, instead of all in the folder.

    Raises:
        UserError: there are none.
    """
    if not folder.is_dir():
        raise UserError(f"the folder of videos {folder} does not exist")
    candidates = sorted(only) if only is not None else _videos_in(folder)
    videos = []
    for path in tqdm(candidates, desc="videos", unit="file", leave=False):
        try:
            with VideoReader(path) as video:
                info = video.info
        except UserError as error:
            logger.warning("left out: %s", error)
            continue
        if info.has_audio and info.duration >= min_seconds:
            videos.append(path)
    if not videos:
        raise UserError(f"{folder} holds no video with sound of at least {min_seconds:g} s")
    return videos


def _videos_in(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and HDTF_RAW_FOLDER not in path.relative_to(folder).parts
    )


def cut_video(source: Path, target: Path, start: float, seconds: float) -> None:
    """Re-encode a part of a video with its sound, visually lossless; keeps a finished file."""
    if target.is_file():
        return
    with VideoReader(source) as video:
        span = (start, start + seconds)
        with VideoWriter(target, video.info, audio=source, audio_span=span) as writer:
            for frame in video:
                if frame.time >= start + seconds - 1e-6:
                    break
                if frame.time >= start - 1e-6:
                    writer.write(frame.image, max(0.0, frame.time - start))


def cut_clips(pairs: Iterable[Pair], root: Path, folder: Path, seconds: float, seed: int) -> list[Pair]:
    """Replace the videos of a list by clips of a fixed length, cut at a place drawn from the seed."""
    clips: dict[Path, Path] = {}
    pairs = list(pairs)
    sources = dict.fromkeys(path for pair in pairs for path in (pair.video, pair.audio) if path is not None)
    for source in tqdm(sources, desc="clips", unit="file"):
        with VideoReader(source) as video:
            fps, spare = float(video.info.fps), max(0.0, video.info.duration - seconds)
        name = "_".join(source.relative_to(root).with_suffix("").parts)
        start = random.Random(f"{seed}/{name}").randrange(int(spare * fps) + 1) / fps
        clips[source] = folder / f"{name}.mp4"
        cut_video(source, clips[source], start, seconds)
    return [
        Pair(pair.index, pair.name, clips[pair.video], clips[pair.audio] if pair.audio is not None else None)
        for pair in pairs
    ]


def make_pair_list(
    videos: Path,
    out: Path,
    num_pairs: int,
    seconds: float | None,
    seed: int,
    group: str = "file",
    only: Sequence[Path] | None = None,
) -> Path:
    """Draw a list, cut its clips if ``seconds`` is given, and write ``<out>/pairs.csv``; a finished list is kept.

    ``only`` names the videos to choose from, instead of all in the folder.

    Raises:
        UserError: too few videos, or ``out`` holds a list that was drawn in another way.
    """
    path, record = out / "pairs.csv", out / DRAWING
    drawing: dict[str, Any] = {"videos": str(videos.resolve()), "num_pairs": num_pairs, "seconds": seconds}
    drawing |= {"seed": seed, "group": group}
    if record.is_file():
        _check_drawing(record, drawing)
    if not path.is_file():
        pairs = draw_pairs(find_videos(videos, seconds or 0.0, only), num_pairs, seed, GROUPS[group])
        write_json(record, drawing)  # before a clip is cut
        if seconds is not None:
            pairs = cut_clips(pairs, videos, out / "clips", seconds, seed)
        write_pairs(path, pairs, out)
    return path


def _check_drawing(record: Path, drawing: Mapping[str, Any]) -> None:
    """Refuse a folder whose list was drawn in another way: a table names its seed, clips say nothing of theirs."""
    before = read_json(record)
    changed = [name for name in drawing if before.get(name) != drawing[name]]
    if changed:
        listed = ", ".join(f"{name} {before.get(name)}, not {drawing[name]}" for name in changed)
        raise UserError(f"{record.parent} holds pairs drawn with {listed}: choose another --out or delete it")


def draw_pairs(
    videos: Iterable[Path], num_pairs: int, seed: int, group: Callable[[Path], str] = lambda path: path.stem
) -> list[Pair]:
    """Draw unpaired dubs: every video takes the sound of a video of another group.

    Videos are used evenly: none a second time before all were used once, and no pair twice.

    Args:
        videos: candidates, all with sound; their order does not matter.
        num_pairs: how many pairs.
        seed: the same seed and videos give the same list.
        group: what must differ between picture and sound, such as the speaker.

    Raises:
        UserError: fewer than two groups, or more pairs wanted than exist.
    """
    videos = sorted(set(videos))
    groups = {video: group(video) for video in videos}
    sizes = Counter(groups.values())
    possible = sum(len(videos) - sizes[groups[video]] for video in videos)
    if num_pairs > possible:
        raise UserError(
            f"{num_pairs} pairs wanted, but {len(videos)} videos of {len(sizes)} groups allow {possible}"
        )
    generator = random.Random(seed)
    used: set[tuple[Path, Path]] = set()
    pairs: list[Pair] = []
    queue: list[Path] = []
    while len(pairs) < num_pairs:
        if not queue:
            queue = generator.sample(videos, len(videos))
        video = queue.pop()
        partners = [
            audio for audio in videos if groups[audio] != groups[video] and (video, audio) not in used
        ]
        if not partners:
            continue
        audio = generator.choice(partners)
        used.add((video, audio))
        pairs.append(Pair(len(pairs), f"{len(pairs):05d}", video, audio))
    return pairs

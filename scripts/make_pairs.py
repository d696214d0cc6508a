"""Draw a list of unpaired dubs from a folder of videos, reproducibly from a seed.

``python -m scripts.make_pairs --videos DIR --num 100 --seconds 20 --out pairs`` cuts clips of twenty seconds into
``pairs/clips`` and writes ``pairs/pairs.csv`` (the paper's HDTF protocol); without ``--seconds`` the list refers to
the videos as they are (LRS2: ``--group folder``, so that picture and sound come from different programmes).
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tqdm import tqdm

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.evaluation.methods import SUFFIXES
from videoretalking.evaluation.pairs import Pair, draw_pairs, write_pairs
from videoretalking.media.reader import VideoReader
from videoretalking.media.writer import VideoWriter

logger = logging.getLogger(__name__)

GROUPS: dict[str, Callable[[Path], str]] = {
    "file": lambda path: path.stem,
    "folder": lambda path: path.parent.name,
}


def find_videos(folder: Path, min_seconds: float = 0.0) -> list[Path]:
    """Videos with sound of at least some length, anywhere in a folder, sorted.

    Raises:
        UserError: there are none.
    """
    if not folder.is_dir():
        raise UserError(f"the folder of videos {folder} does not exist")
    candidates = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
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
    videos: Path, out: Path, num_pairs: int, seconds: float | None, seed: int, group: str = "file"
) -> Path:
    """Draw a list, cut its clips if ``seconds`` is given, and write ``<out>/pairs.csv``; a finished list is kept.

    Raises:
        UserError: too few videos.
    """
    path = out / "pairs.csv"
    if not path.is_file():
        pairs = draw_pairs(find_videos(videos, seconds or 0.0), num_pairs, seed, GROUPS[group])
        if seconds is not None:
            pairs = cut_clips(pairs, videos, out / "clips", seconds, seed)
        write_pairs(path, pairs, out)
    return path


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point."""
    assert __doc__ is not None
    parser = CommandParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=Path, required=True, help="folder of videos with sound")
    parser.add_argument("--out", type=Path, required=True, help="folder for pairs.csv and the clips")
    parser.add_argument("--num", type=int, required=True, help="number of pairs")
    parser.add_argument("--seconds", type=float, help="cut clips of this length; default: whole videos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--group", choices=sorted(GROUPS), default="file", help="what a pair never shares")
    options = parser.parse_args(arguments)
    path = make_pair_list(
        options.videos, options.out, options.num, options.seconds, options.seed, options.group
    )
    logger.info("wrote %s", path)


if __name__ == "__main__":
    run_command(main)

"""Do the marks survive? ``python -m scripts.measure_marks --media DIR`` marks clips, attacks and detects them.

Every piece of 2 seconds is marked with a payload of its own, attacked, written to a file and given to the detector.
A piece counts where the payload is read right. Prints Markdown tables and writes JSON after every piece. Small
pictures have columns of their own: they hold few pixels for a mark to live in.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.media.reader import VideoReader
from videoretalking.media.suffixes import VIDEO_SUFFIXES
from videoretalking.provenance import statistics
from videoretalking.provenance.carriers import carriers_of
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.pieces import GROUP, PieceSum, Planes
from videoretalking.provenance.placements import Placement
from videoretalking.provenance.search import find, fold
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.provenance.whitening import whiten
from videoretalking.scripts.mark_attacks.video import ATTACKS, FPS, Frames, apply

logger = logging.getLogger(__name__)

PIECE = 2 * FPS  # frames
SHORTEST = FPS  # frames of a piece, where a clip has no more
CLASSES = ((480, math.inf), (280, 480), (0, 280))  # pixels of the short side, each a column
MADE_UP_SIZES = ((720, 1280), (360, 640))
QUICK_PIECES = 4
UNMARKED_MADE_UP = 4  # made-up pieces, at most, among those that the search for what is not there is given
UNMARKED_SIDE = 144  # pixels of a piece without mark: the search takes as many placements as in a large one
KEY_CHANGES = 25  # pieces without mark that are asked for one key
DRAWS = 20  # of a key's phases for each of them, without a search
LEVELS = (1e-1, 1e-2, 1e-3)


@dataclass(frozen=True)
class Result:
    """One piece after one attack.

    Attributes:
        piece: name.
        short_side: pixels before the attack.
        attack: row of the table.
        right: whether the payload was read.
        found: whether the mark was found.
        log10_p: decimal logarithm of the p-value.
        seconds: that the detector took.
    """

    piece: str
    short_side: int
    attack: str
    right: bool
    found: bool
    log10_p: float
    seconds: float


def pieces_of(folder: Path, every: int = 1) -> Iterator[tuple[str, Frames]]:
    """The first 2 seconds of the videos of a folder, by name; all of a shorter one."""
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    for path in videos[::every]:
        with VideoReader(path) as video:
            frames = [frame.image for frame in islice(video, PIECE)]
        if len(frames) >= SHORTEST:
            yield path.stem, frames


def made_up_piece(seed: int, height: int = 720, width: int = 1280) -> Frames:
    """Soft colors with grain in front of which textured disks move."""
    rng = np.random.default_rng(seed)
    coarse = np.asarray(rng.uniform(20, 235, (5, 8, 3)), dtype=np.float32)
    ground = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grain = np.asarray(rng.normal(128, 90, ground.shape), dtype=np.float32)
    texture = cv2.GaussianBlur(grain, (0, 0), float(rng.uniform(1, 4)))
    starts, speeds = rng.uniform(0, 1, (4, 2)) * (width, height), rng.normal(0, 4, (4, 2))
    frames = []
    for number in range(PIECE):
        disks = np.zeros((height, width), dtype=np.uint8)
        for start, speed in zip(starts, speeds, strict=True):
            x, y = ((start + number * speed) % (width, height)).astype(int).tolist()
            cv2.circle(disks, (x, y), height // 6, 1, -1)
        frame = np.where(disks[..., None] > 0, texture, ground) + rng.normal(0, 2, ground.shape)
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def made_up_pieces(number: int) -> Iterator[tuple[str, Frames]]:
    """Pieces by seed, large and small in turn."""
    for seed in range(number):
        yield f"made up {seed}", made_up_piece(seed, *MADE_UP_SIZES[seed % len(MADE_UP_SIZES)])


def measure_piece(
    name: str, frames: Frames, number: int, quick: bool, turns: int = 1
) -> tuple[list[Result], float]:
    """Mark a piece, attack and detect it.

    Args:
        name: of the piece.
        frames: of the piece.
        number: of the piece, from which its payload follows.
        quick: take few attacks.
        turns: take every so many attacks, the next piece the next ones.

    Returns:
        a result an attack, and the PSNR of the marked frames in decibels.
    """
    payload = Payload(1_000_003 * (number + 1))
    mark = VideoMark(PUBLIC_KEY, payload)
    marked = [mark.apply(frame) for frame in frames]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mkv"
        for place, attack in enumerate(ATTACKS):
            if (quick and not attack.quick) or (number - place) % turns:
                continue
            apply(attack, marked, path)
            begin = time.perf_counter()
            seen = detect_video(path, quiet=True)
            results.append(Result(
                name, min(frames[0].shape[:2]), attack.name, seen.payload == payload, seen.found, seen.log10_p,
                time.perf_counter() - begin,
            ))  # fmt: skip
    return results, psnr(frames, marked)


def psnr(frames: Frames, marked: Frames) -> float:
    """Lowest of the frames, in decibels, over all three bytes of a pixel."""
    errors = [
        np.square(after.astype(np.float64) - before).mean()
        for before, after in zip(frames, marked, strict=True)
    ]
    return 10 * math.log10(255**2 / max(errors))


def unmarked_pictures(
    pieces: Sequence[tuple[str, Frames]], number: int, first: int = 0
) -> Iterator[tuple[Floats32, Key]]:
    """Mean pictures [144, 144] that do not bear the mark of the key beside them.

    In turn: cut from the mean of a piece; cut from a single frame that was scaled and turned; the same, marked with
    another key; noise; a made-up picture. By turns 25 are asked for the public key and 25 for a random one. It is
    one series, of which ``number`` pictures are given from the one with number ``first`` on.
    """
    rng = np.random.default_rng(12)
    side = UNMARKED_SIDE
    other = VideoMark(Key(rng.bytes(32)), Payload(1))
    grays = [[_gray(frame) for frame in frames[:: PIECE // 5]] for _, frames in pieces]
    key = PUBLIC_KEY
    for index in range(first + number):
        if index % KEY_CHANGES == 0:
            key = PUBLIC_KEY if index // KEY_CHANGES % 2 == 0 else Key(rng.bytes(32))
        which = int(rng.integers(len(pieces)))
        kind = index % 5
        picture = np.mean(grays[which], axis=0)
        if kind in (1, 2):
            frame = pieces[which][1][int(rng.integers(len(pieces[which][1])))]
            matrix = cv2.getRotationMatrix2D(
                (frame.shape[1] / 2, frame.shape[0] / 2), rng.uniform(-40, 40), rng.uniform(0.7, 1.5)
            )
            frame = np.asarray(cv2.warpAffine(frame, matrix, frame.shape[1::-1]), dtype=np.uint8)
            picture = _gray(other.apply(frame) if kind == 2 else frame)
        elif kind == 3:
            blur = float(rng.uniform(0.3, 4))
            picture = 128 + cv2.GaussianBlur(rng.normal(0, 30, (2 * side, 2 * side)), (0, 0), blur)
        elif kind == 4:
            coarse = np.asarray(rng.uniform(20, 235, (9, 9)), dtype=np.float32)
            picture = cv2.resize(coarse, (2 * side, 2 * side), interpolation=cv2.INTER_CUBIC)
            picture = picture + rng.normal(0, rng.uniform(0.5, 5), picture.shape)
        top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape)
        if index >= first:
            yield np.asarray(picture[top : top + side, left : left + side], dtype=np.float32), key


def _gray(frame: Image8) -> Floats32:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.float32)


def false_alarms(
    pieces: Sequence[tuple[str, Frames]], number: int, first: int = 0
) -> Iterator[dict[str, Any]]:
    """Search where nothing is: from the mean picture of a piece on, as the detector does.

    Args:
        pieces: where the pictures come from.
        number: of pictures.
        first: number of the first in the series of :func:`unmarked_pictures`.

    Yields:
        after every hundred searches and at the end,
        how many searches; how many alarms; the lowest decimal logarithm of a p-value; the share of p-values below
        each level; and the same share without a search, which shows how far the bound lies from what chance gives:
        keys drawn at random are asked at one placement of each piece.
    """
    large = [piece for piece in pieces if min(piece[1][0].shape[:2]) >= UNMARKED_SIDE]
    rng = np.random.default_rng([13, first])
    log_ps, single = [], []
    bar = tqdm(unmarked_pictures(large, number, first), desc="unmarked", total=number, unit="search")
    for picture, key in bar:
        white, carriers = whiten(picture), carriers_of(key)
        log_ps.append(find(white, carriers).log_p)
        column, row = np.concatenate([carriers.sync, carriers.data]).T
        values = fold(white, Placement(1.0))[row, column]
        turns = np.exp(2j * np.pi * rng.uniform(size=(DRAWS, len(values))))
        sizes = np.abs(values)
        single += [
            statistics.log_p_phases(float(score), sizes, sharp=True) for score in (turns @ values).real
        ]
        if len(log_ps) % 100 == 0 or len(log_ps) == number:
            yield {
                "first": first,
                "searches": len(log_ps),
                "alarms": int(sum(log_p < statistics.LOG_FOUND for log_p in log_ps)),
                "lowest_log10_p": statistics.log10(min(log_ps)),
                "share_below": {f"{level:g}": _below(log_ps, level) for level in LEVELS},
                "draws_without_search": len(single),
                "share_below_without_search": {f"{level:g}": _below(single, level) for level in LEVELS},
            }


def _below(log_ps: Sequence[float], level: float) -> float:
    return float(np.mean(np.array(log_ps) < math.log(level)))


def speed(height: int = 1080, width: int = 1920) -> dict[str, float]:
    """Processor time on one thread, whatever else the machine does.

    Returns:
        milliseconds to mark a frame, milliseconds to take a decoded frame into a piece, seconds to search a piece.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    mark = VideoMark(PUBLIC_KEY, Payload(0))
    frame: Image8 = made_up_piece(0, height, width)[0]
    planes = Planes.from_image(frame)
    piece = PieceSum(0.0, 2.0)

    def take() -> None:
        for _ in range(GROUP):
            piece.add(planes)

    figures = {
        "mark_ms": 1000 * _median_time(lambda: mark.apply(frame), 20),
        "take_ms": 1000 / GROUP * _median_time(take, 5),
        "search_s": _median_time(lambda: find(piece.piece().white, carriers_of(PUBLIC_KEY)), 3),
    }
    cv2.setNumThreads(threads)
    return figures


def _median_time(work: Callable[[], object], count: int) -> float:
    work()
    times = []
    for _ in range(count):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return float(np.median(times))


def table(results: Sequence[Result]) -> str:
    """Markdown: a row an attack."""
    headings = [f"{low} to {high - 1}" if high < math.inf else f"{low} and more" for low, high in CLASSES]
    lines = [
        f"| attack | target | {' | '.join(headings)} | median log10 p |",
        "| --- " * (len(CLASSES) + 3) + "|",
    ]
    for attack in ATTACKS:
        rows = [result for result in results if result.attack == attack.name]
        if rows:
            shares = [_share([row for row in rows if low <= row.short_side < high]) for low, high in CLASSES]
            target = f"{attack.target:g} %" if attack.target else "none"
            median = float(np.median([row.log10_p for row in rows]))
            lines.append(f"| {attack.name} | {target} | {' | '.join(shares)} | {median:.0f} |")
    return "\n".join(lines)


def _share(rows: Sequence[Result]) -> str:
    right = sum(row.right for row in rows)
    return f"{right} of {len(rows)} ({100 * right / len(rows):.0f} %)" if rows else "-"


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description="Measure what the marks survive.")
    parser.add_argument("--media", type=Path, nargs="+", required=True, help="folders with videos")
    parser.add_argument("--every", type=int, default=1, help="take every so many videos of each folder")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_PIECES} pieces and few attacks")
    parser.add_argument("--made-up", type=int, default=4, help="pieces of made-up video")
    parser.add_argument(
        "--turns", type=int, default=1, help="each piece takes every so many attacks, the next one the next"
    )
    parser.add_argument("--unmarked", type=int, default=10_000, help="searches in unmarked pieces")
    parser.add_argument(
        "--first", type=int, default=0, help="unmarked piece to begin with, to search in parts"
    )
    parser.add_argument("--no-survival", dest="survival", action="store_false", help="mark nothing")
    parser.add_argument("--output", type=Path, default=Path("runs/marks/figures.json"))
    options = parser.parse_args(arguments)
    if options.turns < 1:
        raise UserError("--turns must be 1 or more")
    pieces = []
    for folder in options.media:
        if not folder.is_dir():
            raise UserError(f"--media {folder} is no folder")
        pieces += list(pieces_of(folder, options.every))
    if options.quick:
        pieces = pieces[:: max(1, len(pieces) // QUICK_PIECES)][:QUICK_PIECES]
    made_up = 1 if options.quick else options.made_up
    results: list[Result] = []
    figures: dict[str, Any] = {"psnr": {}}
    marked = chain(pieces, made_up_pieces(made_up)) if options.survival else []
    bar = tqdm(marked, desc="marked", total=(len(pieces) + made_up) * options.survival, unit="piece")
    for number, (name, frames) in enumerate(bar):
        found, figures["psnr"][name] = measure_piece(name, frames, number, options.quick, options.turns)
        results += found
        figures["results"] = [asdict(result) for result in results]
        save(figures, options.output)
    figures["1080p"] = speed()
    pieces += made_up_pieces(min(made_up, UNMARKED_MADE_UP))
    for figures["unmarked"] in false_alarms(pieces, 10 if options.quick else options.unmarked, options.first):
        save(figures, options.output)
    save(figures, options.output)
    if results:
        qualities = list(figures["psnr"].values())
        print(table(results))
        print(f"\nPSNR: lowest {min(qualities):.2f} dB, mean {np.mean(qualities):.2f} dB")
    if "unmarked" in figures:
        print(f"unmarked: {figures['unmarked']}")
    print(f"1920x1080, one thread: {figures['1080p']}")


def save(figures: dict[str, Any], output: Path) -> None:
    """Write what there is so far."""
    with atomic_path(output) as path:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

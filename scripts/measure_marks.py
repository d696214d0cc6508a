"""Do the marks survive? ``python -m scripts.measure_marks --media DIR`` marks clips, attacks and detects them.

Every piece of 2 seconds is marked with a payload of its own, attacked, written to a file and given to the detector.
A piece counts where the payload is read right. Prints Markdown tables and writes JSON. Pieces of pictures whose
short side is below 480 pixels have a column of their own: they hold few pixels for a mark to live in.
"""

from __future__ import annotations

import json
import logging
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Image8
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.media.reader import VideoReader
from videoretalking.media.suffixes import VIDEO_SUFFIXES
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.scripts.mark_attacks.video import ATTACKS, FPS, Frames, apply

logger = logging.getLogger(__name__)

PIECE = 2 * FPS  # frames
LARGE = 480  # pixels of the short side
QUICK_PIECES = 4


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
    """The first 2 seconds of the videos of a folder, by name."""
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    for path in videos[::every]:
        with VideoReader(path) as video:
            frames = [frame.image for frame in islice(video, PIECE)]
        if len(frames) == PIECE:
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


def measure_piece(name: str, frames: Frames, number: int, quick: bool) -> tuple[list[Result], float]:
    """Mark a piece, attack and detect it.

    Returns:
        a result an attack, and the PSNR of the marked frames in decibels.
    """
    payload = Payload(1_000_003 * (number + 1))
    mark = VideoMark(PUBLIC_KEY, payload)
    marked = [mark.apply(frame) for frame in frames]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mkv"
        for attack in ATTACKS:
            if quick and not attack.quick:
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


def false_alarms(pieces: Sequence[tuple[str, Frames]], number: int) -> dict[str, float]:
    """Look into unmarked pieces with keys of nobody.

    Returns:
        how many searches, how many alarms, and the lowest p-value as decimal logarithm.
    """
    lowest, alarms = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "piece.mkv"
        for index in tqdm(range(number), desc="unmarked", unit="search"):
            _, frames = pieces[index % len(pieces)]
            if index < len(pieces) or index % len(pieces) == 0:
                apply(ATTACKS[0], frames, path)
            seen = detect_video(path, Key(b"nobody's" + index.to_bytes(16, "big")), quiet=True)
            lowest, alarms = min(lowest, seen.log10_p), alarms + seen.found
    return {"searches": number, "alarms": alarms, "lowest_log10_p": lowest}


def speed(height: int = 1080, width: int = 1920) -> float:
    """Milliseconds that marking one frame takes on one thread."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    mark = VideoMark(PUBLIC_KEY, Payload(0))
    frame: Image8 = made_up_piece(0, height, width)[0]
    mark.apply(frame)
    times = []
    for _ in range(20):
        begin = time.process_time()  # what else the machine does must not count
        mark.apply(frame)
        times.append(time.process_time() - begin)
    cv2.setNumThreads(threads)
    return 1000 * float(np.median(times))


def table(results: Sequence[Result]) -> str:
    """Markdown: a row an attack."""
    lines = [f"| attack | target | short side >= {LARGE} | smaller | median log10 p |", "| --- " * 5 + "|"]
    for attack in ATTACKS:
        rows = [result for result in results if result.attack == attack.name]
        if rows:
            large = _share([row for row in rows if row.short_side >= LARGE])
            small = _share([row for row in rows if row.short_side < LARGE])
            median = float(np.median([row.log10_p for row in rows]))
            lines.append(f"| {attack.name} | {attack.target:g} % | {large} | {small} | {median:.0f} |")
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
    parser.add_argument("--made-up", type=int, default=4, help="pieces of made-up video, 1280x720")
    parser.add_argument("--unmarked", type=int, default=200, help="searches in unmarked pieces")
    parser.add_argument("--output", type=Path, default=Path("runs/marks/figures.json"))
    options = parser.parse_args(arguments)
    pieces = []
    for folder in options.media:
        if not folder.is_dir():
            raise UserError(f"--media {folder} is no folder")
        pieces += list(pieces_of(folder, options.every))
    if options.quick:
        pieces = pieces[:: max(1, len(pieces) // QUICK_PIECES)][:QUICK_PIECES]
    pieces += [
        (f"made up {seed}", made_up_piece(seed)) for seed in range(1 if options.quick else options.made_up)
    ]
    results, qualities = [], {}
    for number, (name, frames) in enumerate(tqdm(pieces, desc="marked", unit="piece")):
        found, qualities[name] = measure_piece(name, frames, number, options.quick)
        results += found
    null = false_alarms(pieces, 10 if options.quick else options.unmarked)
    milliseconds = speed()
    print(table(results))
    print(f"\nPSNR: lowest {min(qualities.values()):.2f} dB, mean {np.mean(list(qualities.values())):.2f} dB")
    print(f"unmarked: {null}\nmarking 1920x1080: {milliseconds:.1f} ms on one thread")
    figures = {
        "results": [asdict(result) for result in results], "psnr": qualities, "unmarked": null,
        "milliseconds_1080p": milliseconds,
    }  # fmt: skip
    with atomic_path(options.output) as path:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

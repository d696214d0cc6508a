"""Where pass 1 works beside pass 2: in a thread, or in a process of its own.

Both passes are mostly Python that tells a GPU what to do, and Python's lock lets one thread of a process do so at a
time. With released sizes pass 1 holds it for two of the five milliseconds that a frame of 1080p takes
(docs/gpu.md), so on a GPU that has the memory pass 1 gets a process of its own.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from tqdm import tqdm

from videoretalking.core.companion import Companion, CompanionLost
from videoretalking.core.devices import choose_device, keep_freed_memory
from videoretalking.core.errors import UserError
from videoretalking.core.workers import limit_threads
from videoretalking.faces.pieces import Piece
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.analyze import FaceTools, Pieces, find_pieces
from videoretalking.pipeline.config import AnalysisConfig
from videoretalking.pipeline.stream import threaded

FORCE_VARIABLE = "VIDEORETALKING_PASS_1"  # "process" or "thread" whatever the device, for tests

_AHEAD = 2  # pieces that a thread may be ahead of pass 2
# Bytes of a GPU's memory that must be free: a second process takes two gigabytes of it, mostly for CUDA itself.
_LEAST_FREE = 12 << 30

logger = logging.getLogger(__name__)

PassOne = Companion[tuple[Path, AnalysisConfig], tuple[Piece, float]]


def begin_apart(tools: FaceTools, device: torch.device) -> PassOne | None:
    """A process for pass 1, which loads its tools while this one goes on; None where pass 1 is to stay here.

    Args:
        tools: picklable, not loaded yet.
        device: where their networks run.
    """
    wanted = os.environ.get(FORCE_VARIABLE)
    if device.type == "cuda":
        # which "cuda" alone means is a matter of each process
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        roomy = wanted is None and torch.cuda.mem_get_info(device)[0] >= _LEAST_FREE
        wanted = "process" if roomy else wanted
    # a program that holds Python, or is packed into one file, has no interpreter to start
    if wanted != "process" or not sys.executable or getattr(sys, "frozen", False):
        return None
    try:
        return Companion(partial(_finder, tools, str(device)))
    except OSError as error:
        logger.info("pass 1 gets no process of its own: %s", error.strerror or error)
        return None


def find_beside(reader: VideoReader, options: AnalysisConfig, tools: FaceTools) -> Pieces:
    """As :func:`pipeline.analyze.find_pieces`, in a thread, some pieces ahead of who asks."""
    return threaded(find_pieces(reader, options, tools), _AHEAD)


def find_apart(process: PassOne, reader: VideoReader, options: AnalysisConfig, tools: FaceTools) -> Pieces:
    """The same in the process, or here if that is gone or busy; begins when the first piece is asked for."""
    count = 0
    bar = tqdm(desc="pass 1 of 2: faces", total=reader.info.num_frames, unit="frame", delay=2.0)
    try:
        with bar, closing(process((reader.path, options))) as found:
            for piece, duration in found:
                yield piece, duration
                count += 1
                bar.update(len(piece.times))
        return
    except UserError:
        raise
    except CompanionLost as lost:
        logger.info("pass 1 goes on in this process, as its own cannot do it: %s", lost)
    except Exception as error:  # such as memory that only this process can free; a defect shows itself again
        process.close()
        logger.warning(
            "pass 1 goes on in this process, as its own failed: %s: %s", type(error).__name__, error
        )
    # the same pieces again, of which some are known
    with closing(find_beside(reader, options, tools)) as again:
        yield from islice(again, count, None)


def _finder(tools: FaceTools, device: str) -> Callable[[tuple[Path, AnalysisConfig]], Pieces]:
    """Over there: what does the jobs."""
    choose_device(device)
    keep_freed_memory()
    limit_threads(1)
    tools.load()

    def find(job: tuple[Path, AnalysisConfig]) -> Pieces:
        path, options = job
        return find_pieces(VideoReader(path), options, tools)

    return find

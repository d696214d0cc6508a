"""Pass 1: where the faces are, how they move, and what they show; streamed once over the video and cached.

It comes in pieces (:mod:`faces.pieces`), so that pass 2 can begin with the first while the others are to come.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from videoretalking.core.arrays import AnyImage, Floats32
from videoretalking.core.coefficients import WINDOW_BEFORE
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.faces.detect import FaceDetector, PreparingDetector
from videoretalking.faces.pieces import Cut, GrowingTracks, Piece, PieceCutter, PieceMaker
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor
from videoretalking.faces.track import FaceTracker, ShotDetector, TrackerConfig
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.picture import Picture
from videoretalking.media.video import Look, VideoInfo, VideoReader
from videoretalking.pipeline.config import AnalysisConfig
from videoretalking.pipeline.stream import threaded

logger = logging.getLogger(__name__)

CACHE_VERSION = 3  # raise when the meaning of a cached track changes
_INDEX = "analysis.json"
_BLOCK = 1 << 22  # bytes hashed at once
_AHEAD = 4  # frames decoded before the tracker asks
_BATCH = 8  # faces that the regressor sees at once


Reconstructor = NetworkReconstructor | FitReconstructor
# Pieces, and for each how many seconds its last frame is shown, 0 where the file does not say.
Pieces = Generator[tuple[Piece, float], None, None]


class FaceTools(Protocol):
    """What pass 1 works with; loaded only when a video was not analyzed before.

    ``identity`` is a text that changes whenever the tools would give other results (part of the cache key).
    """

    @property
    def identity(self) -> str:
        """See the class."""
        ...

    def load(self) -> tuple[FaceDetector, Reconstructor]:
        """The detector and what makes 3DMM rows."""
        ...


@dataclass(frozen=True)
class Analysis:
    """What pass 2 needs to know about a video.

    Attributes:
        path: the video or image.
        info: its header.
        times: [N] float64 presentation time of every frame in seconds.
        last_duration: seconds that the last frame is shown.
        tracks: the faces, largest first; may be empty.
        key: hash of content and settings.
        cached: whether the tracks came from the cache.
    """

    path: Path
    info: VideoInfo
    times: npt.NDArray[np.float64]
    last_duration: float
    tracks: list[FaceTrack]
    key: str
    cached: bool


Find = Callable[[VideoReader, AnalysisConfig, FaceTools], Pieces]


class RunningAnalysis:
    """Pass 1 of a video while it goes on.

    Attributes:
        path: the video or image.
        info: its header.
        result: the whole, once it is known; stored in the cache then.
        seconds: that it took so far of the time of who asks.

    Args:
        path: the video or image.
        info: its header.
        pieces: what pass 1 finds, made when it is asked for; None where it was found before.
        keep: stores the whole and names it.
        result: the whole where it was found before.
        timed: counts the time of pass 1.
    """

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        pieces: Pieces | None = None,
        keep: Callable[[Analysis], Analysis] = lambda analysis: analysis,
        result: Analysis | None = None,
        timed: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self.path, self.info, self.result = path, info, result
        self.seconds = 0.0
        self._pieces, self._keep, self._timed = pieces, keep, timed
        self._grown = GrowingTracks()
        self._shown_until = 0
        self._last_duration = 0.0

    @property
    def tracks(self) -> list[FaceTrack]:
        """The faces known so far."""
        return self._grown.tracks if self.result is None else self.result.tracks

    @property
    def times(self) -> npt.NDArray[np.float64]:
        """Seconds of the frames known so far."""
        return self._grown.times if self.result is None else self.result.times

    @property
    def ready(self) -> int:
        """Frames that can be rendered; D-Net's windows reach further, and the next time ends a duration."""
        return min(self._shown_until, len(self.times) - 1)

    def go_on(self) -> None:
        """Wait for the next piece; after the last the result is there.

        Raises:
            UserError: unreadable video.
        """
        if self.result is not None or self._pieces is None:
            return
        started = time.monotonic()
        with self._timed():
            item = next(self._pieces, None)
            if item is None:
                times = self._grown.times
                last_duration = self._last_duration or _usual_step(times, self.info)
                found = Analysis(self.path, self.info, times, last_duration, self._grown.tracks, "", False)
                self.result = self._keep(found)
            else:
                piece, self._last_duration = item
                self._grown.add(piece)
                self._shown_until = len(self._grown) - (0 if piece.whole else WINDOW_BEFORE)
        self.seconds += time.monotonic() - started

    def finish(self) -> Analysis:
        """Go on to the end."""
        while self.result is None:
            self.go_on()
        return self.result

    def close(self) -> None:
        """Stop, wherever it is."""
        if self._pieces is not None:
            self._pieces.close()


def analyze(
    path: str | Path,
    options: AnalysisConfig,
    tools: FaceTools,
    cache_dir: Path | None = None,
    refresh: bool = False,
) -> Analysis:
    """Track the faces of a video, or fetch the tracks of an earlier run on the same content and settings.

    Args:
        path: video or image.
        options: settings.
        tools: detector and reconstructor.
        cache_dir: folder of cached tracks; None keeps none.
        refresh: ignore what is cached.

    Raises:
        UserError: unreadable video, damaged weights.
    """
    with closing(begin_analysis(path, options, tools, cache_dir, refresh)) as running:
        return running.finish()


def begin_analysis(
    path: str | Path,
    options: AnalysisConfig,
    tools: FaceTools,
    cache_dir: Path | None = None,
    refresh: bool = False,
    find: Find | None = None,
    timed: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> RunningAnalysis:
    """As :func:`analyze`, which waits for the end; to be closed.

    Args:
        path: see there, and for the following ones.
        options: settings.
        tools: detector and reconstructor.
        cache_dir: folder of cached tracks.
        refresh: ignore what is cached.
        find: where pass 1 works; None is :func:`find_pieces`, in the thread that asks, when it is asked.
        timed: counts the time of pass 1.

    Raises:
        UserError: unreadable video, damaged weights.
    """
    started = time.monotonic()
    with timed():
        running = _begin(Path(path), options, tools, cache_dir, refresh, find or find_pieces, timed)
    running.seconds = time.monotonic() - started
    return running


def _begin(
    path: Path,
    options: AnalysisConfig,
    tools: FaceTools,
    cache_dir: Path | None,
    refresh: bool,
    find: Find,
    timed: Callable[[], AbstractContextManager[None]],
) -> RunningAnalysis:
    reader = VideoReader(path)
    info, key = reader.info, cache_key(path, options, tools.identity)
    folder = None if cache_dir is None else cache_dir / key
    if folder is not None and not refresh:
        stored = _load(folder, key)
        if stored is not None:
            logger.info("pass 1 skipped: %s was analyzed before (%s)", path.name, folder)
            return RunningAnalysis(path, info, result=Analysis(path, info, *stored, key=key, cached=True))

    def keep(found: Analysis) -> Analysis:
        tracks = [replace(track, settings=key) for track in found.tracks]
        if folder is not None:
            _store(folder, key, found.times, found.last_duration, tracks)
        return replace(found, tracks=tracks, key=key)

    return RunningAnalysis(path, info, find(reader, options, tools), keep, timed=timed)


def cache_key(path: Path, options: AnalysisConfig, tools_identity: str) -> str:
    """Hash of the video's content and of everything that shapes its tracks."""
    settings = {
        "version": CACHE_VERSION,
        "content": file_digest(path),
        "options": asdict(options),
        "tools": tools_identity,
    }
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()


def file_digest(path: Path) -> str:
    """Hexadecimal hash of a file's content."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def find_pieces(reader: VideoReader, options: AnalysisConfig, tools: FaceTools) -> Pieces:
    """What pass 1 finds.

    Raises:
        UserError: unreadable video, damaged weights.
    """
    detector, reconstructor = tools.load()
    tracker, regressor = make_tracker(options, detector, reconstructor)
    fit = reconstructor if isinstance(reconstructor, FitReconstructor) else None
    cutter, make = PieceCutter(tracker, fits=fit is not None), PieceMaker(fit)
    waiting: deque[Cut] = deque()
    expected = 1 if options.still else reader.info.num_frames
    duration: float | None = None
    with reader:
        looks = islice(reader.looks(), 1) if options.still else reader.looks()
        with closing(_followed(looks, cutter, tracker, regressor)) as followed:
            for look, cuts in tqdm(
                followed, desc="pass 1 of 2: faces", total=expected, unit="frame", delay=2.0
            ):
                duration = float(look.duration * reader.info.time_base)
                waiting += cuts
                while waiting and waiting[0].draft.ready:
                    yield make(waiting.popleft()), duration
    if duration is None:
        raise UserError(f"{reader.path}: no frame could be decoded")
    for cut in (*waiting, cutter.finish()):
        yield make(cut), duration


def make_tracker(
    options: AnalysisConfig, detector: FaceDetector, reconstructor: Reconstructor
) -> tuple[FaceTracker, Regressor | None]:
    """A tracker with these settings, and what makes its rows while it goes on; None where they come at the end."""
    if options.region is not None:
        detector = _RegionDetector(detector, options.region)
    config = TrackerConfig() if options.smooth else TrackerConfig(smooth_seconds=0.0)
    regressor = Regressor(reconstructor) if isinstance(reconstructor, NetworkReconstructor) else None
    return FaceTracker(detector, config, regressor), regressor


def _followed(
    looks: Iterator[Look], cutter: PieceCutter, tracker: FaceTracker, regressor: Regressor | None
) -> Generator[tuple[Look, list[Cut]], None, None]:
    """The frames, each once the tracker saw it, with the pieces that are known then.

    Decoding with all that needs nothing but the frame, tracking, and the regressor run beside each other.

    The heaviest network runs in the thread that asks: the C library keeps freed memory for it there only
    (:func:`core.devices.keep_freed_memory`).
    """

    def watched() -> Iterator[tuple[Look, bool]]:
        shots, detector = ShotDetector(), tracker.detector
        for number, look in enumerate(looks):
            cut = shots.update(look.picture)
            # the tracker, a few frames behind, knows; searches for those that are missing are its own
            if isinstance(detector, PreparingDetector) and (cut or number in (0, tracker.next_search)):
                detector.prepare(look.picture)
            yield look, cut

    def tracked(ahead: Iterator[tuple[Look, bool]]) -> Iterator[tuple[Look, list[Cut]]]:
        for look, cut in ahead:
            yield look, cutter.update(look.picture, look.time, cut)

    with closing(threaded(watched(), _AHEAD)) as ahead:
        if regressor is None:
            yield from tracked(ahead)
            return
        with closing(threaded(tracked(ahead), _BATCH)) as seen:
            for item in seen:
                regressor.work(_BATCH)
                yield item
            regressor.work(1)


class Regressor:
    """Collects the faces whose rows are wanted, and works them off in batches.

    Args:
        reconstructor: makes the rows.
    """

    def __init__(self, reconstructor: NetworkReconstructor) -> None:
        self.reconstructor = reconstructor
        self._wanted: deque[tuple[Picture, Floats32, Future[Floats32]]] = deque()

    def __call__(self, picture: Picture, landmarks: Floats32) -> Future[Floats32]:
        """As :data:`faces.track.Measure` says."""
        row: Future[Floats32] = Future()
        self._wanted.append((picture, landmarks, row))
        return row

    def work(self, least: int) -> None:
        """Make rows as long as at least so many are wanted."""
        while len(self._wanted) >= least:
            batch = [self._wanted.popleft() for _ in range(min(_BATCH, len(self._wanted)))]
            pictures, landmarks, rows = zip(*batch, strict=True)
            for row, values in zip(rows, self.reconstructor.rows(pictures, landmarks), strict=True):
                row.set_result(values)


def _usual_step(times: npt.NDArray[np.float64], info: VideoInfo) -> float:
    return float(np.median(np.diff(times))) if len(times) > 1 else float(1 / info.fps)


class _RegionDetector:
    """Looks for new faces in a part of the frame only.

    Args:
        detector: the real one.
        region: top, bottom, left, right in pixels; -1 means the border of the frame.
    """

    def __init__(self, detector: FaceDetector, region: tuple[int, int, int, int]) -> None:
        self.detector = detector
        self.name = detector.name
        self.search_every = detector.search_every
        self.region = region

    def detect(self, frame: AnyImage, thorough: bool = False) -> list[Face]:
        """Faces found in the region, in pixels of the whole frame."""
        height, width = frame.shape[:2]
        top, bottom, left, right = self.region
        bottom, right = (height if bottom < 0 else bottom), (width if right < 0 else right)
        part = frame[max(top, 0) : bottom, max(left, 0) : right]
        if part.size == 0:
            raise UserError(
                f"--crop {' '.join(map(str, self.region))} leaves nothing of the {width}x{height} frame"
            )
        shift = np.array([max(left, 0), max(top, 0)], dtype=np.float32)
        return [
            Face(
                face.box + np.tile(shift, 2),
                face.score,
                None if face.landmarks is None else face.landmarks + shift,
            )
            for face in self.detector.detect(np.ascontiguousarray(part), thorough)
        ]

    def follow(self, frame: Picture, face: Face) -> Face | None:
        """As the real detector."""
        return self.detector.follow(frame, face)


def _store(
    folder: Path, key: str, times: npt.NDArray[np.float64], last_duration: float, tracks: list[FaceTrack]
) -> None:
    """Tracks first, the index last: a folder with an index is complete."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, track in enumerate(tracks):
            track.save(folder / _track_name(number))
        index = {"key": key, "tracks": len(tracks), "last_duration": last_duration, "times": times.tolist()}
        with atomic_path(folder / _INDEX) as temporary:
            temporary.write_text(json.dumps(index), encoding="utf-8")
    except OSError as error:
        logger.warning(
            "face tracks cannot be cached in %s (%s); going on without", folder, error.strerror or error
        )


def _load(folder: Path, key: str) -> tuple[npt.NDArray[np.float64], float, list[FaceTrack]] | None:
    """What :func:`_store` wrote; None if there is nothing usable."""
    try:
        index: dict[str, Any] = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        tracks = [FaceTrack.load(folder / _track_name(number)) for number in range(index["tracks"])]
        if index["key"] == key and all(track.settings == key for track in tracks):
            return np.asarray(index["times"], dtype=np.float64), float(index["last_duration"]), tracks
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, UserError) as error:
        logger.warning("cached face tracks in %s are damaged (%s); analyzing again", folder, error)
    return None


def _track_name(number: int) -> str:
    return f"track_{number:03d}.npz"

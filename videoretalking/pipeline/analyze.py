"""Pass 1: where the faces are, how they move, and what they show; streamed once over the video and cached."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from videoretalking.core.arrays import AnyImage, Floats32
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.faces.detect import FaceDetector
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor
from videoretalking.faces.track import FaceTracker, TrackerConfig
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.picture import Picture
from videoretalking.media.video import Look, VideoInfo, VideoReader
from videoretalking.pipeline.config import AnalysisConfig
from videoretalking.pipeline.stream import threaded

logger = logging.getLogger(__name__)

CACHE_VERSION = 2  # raise when the meaning of a cached track changes
_INDEX = "analysis.json"
_BLOCK = 1 << 22  # bytes hashed at once
_AHEAD = 4  # frames decoded before the tracker asks
_BATCH = 8  # faces that the regressor sees at once


Reconstructor = NetworkReconstructor | FitReconstructor


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
    path = Path(path)
    with VideoReader(path) as reader:
        info = reader.info
        key = cache_key(path, options, tools.identity)
        folder = None if cache_dir is None else cache_dir / key
        if folder is not None and not refresh:
            stored = _load(folder, key)
            if stored is not None:
                logger.info("pass 1 skipped: %s was analyzed before (%s)", path.name, folder)
                return Analysis(path, info, *stored, key=key, cached=True)
        times, last_duration, tracks = _track(reader, options, *tools.load())
    tracks = [replace(track, settings=key) for track in tracks]
    if folder is not None:
        _store(folder, key, times, last_duration, tracks)
    return Analysis(path, info, times, last_duration, tracks, key=key, cached=False)


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


def _track(
    reader: VideoReader, options: AnalysisConfig, detector: FaceDetector, reconstructor: Reconstructor
) -> tuple[npt.NDArray[np.float64], float, list[FaceTrack]]:
    tracker, regressor = make_tracker(options, detector, reconstructor)
    looks = islice(reader.looks(), 1) if options.still else reader.looks()
    times: list[float] = []
    last: Look | None = None
    expected = 1 if options.still else reader.info.num_frames
    with closing(_followed(looks, tracker, regressor)) as followed:
        for look in tqdm(followed, desc="pass 1 of 2: faces", total=expected, unit="frame", delay=2.0):
            times.append(look.time)
            last = look
    if last is None:
        raise UserError(f"{reader.path}: no frame could be decoded")
    tracks = tracker.finish()
    if isinstance(reconstructor, FitReconstructor):
        tracks = [reconstructor(track) for track in tracks]
    duration = float(last.duration * reader.info.time_base) or _usual_step(times, reader.info)
    return np.asarray(times), duration, tracks


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
    looks: Iterator[Look], tracker: FaceTracker, regressor: Regressor | None
) -> Generator[Look, None, None]:
    """The frames, each once the tracker saw it; decoding, tracking and the regressor run beside each other.

    The heaviest network runs in the thread that asks: the C library keeps freed memory for it there only
    (:func:`core.devices.keep_freed_memory`).
    """

    def tracked(ahead: Iterator[Look]) -> Iterator[Look]:
        for look in ahead:
            tracker.update(look.picture, look.time)
            yield look

    with closing(threaded(looks, _AHEAD)) as ahead:
        if regressor is None:
            yield from tracked(ahead)
            return
        with closing(threaded(tracked(ahead), _BATCH)) as seen:
            for look in seen:
                regressor.work(_BATCH)
                yield look
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


def _usual_step(times: list[float], info: VideoInfo) -> float:
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

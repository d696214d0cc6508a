"""Score one generated video: decode it in step with its source and feed every metric the same chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Image8
from videoretalking.faces.types import Face, runs
from videoretalking.media.audio import load_waveform
from videoretalking.media.reader import Frame, VideoReader
from videoretalking.metrics.base import Chunk, Clip, Metric, frame_grid
from videoretalking.metrics.face_tracks import SyncTrack, TrackingConfig, link_faces
from videoretalking.metrics.fid import FidFeatures


@dataclass(frozen=True)
class VideoFaces:
    """The faces of a video.

    Attributes:
        times: [N] float64 presentation time of each frame in seconds.
        shots: [N] int64 number of the shot of each frame.
        faces: for each frame the face that is dubbed, or None.
        detections: for each frame the boxes [K, 4] of every face found with enough confidence.
    """

    times: npt.NDArray[np.float64]
    shots: npt.NDArray[np.int64]
    faces: Sequence[Face | None]
    detections: Sequence[npt.NDArray[np.floating[Any]]]


FaceFinder = Callable[[Path], VideoFaces]

_TIE = 1e-6  # seconds: halfway between two source frames the earlier one counts


@dataclass(frozen=True)
class _Step:
    """A generated frame and the source frame that it replaces."""

    frame: Frame
    source: Frame | None


class VideoScorer:
    """Runs the metrics over videos, one after the other.

    Args:
        metrics: what to measure.
        find_faces: faces of a video file.
        tracking: settings of the tracker behind the sync scores.
        chunk_size: frames that are decoded and measured at once.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        find_faces: FaceFinder,
        tracking: TrackingConfig | None = None,
        chunk_size: int = 16,
    ) -> None:
        self.metrics = metrics
        self.find_faces = find_faces
        self.tracking = tracking or TrackingConfig()
        self.chunk_size = chunk_size

    def __call__(self, generated: Path, source: Path | None, speech: Path | None) -> dict[str, float]:
        """Measure one video.

        Args:
            generated: the result.
            source: the video it was made from; None leaves out what compares with it.
            speech: file with the sound to score against; None if there is none.

        Returns:
            The values of all metrics.

        Raises:
            UserError: a file cannot be decoded.
        """
        found = self.find_faces(generated)
        source_found = None
        if source is not None and _frame_size(source) == _frame_size(generated):
            source_found = found if source == generated else self.find_faces(source)
        clip = Clip(found.times, read_speech(speech), sync_tracks(found, self.tracking))
        for metric in self.metrics:
            metric.reset(clip)
        for chunk in self._chunks(generated, found, source, source_found):
            for metric in self.metrics:
                metric.update(chunk)
        values: dict[str, float] = {"frames": float(len(found.times))}
        for metric in self.metrics:
            values.update(metric.compute())
        return values

    def _chunks(
        self, generated: Path, found: VideoFaces, source: Path | None, source_found: VideoFaces | None
    ) -> Iterator[Chunk]:
        waiting: list[_Step] = []
        for step in _in_step(generated, source if source_found is not None else None):
            full = len(waiting) == self.chunk_size
            if waiting and (full or (step.source is None) != (waiting[0].source is None)):
                yield _to_chunk(waiting, found, source_found)
                waiting = []
            waiting.append(step)
        if waiting:
            yield _to_chunk(waiting, found, source_found)


def _in_step(generated: Path, source: Path | None) -> Iterator[_Step]:
    """Each generated frame with the source frame nearest in time, both counted from their first frame."""
    with VideoReader(generated) as result:
        if source is None:
            yield from (_Step(frame, None) for frame in result)
            return
        with VideoReader(source) as original:
            originals = iter(original)
            current = next(originals)
            following = next(originals, None)
            origin, source_origin = None, current.time
            step = float(1 / original.info.fps)
            for frame in result:
                origin = frame.time if origin is None else origin
                time = frame.time - origin + source_origin
                while following is not None and abs(following.time - time) < abs(current.time - time) - _TIE:
                    current, following = following, next(originals, None)
                ended = following is None and time > current.time + step / 2 + _TIE
                yield _Step(frame, None if ended else current)


def _to_chunk(steps: list[_Step], found: VideoFaces, source_found: VideoFaces | None) -> Chunk:
    sources = [step.source for step in steps if step.source is not None]
    return Chunk(
        start=steps[0].frame.index,
        generated=_stack([step.frame for step in steps]),
        source=_stack(sources) if sources else None,
        faces=[found.faces[step.frame.index] for step in steps],
        source_faces=[source_found.faces[frame.index] for frame in sources]
        if source_found is not None
        else (),
    )


def _stack(frames: Sequence[Frame]) -> Image8:
    return np.stack([frame.image for frame in frames])


def _frame_size(path: Path) -> tuple[int, int]:
    with VideoReader(path) as video:
        return video.info.width, video.info.height


def read_speech(path: Path | None) -> npt.NDArray[np.int16] | None:
    """16 kHz mono sound of a file as 16-bit integers; None for None."""
    if path is None:
        return None
    return np.clip(np.rint(load_waveform(path) * 32768.0), -32768, 32767).astype(np.int16)


def sync_tracks(found: VideoFaces, config: TrackingConfig) -> list[SyncTrack]:
    """Tracks of the published sync protocol, shot by shot, on the 25 fps grid."""
    grid = frame_grid(found.times)
    tracks = []
    for shot in runs(found.shots[grid]):
        for track in link_faces([found.detections[frame] for frame in grid[shot]], config):
            tracks.append(SyncTrack(shot.start + track.start, track.boxes, track.half_size, track.centers))
    return tracks


def video_features(path: Path, features: FidFeatures, chunk_size: int = 16) -> npt.NDArray[np.float32]:
    """FID features [frames, features] of a real video."""
    features.reset(Clip(times=np.zeros(0)))
    for chunk in _plain_chunks(path, chunk_size):
        features.update(chunk)
    return features.features


def _plain_chunks(path: Path, size: int) -> Iterator[Chunk]:
    with VideoReader(path) as video:
        waiting: list[Frame] = []
        for frame in video:
            waiting.append(frame)
            if len(waiting) == size:
                yield Chunk(waiting[0].index, _stack(waiting))
                waiting = []
        if waiting:
            yield Chunk(waiting[0].index, _stack(waiting))

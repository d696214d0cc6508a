"""Both passes over frames that come one after the other: finished frames while later ones are still to come.

The buffer holds the frames that are not finished. A shot that ends within it is treated as a whole, as the two
passes treat it. Of a longer one a stretch is finished while the rest of the buffer serves as look-ahead: smoothing,
gaps and D-Net's windows reach less far. What the two passes take from the whole of a shot is taken from what was
seen of it: which face is the largest, whether a face is to be trusted, the identity of the bundled face model, and
the scale of the one-shot mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.coefficients import WINDOW_BEFORE
from videoretalking.core.errors import UserError
from videoretalking.faces.reconstruct import FitReconstructor
from videoretalking.faces.track import FaceTracker, ShotDetector
from videoretalking.faces.types import FaceTrack
from videoretalking.pipeline.analyze import Reconstructor, Regressor
from videoretalking.pipeline.render import RenderedFrame, Renderer
from videoretalking.pipeline.report import FrameReport

LOOK_AHEAD = 50  # frames: two seconds
_LOOK_BACK = 2 * WINDOW_BEFORE  # frames: what smoothing and gaps reach back to, and more


@dataclass(frozen=True)
class Shown:
    """A frame of the stream.

    Attributes:
        index: its number.
        time: seconds.
        image: [H, W, 3] uint8 RGB.
    """

    index: int
    time: float
    image: Image8


class LiveShot:
    """One shot whose frames come one after the other.

    Args:
        tracker: a fresh one.
        regressor: makes its rows, or None.
        reconstructor: makes the rows where there is no regressor.
        make_renderer: makes the renderer from the first tracks; None as long as the wanted face is not among them.
        start: number of the first frame.
        step: seconds that a frame is shown.
    """

    def __init__(
        self,
        tracker: FaceTracker,
        regressor: Regressor | None,
        reconstructor: Reconstructor,
        make_renderer: Callable[[list[FaceTrack]], Renderer | None],
        start: int,
        step: float,
    ) -> None:
        self.waiting: list[Shown] = []
        self._tracker, self._regressor, self._reconstructor = tracker, regressor, reconstructor
        self._make_renderer = make_renderer
        self._renderer: Renderer | None = None
        self._start, self._step = start, step
        self._finished = 0
        self._tracks: list[FaceTrack] = []

    def add(self, frame: Shown) -> None:
        """See the next frame of the shot."""
        self._tracker.update(frame.image, frame.time, cut=False)
        self.waiting.append(frame)

    def finish(self, count: int) -> Iterator[RenderedFrame]:
        """Finish the first ``count`` frames that wait, with the others as look-ahead."""
        self._extend_tracks()
        shown, self.waiting = self.waiting[:count], self.waiting[count:]
        self._finished += len(shown)
        if self._renderer is not None:
            self._renderer.follow(self._tracks)
        else:
            self._renderer = self._make_renderer(self._tracks)
        if self._renderer is None:
            for frame in shown:
                report = FrameReport(frame.index, frame.index, round(frame.time, 6), speech=0.0)
                yield RenderedFrame(frame.image, frame.time, self._step, report)
            return
        images = [(frame.image, frame.index - self._start, frame.time) for frame in shown]
        ahead = [(frame.image, frame.index - self._start) for frame in self.waiting]
        for frame, done in zip(shown, self._renderer.finish(images, self._step, ahead), strict=True):
            yield replace(done, report=replace(done.report, index=frame.index, source=frame.index))

    def _extend_tracks(self) -> None:
        """What is known now of the frames that wait behind what was known of the finished ones."""
        if self._regressor is not None:
            self._regressor.work(1)
        since = max(0, self._finished - _LOOK_BACK)
        tracks = []
        for number, track in enumerate(self._tracker.so_far(since)):
            old = self._tracks[number] if number < len(self._tracks) else None
            if isinstance(self._reconstructor, FitReconstructor):
                track = self._reconstructor(track, None if old is None else _person(old))
            tracks.append(_joined(old, track, since, self._finished))
        self._tracks = tracks


def finished_frames(
    frames: Iterable[Image8],
    fps: float,
    look_ahead: int,
    new_shot: Callable[[int, tuple[int, int]], LiveShot],
) -> Iterator[RenderedFrame]:
    """Cut a stream into shots and finish its frames.

    Args:
        frames: [H, W, 3] uint8 RGB, all of one size.
        fps: frames a second.
        look_ahead: frames that may be seen before one is finished.
        new_shot: makes a shot from the number of its first frame and the size (width, height) of the frames.

    Raises:
        UserError: a frame that is no picture, or of another size than the first.
    """
    cuts, size = ShotDetector(), None
    shot: LiveShot | None = None
    for index, image in enumerate(frames):
        size = _checked_size(image, index, size)
        if cuts.update(image) or shot is None:
            if shot is not None:
                yield from shot.finish(len(shot.waiting))
            shot = new_shot(index, size)
        shot.add(Shown(index, index / fps, image))
        if len(shot.waiting) > look_ahead:
            yield from shot.finish(len(shot.waiting) - look_ahead // 2)
    if shot is not None:
        yield from shot.finish(len(shot.waiting))


def _checked_size(image: Any, index: int, known: tuple[int, int] | None) -> tuple[int, int]:
    """The size (width, height) of a frame.

    Raises:
        UserError: see :func:`finished_frames`.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"frame {index} of the stream is no [height, width, 3] array of uint8 RGB")
    size = image.shape[1], image.shape[0]
    if known not in (None, size):
        raise UserError(f"frame {index} of the stream has the size {size}, the ones before have {known}")
    return size


def _person(track: FaceTrack) -> Floats32 | None:
    """A row of a face, if it was seen."""
    seen = np.flatnonzero(track.present)
    return track.rows[seen[0]] if len(seen) else None


def _joined(old: FaceTrack | None, new: FaceTrack, since: int, finished: int) -> FaceTrack:
    """The finished frames of a track, and what is known now of the others; ``new`` begins with frame ``since``."""
    if old is None:
        old = FaceTrack.empty(np.zeros(finished), new.frame_size, new.backend)
    parts: dict[str, Any] = {
        field.name: np.concatenate(
            [getattr(old, field.name)[:finished], getattr(new, field.name)[finished - since :]]
        )
        for field in fields(FaceTrack)
        if isinstance(getattr(new, field.name), np.ndarray)
    }
    return replace(new, **parts)

"""Following the faces of a video: one search a shot, then from frame to frame; ends in smooth tracks.

Frames are seen once, in order, and never kept. Within a shot each face is a *tracklet*; a face that is lost
for a few frames and found again continues its tracklet and the gap is interpolated. When the video ends,
landmarks are smoothed with a Savitzky-Golay filter (paper, section 3.1), never across a cut or a gap, and
tracklets that do not overlap in time are chained into tracks: track 0 holds the largest face of every
moment, track 1 the next, and so on.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Image8, Ints64
from videoretalking.core.errors import UserError
from videoretalking.faces.align import lipsync_box
from videoretalking.faces.boxes import overlap, smooth_boxes
from videoretalking.faces.detect import FaceDetector
from videoretalking.faces.types import Face, FaceTrack
from videoretalking.media.picture import Picture, as_picture

Real = TypeVar("Real", np.float32, np.float64)
# A row of numbers, [262], measured on a face (frame, landmarks [68, 2]) at the latest when the video ends.
Measure = Callable[[Picture, Floats32], "Future[Floats32]"]

# Assumed: the paper gives neither window nor degree. A quarter of a second of quadratics removes the jitter
# of single frames and keeps lips and nods, which move more slowly.
_SMOOTH_DEGREE = 2
_EAGERNESS = 25  # searches are this much more frequent while a face is missing
_RATE_FRAMES = 25  # frames of a face that tell the video's rate, and so the filter's window, for good
_BOX_REACH = 2  # frames that the smoothing of the boxes reaches to both sides


@dataclass(frozen=True)
class TrackerConfig:
    """Settings of the tracker.

    Attributes:
        smooth_seconds: span of the Savitzky-Golay window; 0 switches smoothing off.
        max_gap: frames that may be missing in a row and are interpolated.
        min_length: frames a face must be seen in a shot (or throughout it, if the shot is shorter).
        min_score: least mean confidence of a face over the frames it was seen in.
        minor_share: a face smaller than this share of another one that is seen at the same time is minor.
        minor_score: least mean confidence of a minor face. Texture behind a speaker can look a little like a small
            face, while small faces are recognized as surely as large ones.
        min_face: least side of the landmarks' box in pixels.
        same_face: share of the smaller box from which two faces that overlap are taken for one.
    """

    smooth_seconds: float = 0.28
    max_gap: int = 5
    min_length: int = 3
    min_score: float = 0.8
    minor_share: float = 0.5
    minor_score: float = 0.95
    min_face: float = 16.0
    same_face: float = 0.4


class ShotDetector:
    """Tells hard cuts from motion, one frame at a time.

    A cut changes the colors of the whole picture, or its content by far more than the frames before it.
    """

    _SIZE = (64, 36)
    _MIN_CHANGE, _MIN_COLOR_CHANGE = 0.05, 0.25
    _MIN_JUMP, _JUMP_FACTOR, _JUMP_HISTORY = 0.06, 6.0, 8
    _QUIET = 0.002  # change of a still picture by coding noise

    def __init__(self) -> None:
        self._previous: tuple[npt.NDArray[np.int16], Floats64] | None = None
        self._changes: deque[float] = deque(maxlen=self._JUMP_HISTORY)

    def update(self, frame: Image8 | Picture) -> bool:
        """Whether ``frame`` [H, W, 3] uint8 starts a new shot; the first frame does not."""
        picture = as_picture(frame)
        step = max(1, min(picture.size) // (2 * self._SIZE[1]))
        small = cv2.resize(picture.samples(step), self._SIZE, interpolation=cv2.INTER_AREA)
        levels = (small // 64).astype(np.int64)  # four levels a channel
        histogram = np.bincount((levels @ [16, 4, 1]).ravel(), minlength=64) / levels[..., 0].size
        values = small.astype(np.int16)
        previous, self._previous = self._previous, (values, histogram)
        if previous is None:
            return False
        change = float(np.abs(values - previous[0]).mean()) / 255.0
        color_change = float(np.abs(histogram - previous[1]).sum()) / 2.0
        usual = max(float(np.median(self._changes)), self._QUIET) if len(self._changes) >= 3 else np.inf
        cut = (change > self._MIN_CHANGE and color_change > self._MIN_COLOR_CHANGE) or (
            change > self._MIN_JUMP and change > self._JUMP_FACTOR * usual
        )
        if cut:
            self._changes.clear()
        else:
            self._changes.append(change)
        return cut


@dataclass
class _Tracklet:
    """One face within one shot; frames in which it was seen, in order.

    Attributes:
        chain: number of the track that it went to when the tracks were asked for; it stays there.
        window: of the smoothing filter in frames, if it was seen long enough when the tracks were asked for.
        first: number of the first frame.
    """

    chain: int | None = None
    window: int | None = None
    first: int = -1
    frames: list[int] = field(default_factory=list)
    faces: list[Face] = field(default_factory=list)
    rows: list[Future[Floats32]] = field(default_factory=list)

    @property
    def last(self) -> Face:
        return self.faces[-1]

    def add(self, index: int, face: Face, row: Future[Floats32] | None) -> None:
        if not self.frames:
            self.first = index
        self.frames.append(index)
        self.faces.append(face)
        if row is not None:
            self.rows.append(row)

    def since(self, index: int, window: int) -> _Tracklet:
        """A copy that begins with frame ``index`` and does not grow."""
        place = bisect_left(self.frames, index)
        lists = self.frames[place:], self.faces[place:], self.rows[place:]
        return _Tracklet(self.chain, window, self.first, *lists)

    def forget(self, index: int) -> None:
        """Keep nothing of the frames before ``index`` but the last one that there is."""
        place = min(bisect_left(self.frames, index), len(self.frames) - 1)
        del self.frames[:place], self.faces[:place], self.rows[:place]

    @property
    def weight(self) -> float:
        """Area summed over frames: what makes a face the main one."""
        boxes = np.stack([face.box for face in self.faces])
        return float((boxes[:, 2:] - boxes[:, :2]).prod(axis=1).sum())

    @property
    def score(self) -> float:
        """Mean confidence."""
        return float(np.mean([face.score for face in self.faces]))

    @property
    def size(self) -> float:
        """Usual side of the landmarks' box in pixels."""
        return float(np.median([(face.box[2:] - face.box[:2]).max() for face in self.faces]))

    def meets(self, other: _Tracklet) -> bool:
        """Whether both are seen at the same time."""
        return self.first <= other.frames[-1] and other.first <= self.frames[-1]


@dataclass(frozen=True)
class Draft:
    """The tracks of a stretch of frames; rows may still be on their way.

    Args:
        template: a track of these frames without any face.
        since: number of the first frame.
        rows_until: number of the frame before which rows are wanted; the others stay zero.
        chains: what was seen of the faces.
    """

    template: FaceTrack
    since: int
    rows_until: int
    chains: Sequence[Sequence[_Tracklet]]

    @property
    def ready(self) -> bool:
        """Whether all rows are there."""
        return all(row.done() for chain in self.chains for item in chain for row in self._rows(item))

    def tracks(self) -> list[FaceTrack]:
        """The tracks, the one with the largest faces first; waits for rows."""
        return [self._build(chain) for chain in self.chains]

    def _rows(self, item: _Tracklet) -> list[Future[Floats32]]:
        return item.rows[: bisect_left(item.frames, self.rows_until)]

    def _build(self, chain: Sequence[_Tracklet]) -> FaceTrack:
        """One track from tracklets that do not overlap in time."""
        template = self.template
        arrays = {name: getattr(template, name).copy() for name in ("present", "scores", "landmarks_raw")}
        landmarks, boxes, rows = template.landmarks.copy(), template.boxes.copy(), template.rows.copy()
        for item in chain:
            if not item.frames:
                continue
            frames = np.asarray(item.frames) - self.since
            span = slice(int(frames[0]), int(frames[-1]) + 1)
            points = np.stack([face.landmarks for face in item.faces if face.landmarks is not None])
            arrays["scores"][frames] = [face.score for face in item.faces]
            arrays["present"][span] = True
            arrays["landmarks_raw"][span] = _filled(frames, points)
            if known := self._rows(item):
                measured = frames[: len(known)]
                rows[measured[0] : measured[-1] + 1] = _filled(
                    measured, np.stack([row.result() for row in known])
                )
            landmarks[span] = savgol(arrays["landmarks_raw"][span], item.window or 1, _SMOOTH_DEGREE)
            boxes[span] = smooth_boxes(lipsync_box(landmarks[span]), 2 * _BOX_REACH + 1)
        return replace(template, landmarks=landmarks, boxes=boxes, rows=rows, **arrays)


class FaceTracker:
    """Streaming tracker.

    Args:
        detector: finds and follows faces.
        config: settings.
        measure: makes the stored 3DMM rows, which may be ready only when the video ends, so that a network sees
            several frames at once; None leaves the rows zero.
    """

    def __init__(
        self,
        detector: FaceDetector,
        config: TrackerConfig | None = None,
        measure: Measure | None = None,
    ) -> None:
        self.detector = detector
        self.config = config or TrackerConfig()
        self.measure = measure
        self._cuts = ShotDetector()
        self._times: list[float] = []
        self._shots: list[int] = []
        self._alive: list[_Tracklet] = []
        self._lost: list[_Tracklet] = []
        self._done: list[_Tracklet] = []
        self._size: tuple[int, int] | None = None
        self._last_search = 0

    def update(self, frame: Image8 | Picture, time: float, cut: bool | None = None) -> list[Face]:
        """See the next frame.

        Args:
            frame: [H, W, 3] uint8 RGB, all of one size.
            time: its presentation time in seconds.
            cut: whether it starts a new shot, by a :class:`ShotDetector` of who asks; None looks.

        Returns:
            The faces found in it, before smoothing.
        """
        index = len(self._times)
        picture = as_picture(frame)
        size = picture.size
        self._size = self._size or size
        if size != self._size:
            raise ValueError(f"frame {index} is {size}, the ones before are {self._size}")
        if cut is None:
            cut = self._cuts.update(picture)
        if cut:
            self._end_shot()
        self._times.append(time)
        self._shots.append((self._shots[-1] if self._shots else 0) + int(cut))
        seen = self._follow(picture, index)
        first = cut or index == 0
        if self._should_search(first, index):
            self._last_search = index
            found = self.detector.detect(picture.image, thorough=first or self._rarely(index))
            self._match(found, seen, index)
        self._record(picture, index, seen)
        return [face for _, face in seen]

    def finish(self) -> list[FaceTrack]:
        """All tracks of the video, the one with the largest faces first; empty if there never was a face."""
        self._end_shot()
        return self.so_far()

    def so_far(self, since: int = 0) -> list[FaceTrack]:
        """The tracks as if the video ended here; it may go on.

        A face that is in a track stays in it, whatever comes, so that the tracks of two moments fit together.

        Args:
            since: number of the frame with which the tracks begin. Smoothing and gaps begin there too.
        """
        return self.draft(since).tracks()

    @property
    def next_search(self) -> int:
        """Number of the frame that will be searched for newcomers if nobody is missing and no shot ends."""
        return self._last_search + self.detector.search_every

    # ---------------------------------------------------------------------------------- in pieces

    @property
    def shot_start(self) -> int:
        """Number of the first frame of the shot that goes on."""
        return bisect_left(self._shots, self._shots[-1]) if self._shots else 0

    def draft(self, since: int = 0, stop: int | None = None) -> Draft:
        """What :meth:`so_far` builds, to be built when the rows are there, while the tracker goes on.

        Args:
            since: number of the frame with which the tracks begin.
            stop: leave out the faces that were first seen in this frame or later; rows are wanted up to it.
        """
        count = len(self._times)
        stop = count if stop is None else stop
        seen = [item for item in (*self._done, *self._alive, *self._lost) if item.first < stop]
        credible = [item for item in seen if item.chain is not None or self._credible(item)]
        chosen = [item for item in credible if item.chain is not None or not self._doubtful(item, credible)]
        chains = []
        for chain in _chains(chosen):
            for item in chain:
                if item.window is None and len(item.frames) >= _RATE_FRAMES:
                    item.window = self._window_of(item)
            chains.append([item.since(since, self._window_of(item)) for item in chain])
        template = FaceTrack.empty(self._times[since:], self._size or (0, 0), self.detector.name)
        template = replace(template, shots=np.asarray(self._shots[since:], dtype=np.int64))
        # a gap is closed by the rows of the frames on both sides
        return Draft(template, since, min(stop + self.config.max_gap + 1, count), chains)

    def settled_until(self, least: int) -> int:
        """Number of the frame up to which nothing that comes in this shot will change its tracks.

        So far reaches what is smoothed and what a gap would close. Who is in track 0 is settled once a face was
        seen in ``least`` frames and is surely one, while every other face that it meets is minor, or gone and less
        by size and time. Where two large ones meet, the rest of the shot decides. Faces that are settled stay where
        they are.

        Args:
            least: frames in which a face must have been seen before anything is said about it.
        """
        going = [*self._alive, *self._lost]
        shot = [item for item in (*self._done, *going) if item.first >= self.shot_start]
        credible = [item for item in shot if item.chain is not None or self._credible(item)]
        settled = [item for item in shot if item.chain == 0]
        fresh = [item for item in shot if item.chain is None]

        def may_lead(item: _Tracklet) -> bool:
            if _among(item, going):
                return not self._is_minor(item, fresh)
            heavier = [other for other in credible if other.chain is None and other.weight > item.weight]
            return _among(item, credible) and not any(item.meets(other) for other in heavier)

        rivals = [
            item for item in fresh if may_lead(item) and not any(item.meets(other) for other in settled)
        ]
        few = not settled and sum(len(item.frames) for item in rivals) < least

        def is_open(item: _Tracklet) -> bool:
            if _among(item, rivals):
                alone = not any(item.meets(other) for other in rivals if other is not item)
                sure = _among(item, credible) and not self._doubtful(item, credible)
                if few or not alone or not sure:
                    return True
            return _among(item, going) and len(item.frames) < least

        return min([len(self._times) - self.reach, *(item.first for item in fresh if is_open(item))])

    @property
    def reach(self) -> int:
        """Frames to both sides that the smoothed landmarks and boxes of a frame may depend on."""
        items = (*self._done, *self._alive, *self._lost)
        window = max((self._window_of(item) for item in items), default=1)
        return window + self.config.max_gap + 2 * _BOX_REACH

    def forget(self, before: int) -> None:
        """Free what was seen before a frame that no draft will reach back to.

        Shots that ended by then can no longer be asked for.
        """
        start = self.shot_start
        self._done = [item for item in self._done if item.first >= start]
        for item in (*self._done, *self._alive, *self._lost):
            if item.chain is not None:
                item.forget(before)

    # ---------------------------------------------------------------------------------- following

    def _follow(self, frame: Picture, index: int) -> list[tuple[_Tracklet, Face]]:
        """Find the faces of the previous frame again; the rest become lost."""
        seen: list[tuple[_Tracklet, Face]] = []
        for tracklet in self._alive:
            face = self.detector.follow(frame, tracklet.last)
            if face is None or not self._large(face) or self._overlaps(face, seen):
                self._lost.append(tracklet)
            else:
                seen.append((tracklet, face))
        stale = [item for item in self._lost if index - item.frames[-1] > self.config.max_gap + 1]
        self._done += stale
        self._lost = [item for item in self._lost if not any(item is other for other in stale)]
        return seen

    def _should_search(self, first: bool, index: int) -> bool:
        """At the start of a shot, while something is missing, and now and then for newcomers."""
        missing = bool(self._lost) or not self._alive
        wait = self.detector.search_every
        return first or index - self._last_search >= (max(1, wait // _EAGERNESS) if missing else wait)

    def _rarely(self, index: int) -> bool:
        """Once a while of facelessness deserves a slower look."""
        return not self._alive and not self._lost and index % (2 * self.detector.search_every) == 0

    def _match(self, found: list[Face], seen: list[tuple[_Tracklet, Face]], index: int) -> None:
        """Give found faces to the lost tracklets they continue, and start new ones for the others."""
        for face in found:
            if not self._large(face) or self._overlaps(face, seen):
                continue
            tracklet = self._continued(face) or _Tracklet()
            self._lost = [item for item in self._lost if item is not tracklet]
            seen.append((tracklet, face))

    def _continued(self, face: Face) -> _Tracklet | None:
        """The lost tracklet whose last face is nearest, if it is near for its size."""
        near = [(_distance(item.last, face), item) for item in self._lost]
        near = [(distance, item) for distance, item in near if distance < 1.0]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    def _record(self, frame: Picture, index: int, seen: list[tuple[_Tracklet, Face]]) -> None:
        for tracklet, face in seen:
            assert face.landmarks is not None
            tracklet.add(index, face, self.measure(frame, face.landmarks) if self.measure else None)
        self._alive = [tracklet for tracklet, _ in seen]

    def _end_shot(self) -> None:
        self._done += [*self._alive, *self._lost]
        self._alive, self._lost = [], []

    def _large(self, face: Face) -> bool:
        return bool((face.box[2:] - face.box[:2]).max() >= self.config.min_face)

    def _overlaps(self, face: Face, seen: list[tuple[_Tracklet, Face]]) -> bool:
        return any(overlap(face.box, other.box) > self.config.same_face for _, other in seen)

    def _credible(self, tracklet: _Tracklet) -> bool:
        """Whether a tracklet was seen long and surely enough to be a face."""
        shot = self._shots[tracklet.first]
        shot_length = bisect_right(self._shots, shot) - bisect_left(self._shots, shot)
        return (
            len(tracklet.frames) >= min(self.config.min_length, shot_length)
            and tracklet.score >= self.config.min_score
        )

    def _doubtful(self, tracklet: _Tracklet, others: list[_Tracklet]) -> bool:
        """Whether a tracklet is minor and not seen as surely as a minor face must be."""
        return self._is_minor(tracklet, others) and tracklet.score < self.config.minor_score

    def _is_minor(self, tracklet: _Tracklet, others: list[_Tracklet]) -> bool:
        """Whether one of the others that it meets is larger by far."""
        largest = max((other.size for other in others if other.meets(tracklet)), default=0.0)
        return tracklet.size < self.config.minor_share * largest

    # ---------------------------------------------------------------------------------- smoothing

    def _window_of(self, tracklet: _Tracklet) -> int:
        """Frames of a face's smoothing filter."""
        if tracklet.window is not None:
            return tracklet.window
        return self._window(np.asarray(self._times[tracklet.first : tracklet.frames[-1] + 1]))

    def _window(self, times: Floats64) -> int:
        """Odd number of frames that spans the smoothing time at the video's own rate."""
        if len(times) < 2 or self.config.smooth_seconds <= 0:
            return 1
        step = float(np.median(np.diff(times)))
        # what rounding takes from a whole number of frames must not cost a frame
        return 2 * int(self.config.smooth_seconds / max(step, 1e-3) / 2 + 1e-6) + 1


def _distance(first: Face, second: Face) -> float:
    """Mean distance of the landmarks over half the face's size; below 1 they can be one moving face."""
    assert first.landmarks is not None and second.landmarks is not None
    size = float((second.box[2:] - second.box[:2]).max())
    apart = np.linalg.norm(first.landmarks - second.landmarks, axis=1).mean()
    return float(apart / max(size / 2, 1e-6))


def _among(tracklet: _Tracklet, others: Sequence[_Tracklet]) -> bool:
    """Whether it is one of these; those that hold the same are not the same."""
    return any(tracklet is other for other in others)


def _chains(tracklets: list[_Tracklet]) -> list[list[_Tracklet]]:
    """Chain tracklets that do not overlap in time, the largest faces first."""
    known = [tracklet for tracklet in tracklets if tracklet.chain is not None]
    chains: list[list[_Tracklet]] = [
        [] for _ in range(1 + max((item.chain or 0 for item in known), default=-1))
    ]
    for tracklet in known:
        chains[tracklet.chain or 0].append(tracklet)
    fresh = [tracklet for tracklet in tracklets if tracklet.chain is None]
    for tracklet in sorted(fresh, key=lambda item: -item.weight):
        for chain in chains:
            if not any(tracklet.meets(other) for other in chain):
                chain.append(tracklet)
                break
        else:
            chains.append([tracklet])
    for number, chain in enumerate(chains):
        for tracklet in chain:
            tracklet.chain = number
    return chains


def _filled(frames: Ints64, values: Floats32) -> Floats32:
    """Values at every frame from the first to the last, linear in between: [K, ...] -> [N, ...]."""
    wanted = np.arange(frames[0], frames[-1] + 1)
    right = np.clip(np.searchsorted(frames, wanted), 1, max(len(frames) - 1, 1))
    if len(frames) == 1:
        return values
    left = right - 1
    share = (wanted - frames[left]) / (frames[right] - frames[left])
    share = share.reshape(-1, *[1] * (values.ndim - 1)).astype(np.float32)
    return np.asarray((1 - share) * values[left] + share * values[right], dtype=np.float32)


def savgol(values: npt.NDArray[Real], window: int, degree: int) -> npt.NDArray[Real]:
    """Savitzky-Golay filter over time, with the polynomial of the end windows at the ends.

    Args:
        values: [N, ...] one run without cut or gap.
        window: odd number of frames; shorter runs use the longest that fits.
        degree: of the polynomial; runs too short for it come back unchanged.

    Returns:
        [N, ...] of the same type.
    """
    window = min(window, len(values) - 1 + len(values) % 2)
    if window <= degree:
        return values
    from scipy.signal import savgol_filter  # its import takes half a second

    smoothed = savgol_filter(values.astype(np.float64), window, degree, axis=0, mode="interp")
    return np.asarray(smoothed, dtype=values.dtype)


def select_tracks(tracks: list[FaceTrack], choice: str | int = "largest") -> list[FaceTrack]:
    """The faces the user wants.

    Args:
        tracks: of :meth:`FaceTracker.finish`.
        choice: ``largest`` (the first track), ``all``, or a number counting from the largest face, 0.

    Raises:
        UserError: no face at all, an unknown word, or a number beyond the faces there are.
    """
    if not tracks:
        raise UserError("no face was found in any frame of the video")
    if choice == "all":
        return tracks
    if choice == "largest":
        return tracks[:1]
    try:
        index = int(choice)
    except ValueError:
        raise UserError(f"unknown face choice {choice!r}: use largest, all or a number") from None
    if not 0 <= index < len(tracks):
        raise UserError(
            f"face {index} does not exist: the video has {len(tracks)} (counting from 0, largest first)"
        )
    return [tracks[index]]

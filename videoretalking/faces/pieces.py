"""Tracks in pieces: what is known of the faces for good while later frames are still to come.

A piece ends with its shot, or within a long shot where nothing that comes can change what was found so far
(:meth:`faces.track.FaceTracker.settled_until`). The pieces of a video, one behind the other, are its tracks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Image8, Ints64
from videoretalking.faces.reconstruct import FitReconstructor
from videoretalking.faces.track import Draft, FaceTracker
from videoretalking.faces.types import FaceTrack
from videoretalking.media.picture import Picture

_STEP = 25  # frames between two looks at what is known, and the least of a piece within a shot
# Frames in which a face was seen before anything is said about it: three seconds, and five where the identity of
# the bundled face model comes from them. The landmarks of one clip share their errors, so that more frames would
# tell the model little more about the person.
_LEAST, _LEAST_TO_FIT = 75, 125

_PER_FRAME = [
    field.name for field in fields(FaceTrack) if field.name not in ("frame_size", "backend", "settings")
]


@dataclass(frozen=True)
class Piece:
    """Consecutive frames whose faces are known for good.

    Attributes:
        times: [N] seconds.
        shots: [N] number of the shot.
        tracks: every track so far, of these N frames.
        whole: whether the shot ends with them.
    """

    times: Floats64
    shots: Ints64
    tracks: list[FaceTrack]
    whole: bool


@dataclass(frozen=True)
class Cut:
    """A piece whose rows may still be on their way.

    Attributes:
        first: number of its first frame.
        stop: number of the frame behind its last.
        draft: of its tracks, with the frames around it that smoothing needs.
        whole: see :class:`Piece`.
    """

    first: int
    stop: int
    draft: Draft
    whole: bool


class PieceCutter:
    """Follows faces and says where pieces end.

    Args:
        tracker: a fresh one.
        fits: whether a face model is fitted to the pieces.
    """

    def __init__(self, tracker: FaceTracker, fits: bool = False) -> None:
        self._tracker = tracker
        self._least = _LEAST_TO_FIT if fits else _LEAST
        self._count = self._first = 0  # frames seen; first frame of the next piece

    def update(self, frame: Image8 | Picture, time: float, cut: bool | None = None) -> list[Cut]:
        """See the next frame, as :meth:`faces.track.FaceTracker.update` does; the pieces that are known now."""
        start = self._tracker.shot_start
        self._tracker.update(frame, time, cut)
        self._count += 1
        if self._tracker.shot_start != start:
            return [self._cut(self._count - 1, start, whole=True)]
        if (self._count - start) % _STEP == 0:
            stop = self._tracker.settled_until(self._least)
            if stop - self._first >= _STEP:
                return [self._cut(stop, start, whole=False)]
        return []

    def finish(self) -> Cut:
        """The last piece, when the video has ended with at least one frame."""
        return self._cut(self._count, self._tracker.shot_start, whole=True)

    def _cut(self, stop: int, shot_start: int, whole: bool) -> Cut:
        since = max(shot_start, self._first - self._tracker.reach)
        cut = Cut(self._first, stop, self._tracker.draft(since, stop), whole)
        self._tracker.forget(since)
        self._first = stop
        return cut


class PieceMaker:
    """Makes the pieces of the cuts, in their order, once the rows are there.

    Args:
        fit: makes the rows of a piece, if nothing else made them. All pieces of a shot share the identity that the
            first one with the face gave.
    """

    def __init__(self, fit: FitReconstructor | None) -> None:
        self._fit = fit
        self._people: dict[int, Floats32] = {}  # track -> row of its person in the shot that goes on

    def __call__(self, cut: Cut) -> Piece:
        """The piece."""
        wanted = slice(cut.first - cut.draft.since, cut.stop - cut.draft.since)
        tracks = [_part(track, wanted) for track in cut.draft.tracks()]
        if self._fit is not None:
            tracks = [self._fitted(number, track) for number, track in enumerate(tracks)]
        if cut.whole:
            self._people.clear()
        template = cut.draft.template
        return Piece(template.times[wanted], template.shots[wanted], tracks, cut.whole)

    def _fitted(self, number: int, track: FaceTrack) -> FaceTrack:
        assert self._fit is not None
        seen = np.flatnonzero(track.present)
        if not len(seen):
            return track
        track = self._fit(track, self._people.get(number))
        self._people.setdefault(number, track.rows[seen[0]])
        return track


class GrowingTracks:
    """Tracks that become longer by a piece at a time, without being copied at each."""

    def __init__(self) -> None:
        self._empty = FaceTrack.empty(np.zeros(0), (0, 0))
        self._common = {name: _Growing(getattr(self._empty, name)) for name in ("times", "shots")}
        self._faces: list[dict[str, _Growing]] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def times(self) -> Floats64:
        """[N] seconds of all frames so far."""
        times: Floats64 = self._common["times"].values(self._count)
        return times

    @property
    def tracks(self) -> list[FaceTrack]:
        """All tracks so far; they share their memory with later ones."""
        common: dict[str, Any] = {name: array.values(self._count) for name, array in self._common.items()}
        return [
            replace(self._empty, **common | {name: array.values(self._count) for name, array in face.items()})
            for face in self._faces
        ]

    def add(self, piece: Piece) -> None:
        """Append a piece."""
        for name in self._common:
            self._common[name].put(self._count, getattr(piece, name))
        for track in piece.tracks[len(self._faces) :]:
            self._empty = _part(track, slice(0))
            names = [name for name in _PER_FRAME if name not in self._common]
            self._faces.append({name: _Growing(getattr(track, name)) for name in names})
        for face, track in zip(self._faces, piece.tracks, strict=False):
            for name, array in face.items():
                array.put(self._count, getattr(track, name))
        self._count += len(piece.times)


class _Growing:
    """An array that grows along its first axis; what nobody put there is zero."""

    def __init__(self, like: npt.NDArray[Any]) -> None:
        self._data = np.zeros((0, *like.shape[1:]), like.dtype)

    def put(self, start: int, values: npt.NDArray[Any]) -> None:
        self._reserve(start + len(values))
        self._data[start : start + len(values)] = values

    def values(self, count: int) -> npt.NDArray[Any]:
        self._reserve(count)
        return self._data[:count]

    def _reserve(self, count: int) -> None:
        if count > len(self._data):
            grown = np.zeros((count + count // 2, *self._data.shape[1:]), self._data.dtype)
            grown[: len(self._data)] = self._data
            self._data = grown


def _part(track: FaceTrack, frames: slice) -> FaceTrack:
    return replace(track, **{name: getattr(track, name)[frames] for name in _PER_FRAME})

"""Which frame of a person D-Net renders from: one in which the mouth rests (not in the paper).

The paper renders each frame anew from itself. A D-Net that saw minutes of film closes a mouth halfway, and what is
left of teeth and pursed lips comes through L-Net as soon as the speech pauses. Such a one says so in its checkpoint
(:class:`models.dnet.DNetConfig`), and gets the face from a frame near in pose and light whose mouth is closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.core.constants import DNET_SIZE
from videoretalking.core.landmarks import INNER_LIP_GAP, OUTER_EYE_CORNERS, OUTER_LIP_GAP, STILL
from videoretalking.faces.align import anchor_crop, fit_similarity
from videoretalking.faces.types import Crop, FaceTrack
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels, Raster

AHEAD = 75  # frames that are searched when a person appears: pass 1 must know them by then
_FIRST = 4  # of these are taken at once; later ones as they come by
_KEPT = 24  # of a person, at most
_HEIGHT = 0.3  # of the lips, in gaps between them: pursed lips do not rest either
_LIGHT = 0.2  # cost of light that differs by the factor e, in distances of the eyes
_GAIN = 0.01  # by which a frame must be better than the one before, for to change shows
_DARK = 0.02  # added to light before factors are taken

Fetch = Callable[[Sequence[int]], Iterable[Pixels]]


@dataclass(frozen=True)
class _Resting:
    """A frame whose mouth may stand in for that of others.

    Attributes:
        image: [256, 256, 3] in D-Net's crop.
        points: [68, 2] landmarks there.
        index: of the frame.
        light: mean of the face.
    """

    image: Pixels
    points: Floats64
    index: int
    light: float


class RestingSources:
    """Remembers for each person in each shot the frames in which the mouth rests.

    Args:
        raster: for the pixel work.
        fetch: frames of the video by number, in rising order, uploaded.
    """

    def __init__(self, raster: Raster, fetch: Fetch) -> None:
        self._raster, self._fetch = raster, fetch
        self._kept: dict[tuple[int, int], list[_Resting]] = {}
        self._last: dict[int, int] = {}  # track -> frame that stood in for the one before

    def __call__(
        self, faces: Sequence[FaceJob], tracks: Sequence[FaceTrack], crops: Sequence[Crop], own: Pixels
    ) -> tuple[Pixels, list[int]]:
        """What D-Net shall warp for each face.

        Args:
            faces: the faces.
            tracks: all of them, known for :data:`AHEAD` frames more or to their end.
            crops: D-Net's of the faces.
            own: [N, 256, 256, 3] the faces in them.

        Returns:
            The same of the chosen frames, with nose and eyes where the face has them; their numbers.
        """
        images, numbers = [], []
        for face, crop, image in zip(faces, crops, own, strict=True):
            image, number = self._choose(face, tracks[face.track], crop, image)
            images.append(image)
            numbers.append(number)
        return self._raster.stack(images), numbers

    def _choose(self, face: FaceJob, track: FaceTrack, crop: Crop, image: Pixels) -> tuple[Pixels, int]:
        person = (face.track, face.stretch)
        if person not in self._kept:
            self._kept[person] = self._find_first(face, track)
        kept = self._kept[person]
        mine = _Resting(image, crop.to_crop(face.landmarks), face.index, _light(image))
        costs = [_cost(item, mine) - _GAIN * (item.index == self._last.get(face.track)) for item in kept]
        best = int(np.argmin(costs)) if costs else -1
        if best < 0 or unrest(mine.points) <= costs[best] + 0.5 * _GAIN:
            if all(item.index != mine.index for item in kept):
                self._keep(kept, mine)
            self._last[face.track] = mine.index
            return image, mine.index
        chosen = kept[best]
        self._last[face.track] = chosen.index
        size = (DNET_SIZE, DNET_SIZE)
        view = Crop(fit_similarity(chosen.points[STILL], mine.points[STILL]), size)
        return self._raster.view(self._raster.stack([chosen.image]), [view], cubic=True)[0], chosen.index

    def _find_first(self, face: FaceJob, track: FaceTrack) -> list[_Resting]:
        """The frames among the next ones that serve all of these best."""
        stop = face.index + 1
        while stop < min(len(track.present), face.index + AHEAD) and track.present[stop]:
            stop += 1
        numbers = np.arange(face.index, stop)
        if len(numbers) < 2:
            return []
        crops = [anchor_crop(track.landmarks[number], DNET_SIZE) for number in numbers]
        points = np.stack(
            [crop.to_crop(track.landmarks[number]) for crop, number in zip(crops, numbers, strict=True)]
        )
        costs = np.array([unrest(item) for item in points])[:, None] + pose_differences(points)
        served = np.diagonal(costs).copy()
        taken: list[int] = []
        for _ in range(_FIRST):
            totals = np.minimum(costs, served).sum(axis=1)
            best = int(totals.argmin())
            if best in taken or totals[best] >= served.sum():
                break
            taken.append(best)
            served = np.minimum(served, costs[best])
        taken.sort()
        found = []
        for place, frame in zip(taken, self._fetch(numbers[taken].tolist()), strict=True):
            image = self._raster.cut([frame], [crops[place]])[0]
            found.append(_Resting(image, points[place], int(numbers[place]), _light(image)))
        return found

    def _keep(self, kept: list[_Resting], new: _Resting) -> None:
        kept.append(new)
        if len(kept) > _KEPT:
            kept.pop(int(np.argmax([unrest(item.points) for item in kept])))


def unrest(points: Floats32 | Floats64) -> float:
    """How far a mouth is from resting: gap and height of the lips of [68, 2], in distances of the outer eye corners."""
    gap, height, eyes = (
        np.linalg.norm(points[first] - points[second])
        for first, second in (INNER_LIP_GAP, OUTER_LIP_GAP, OUTER_EYE_CORNERS)
    )
    return float((gap + _HEIGHT * height) / eyes)


def pose_differences(points: Floats64) -> Floats64:
    """[N, N] how far nose and eyes of [N, 68, 2] in D-Net's crops are apart, in distances of the outer eye corners."""
    still = points[:, STILL]
    left, right = (points[:, corner] for corner in OUTER_EYE_CORNERS)
    eyes = np.linalg.norm(left - right, axis=1)
    apart: Floats64 = np.linalg.norm(still[:, None] - still, axis=3).mean(axis=2) / eyes
    return apart


def _cost(item: _Resting, mine: _Resting) -> float:
    """What is lost where one frame stands in for another."""
    pose = pose_differences(np.stack([item.points, mine.points]))[0, 1]
    light = abs(np.log((item.light + _DARK) / (mine.light + _DARK)))
    return float(unrest(item.points) + pose + _LIGHT * light)


def _light(image: Pixels) -> float:
    """Mean of the middle of a face."""
    side = DNET_SIZE // 4
    return float(image[side:-side, side:-side].mean())

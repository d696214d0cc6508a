"""A resting mouth in the face that D-Net renders anew (not in the paper).

The paper renders each frame from itself. A D-Net that saw minutes of film closes a mouth halfway, and what is left
of teeth and pursed lips comes through L-Net as soon as the speech pauses. Such a one says so in its checkpoint
(:class:`models.dnet.DNetConfig`), and gets each face with the mouth of a frame near in pose and light whose mouth
is closed. The expression that drives it stays that of the frame, whose chin and cheeks it still has to move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from videoretalking.core.arrays import Floats64
from videoretalking.core.constants import DNET_SIZE
from videoretalking.core.landmarks import INNER_LIP_GAP, OUTER_EYE_CORNERS, OUTER_LIP_GAP, STILL
from videoretalking.faces.align import anchor_crop, fit_similarity
from videoretalking.faces.types import Crop, FaceTrack
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels, Raster
from videoretalking.pipeline.stages.detail import REDUCTION, lips_mask

AHEAD = 75  # frames that are searched when a person appears: pass 1 must know them by then
_FIRST = 4  # of these are taken at once; later ones as they come by
_KEPT = 24  # of a person, at most
_HEIGHT = 0.3  # of the lips, in gaps between them: pursed lips do not rest either
_LIGHT = 0.2  # cost of light that differs by the factor e, in distances of the eyes
_GAIN = 0.01  # by which a frame must be better than the one before, for to change shows
_DARK = 0.02  # added to light before factors are taken
_MIDDLE = np.s_[64:144, 64:192]  # eyes and nose in D-Net's crop
_PLACE = 32  # pixels of D-Net's crop; four rows of six such places show the face from eyes to chin
_GRID = np.s_[80:208, 32:224]
_STRANGE = 0.25  # difference of one of them, not below the nose, from which on another frame does not serve
_TRIED = 3
_LIPS_MARGIN = 0.3  # eye distances around the lips of both frames that are taken over
_SAME_LIGHT = (0.04, 0.08)  # differences of means: nothing is done below the one, all of it above the other
_MOST_GAIN, _LEAST_SPREAD = 2.0, 0.01  # of contrast

Fetch = Callable[[Sequence[int]], Iterable[Pixels]]


@dataclass(frozen=True)
class _Resting:
    """A frame whose mouth may stand in for that of others.

    Attributes:
        image: [256, 256, 3] in D-Net's crop.
        points: [68, 2] landmarks there.
        eyes: distance of the outer eye corners there.
        unrest: of the mouth.
        light: mean of the face.
        index: of the frame.
    """

    image: Pixels
    points: Floats64
    eyes: float
    unrest: float
    light: float
    index: int

    @property
    def still(self) -> Floats64:
        """[K, 2] nose and eyes."""
        return self.points[STILL]

    @classmethod
    def of(cls, image: Pixels, landmarks: Floats64, index: int) -> _Resting:
        """Measured on an image and its [68, 2] points."""
        quarter = DNET_SIZE // 4
        light = float(image[quarter:-quarter, quarter:-quarter].mean())
        eyes = float(eye_distances(landmarks[None])[0])
        return cls(image, landmarks, eyes, float(unrest(landmarks[None])[0]), light, index)


class RestingMouths:
    """Remembers for each person, as long as a shot goes on, the frames in which the mouth rests.

    Args:
        raster: for the pixel work.
        fetch: frames of the video by number, in rising order, uploaded.
    """

    def __init__(self, raster: Raster, fetch: Fetch) -> None:
        self._raster, self._fetch = raster, fetch
        # track -> first frame of the stretch, and its frames
        self._kept: dict[int, tuple[int, list[_Resting]]] = {}
        self._last: dict[int, int] = {}  # track -> frame that stood in for the one before

    def __call__(
        self, faces: Sequence[FaceJob], tracks: Sequence[FaceTrack], crops: Sequence[Crop], own: Pixels
    ) -> Pixels:
        """The faces as D-Net shall see them.

        Args:
            faces: the faces.
            tracks: all of them, known for :data:`AHEAD` frames more or to their end.
            crops: D-Net's of the faces.
            own: [N, 256, 256, 3] float32 in [0, 1], the faces in them.

        Returns:
            The same with the mouths of the chosen frames.
        """
        return self._raster.stack(
            [
                self._choose(
                    face, tracks[face.track], _Resting.of(image, crop.to_crop(face.landmarks), face.index)
                )
                for face, crop, image in zip(faces, crops, own, strict=True)
            ]
        )

    def _choose(self, face: FaceJob, track: FaceTrack, mine: _Resting) -> Pixels:
        stretch, kept = self._kept.get(face.track, (-1, []))
        if stretch != face.stretch:
            kept = self._find_first(face, track)
            self._kept[face.track] = face.stretch, kept
        costs = self._costs(kept, mine, self._last.get(face.track))
        for place in np.argsort(costs)[:_TRIED].tolist():
            if costs[place] + 0.5 * _GAIN >= mine.unrest:
                break
            image = self._stand_in(kept[place], mine)
            if image is not None:
                self._last[face.track] = kept[place].index
                return image
        self._last[face.track] = mine.index
        if all(item.index != mine.index for item in kept):
            # a copy, since the image is a part of a batch
            kept.append(replace(mine, image=self._raster.stack([mine.image])[0]))
        if len(kept) > _KEPT:
            kept.pop(int(np.argmax([item.unrest for item in kept])))
        return mine.image

    def _stand_in(self, item: _Resting, mine: _Resting) -> Pixels | None:
        """The face with the mouth of another frame; None where the two look too different for that."""
        raster, size = self._raster, (DNET_SIZE, DNET_SIZE)
        view = Crop(fit_similarity(item.still, mine.still), size)
        (moved,) = raster.view(raster.stack([item.image]), [view], cubic=True)
        image = lit_alike(moved, mine.image)
        if strangeness(image, mine.image) > _STRANGE:
            return None
        lips = [view.to_crop(item.points), mine.points]
        there, here = lips_mask(raster, lips, DNET_SIZE // REDUCTION, _LIPS_MARGIN)
        taken = raster.stack([there + here - there * here] * 3, axis=2)
        (share,) = raster.enlarge(raster.stack([taken]), REDUCTION)
        return mine.image + share * (image - mine.image)

    def _costs(self, kept: Sequence[_Resting], mine: _Resting, last: int | None) -> Floats64:
        """[N] what is lost where a frame stands in for another, in distances of the eyes."""
        still = np.array([item.still for item in kept]).reshape(-1, *mine.still.shape)
        pose = np.linalg.norm(still - mine.still, axis=2).mean(axis=1) / mine.eyes
        light = np.abs(np.log([(item.light + _DARK) / (mine.light + _DARK) for item in kept]))
        loyalty = np.array([item.index == last for item in kept], dtype=float)
        costs: Floats64 = [item.unrest for item in kept] + pose + _LIGHT * light - _GAIN * loyalty
        return costs

    def _find_first(self, face: FaceJob, track: FaceTrack) -> list[_Resting]:
        """The frames among the next ones that together serve all of these best."""
        spans = track.present_slices()
        stop = next(span.stop for span in spans if span.start <= face.index < span.stop)
        stop = min(stop, face.index + AHEAD)
        if stop - face.index < 2:
            return []
        crops = [anchor_crop(landmarks, DNET_SIZE) for landmarks in track.landmarks[face.index : stop]]
        seen = zip(crops, track.landmarks[face.index : stop], strict=True)
        points = np.stack([crop.to_crop(landmarks) for crop, landmarks in seen])
        costs = unrest(points)[:, None] + pose_differences(points)
        served = np.diagonal(costs)
        taken: list[int] = []
        for _ in range(_FIRST):
            better = np.minimum(costs, served)
            best = int(better.sum(axis=1).argmin())
            if better[best].sum() >= served.sum():
                break
            taken.append(best)
            served = better[best]
        taken.sort()
        found = []
        for place, frame in zip(taken, self._fetch([face.index + place for place in taken]), strict=True):
            image = self._raster.cut([frame], [crops[place]])[0]
            found.append(_Resting.of(image, points[place], face.index + place))
        return found


def strangeness(image: Pixels, other: Pixels) -> float:
    """How differently two faces [256, 256, 3] look anywhere but at the mouth: the worst of a grid of places.

    Landmarks of a head in profile say a smaller turn than there is; then a cheek would stand before the background.
    """
    rows, columns = _GRID
    apart = abs(image[rows, columns] - other[rows, columns]).mean(axis=2)
    places = apart.reshape(4, _PLACE, 6, _PLACE).mean(axis=(1, 3))
    return float(max(places[:2].max(), places[2:, 0].max(), places[2:, -1].max()))


def lit_alike(image: Pixels, other: Pixels) -> Pixels:
    """A face [256, 256, 3] in the light of another one: mean and contrast of each color as eyes and nose have them.

    A fade or a shade changes how far the lips stand out from the skin, which an even shift would leave. Where the
    light is nearly the same nothing is done: a blink changes these figures as well.
    """
    means, spreads = zip(*(_light_of(item[_MIDDLE]) for item in (image, other)), strict=True)
    gain = (spreads[1] / spreads[0]).clip(1.0 / _MOST_GAIN, _MOST_GAIN)
    least, enough = _SAME_LIGHT
    share = min(max((float(abs(means[1] - means[0]).max()) - least) / (enough - least), 0.0), 1.0)
    lit = ((image - means[0]) * gain + means[1]).clip(0.0, 1.0)
    return image + share * (lit - image)


def _light_of(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """Mean and spread of each color of [H, W, 3]."""
    mean = pixels.mean(axis=(0, 1))
    return mean, ((pixels - mean) ** 2).mean(axis=(0, 1)) ** 0.5 + _LEAST_SPREAD


def unrest(points: Floats64) -> Floats64:
    """[N] how far mouths are from resting: gap and height of the lips of [N, 68, 2], in distances of the eyes."""
    gap, height = (
        np.linalg.norm(points[:, upper] - points[:, lower], axis=1)
        for upper, lower in (INNER_LIP_GAP, OUTER_LIP_GAP)
    )
    result: Floats64 = (gap + _HEIGHT * height) / eye_distances(points)
    return result


def eye_distances(points: Floats64) -> Floats64:
    """[N] pixels between the outer eye corners of [N, 68, 2]."""
    left, right = OUTER_EYE_CORNERS
    distances: Floats64 = np.linalg.norm(points[:, left] - points[:, right], axis=1).clip(1.0)
    return distances


def pose_differences(points: Floats64) -> Floats64:
    """[N, N] how far nose and eyes of [N, 68, 2] in D-Net's crops are apart, in distances of the eyes."""
    still = points[:, STILL]
    apart: Floats64 = np.linalg.norm(still[:, None] - still, axis=3).mean(axis=2) / eye_distances(points)
    return apart

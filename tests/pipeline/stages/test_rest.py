from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from drawn_face import face_landmarks

from videoretalking.core.landmarks import INNER_LIP_GAP, OUTER_LIP_GAP
from videoretalking.faces.align import anchor_crop, box_crop, lipsync_box
from videoretalking.faces.types import FaceTrack
from videoretalking.media.picture import as_picture
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import ArrayRaster, Pixels, Raster
from videoretalking.pipeline.raster_torch import TensorRaster
from videoretalking.pipeline.stages.rest import AHEAD, RestingMouths, lit_alike

ARRAYS = ArrayRaster(torch.device("cpu"))
COUNT = 120
CLOSED = (40, 100)  # frames of the track below in which the mouth is closed


def _face(opening: float, x: float = 60) -> np.ndarray:
    """A drawn face whose lips are ``opening`` pixels further apart."""
    points = face_landmarks(x)
    for upper, lower in (INNER_LIP_GAP, OUTER_LIP_GAP):
        points[lower] = points[upper] + [0, (1 if upper == INNER_LIP_GAP[0] else 9) + opening]
    return points


def _track(openings: Sequence[float], **changes: np.ndarray) -> FaceTrack:
    landmarks = np.stack([_face(opening) for opening in openings])
    empty = FaceTrack.empty(np.arange(len(openings)) / 25, (240, 200))
    found = {"landmarks": landmarks, "present": np.ones(len(openings), bool)} | changes
    return replace(empty, **found)  # type: ignore[arg-type]


@pytest.fixture
def track() -> FaceTrack:
    return _track([0.0 if index in CLOSED else 12.0 for index in range(COUNT)])


def _frame(index: int, light: float = 1.0) -> np.ndarray:
    """A picture whose lower part says which one it is."""
    frame = np.full((200, 240, 3), round(light * 120), np.uint8)
    frame[118:] = round(light * (100 + index))
    return frame


class _Person:
    """Frames of a track as D-Net would get them, by number; remembers which were fetched out of turn."""

    def __init__(self, track: FaceTrack, light: dict[int, float] | None = None) -> None:
        self.track, self.light = track, light or {}
        self.fetched: list[int] = []
        self.rest = RestingMouths(ARRAYS, self.fetch)

    def frame(self, index: int) -> np.ndarray:
        return _frame(index, self.light.get(index, 1.0))

    def fetch(self, numbers: Sequence[int]) -> list[Pixels]:
        self.fetched += numbers
        return ARRAYS.upload([as_picture(self.frame(number)) for number in numbers])

    def show(self, *indices: int, stretch: int = 0) -> list[int]:
        """The frames that stand in for some frames, as the pictures say."""
        landmarks = [self.track.landmarks[index] for index in indices]
        faces = [
            FaceJob(
                self.frame(index), 0, index, stretch, 0.0, points, box_crop(lipsync_box(points), (96, 96))
            )
            for index, points in zip(indices, landmarks, strict=True)
        ]
        crops = [anchor_crop(points, 256) for points in landmarks]
        own = ARRAYS.cut([face.frame for face in faces], crops)
        shown = self.rest(faces, [self.track], crops, own)
        assert shown.shape == (len(indices), 256, 256, 3)
        mouths = [crop.to_crop(points)[57].astype(int) for crop, points in zip(crops, landmarks, strict=True)]
        return [
            round(255 * float(image[y : y + 9, x - 9 : x + 9].mean())) - 100
            for image, (x, y) in zip(shown, mouths, strict=True)
        ]


def test_an_open_mouth_comes_from_the_next_frames_with_a_closed_one(track: FaceTrack) -> None:
    person = _Person(track)
    assert person.show(0, 1, 2) == [40, 40, 40]
    assert person.fetched == [40]
    assert person.show(39, 40, 41) == [40, 40, 40]
    assert person.fetched == [40]  # once, whatever the chunks


def test_nothing_is_known_beyond_what_pass_1_is_asked_for() -> None:
    openings = [12.0] * (AHEAD + 10)
    openings[AHEAD] = 0.0
    person = _Person(_track(openings))
    assert person.show(0) == [0] and AHEAD not in person.fetched
    assert person.show(AHEAD, AHEAD + 1) == [AHEAD] * 2  # remembered once it came by


@pytest.mark.parametrize("cut", [{"present": np.arange(60) != 30}, {"shots": (np.arange(60) >= 30) * 1}])
def test_shots_and_gaps_part_what_is_remembered(cut: dict[str, np.ndarray]) -> None:
    openings = [0.0 if index == 35 else 12.0 for index in range(60)]
    person = _Person(_track(openings, **cut))
    assert 35 not in person.show(0, 1) and 35 not in person.fetched
    assert person.show(31, 32, stretch=31) == [35, 35]
    assert 35 not in person.show(0, 1)  # played again: the other stretch is forgotten


def test_a_closed_mouth_in_other_light_or_pose_does_not_serve(track: FaceTrack) -> None:
    assert 40 not in _Person(track, {40: 0.05}).show(0, 1)
    turned = track.landmarks.copy()
    turned[40, 27:36, 0] += 40  # the nose beyond an eye
    person = _Person(replace(track, landmarks=turned))
    assert 40 not in person.show(0, 1)


def test_the_mouth_comes_to_where_the_face_would_have_it(track: FaceTrack) -> None:
    """What stands in is moved with nose and eyes, and the rest of the face stays as it is."""
    moved = track.landmarks.copy()
    moved[40] = _face(0.0, x=90)
    person = _Person(replace(track, landmarks=moved))
    lip = OUTER_LIP_GAP[1]
    x, y = moved[40, lip].astype(int)
    marked = _frame(40)
    marked[y - 2 : y + 3, x - 2 : x + 3] = 255
    person.frame = lambda index: marked if index == 40 else _frame(index)  # type: ignore[method-assign]
    landmarks = moved[0]
    face = FaceJob(_frame(0), 0, 0, 0, 0.0, landmarks, box_crop(lipsync_box(landmarks), (96, 96)))
    crop = anchor_crop(landmarks, 256)
    (shown,) = person.rest([face], [person.track], [crop], ARRAYS.cut([face.frame], [crop]))
    row, column = np.unravel_index(shown[..., 0].argmax(), shown.shape[:2])
    np.testing.assert_allclose([column, row], crop.to_crop(_face(0.0))[lip], atol=6)
    (plain,) = ARRAYS.cut([face.frame], [crop])
    np.testing.assert_array_equal(shown[:60], plain[:60])


def test_memory_does_not_grow_with_the_shot() -> None:
    """Ever better frames come by; no more than a fixed number of them stays."""
    person = _Person(_track(np.linspace(12.0, 0.0, 90).tolist()))
    person.show(*range(90))
    ((_, kept),) = person.rest._kept.values()
    assert len(kept) <= 24
    assert min(item.unrest for item in kept) == pytest.approx(
        min(item.unrest for item in kept if item.index >= 80)
    )


def test_a_single_frame_is_left_alone() -> None:
    person = _Person(_track([12.0]))
    assert person.show(0) == [0] and not person.fetched


@pytest.mark.parametrize("raster", [ARRAYS, TensorRaster(torch.device("cpu"))])
def test_what_stands_in_is_lit_as_the_face(raster: Raster) -> None:
    """Darker, paler and bluer, as in a fade: lips are as far from the skin as they would be there."""
    face = np.random.default_rng(0).uniform(0.3, 0.8, (256, 256, 3)).astype(np.float32)
    other = 0.6 * face * np.float32([0.8, 0.8, 1.0]) + 0.1
    both = [raster.pixels(torch.from_numpy(item).permute(2, 0, 1)[None])[0] for item in (face, other)]
    lit = np.asarray(lit_alike(*both))
    np.testing.assert_allclose(lit, other, atol=0.02)
    assert np.abs(lit - face).mean() > 0.1


def test_a_frame_that_looks_otherwise_does_not_serve_whatever_landmarks_say(track: FaceTrack) -> None:
    """A head in profile with landmarks of a frontal one: what should be a cheek is background."""
    person = _Person(track)
    profile = _frame(40)
    profile[:, 140:] = 5
    person.frame = lambda index: profile if index == 40 else _frame(index)  # type: ignore[method-assign]
    assert 40 not in person.show(0, 1, 39)
    assert 40 in person.fetched

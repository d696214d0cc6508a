"""New lips get the color of those in the frames, and nothing else gets any."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.core.colors import BT601_LUMA
from videoretalking.core.landmarks import INNER_LIPS, OUTER_LIPS
from videoretalking.faces.align import extract
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.raster_torch import TensorRaster
from videoretalking.pipeline.stages.lips import LipColors

CPU = torch.device("cpu")
SIZE = 192
SKIN, RED, NEAR, ORANGE = (200, 160, 140), (170, 60, 70), (172, 64, 54), (190, 70, 30)
Colors = tuple[int, int, int]


def mouth(
    lips: Colors, inside: Colors | None = None, index: int = 0, stretch: int = 0, x: float = 60
) -> FaceJob:
    """A face of a frame, whose mouth is open where a color for its inside is given."""
    landmarks = face_landmarks(x=x)
    frame = face_frame(landmarks)
    cv2.fillPoly(frame, [np.round(landmarks[OUTER_LIPS]).astype(np.int32)], lips)
    if inside is not None:
        cv2.fillPoly(frame, [np.round(landmarks[INNER_LIPS]).astype(np.int32)], inside)
    face = face_job(frame, landmarks, size=SIZE, index=index)
    face.stretch = stretch
    return face


def crop(face: FaceJob) -> np.ndarray:
    """[S, S, 3] float32 in [0, 1]."""
    return extract(face.frame, face.crop).astype(np.float32) / 255


def moved(match: LipColors, faces: list[FaceJob], painted: list[np.ndarray]) -> np.ndarray:
    """Patches of faces with the lips of their frames."""
    originals = torch.from_numpy(np.stack([crop(face) for face in faces])).permute(0, 3, 1, 2)
    return np.asarray(match(faces, np.stack(painted), originals))


def at(face: FaceJob, image: np.ndarray, *numbers: int) -> np.ndarray:
    """[3] the color at the mean of some landmarks, in levels."""
    x, y = np.round(face.crop.to_crop(face.landmarks)[list(numbers)].mean(axis=0)).astype(int)
    return np.asarray(255 * image[y - 1 : y + 2, x - 1 : x + 2].mean(axis=(0, 1)))


def chroma(color: np.ndarray) -> np.ndarray:
    return np.asarray(color - color @ np.array(BT601_LUMA))


@pytest.fixture
def match() -> LipColors:
    return LipColors(ArrayRaster(CPU))


def test_lips_get_the_color_of_those_in_the_frame(match: LipColors) -> None:
    face = mouth(RED)
    before = crop(mouth(NEAR))
    (after,) = moved(match, [face], [before.copy()])
    wanted, old, new = (at(face, image, 57, 66) for image in (crop(face), before, after))
    assert np.abs(chroma(new) - chroma(wanted)).max() < 0.3 * np.abs(chroma(old) - chroma(wanted)).max()
    assert abs((new - old) @ np.array(BT601_LUMA)) < 1  # the brightness stays what was painted
    changed = np.abs(after - before).max(axis=2) > 0.5 / 255
    points = face.crop.to_crop(face.landmarks)[OUTER_LIPS]
    rows, columns = np.nonzero(changed)
    assert points[:, 0].min() - 8 < columns.min() and columns.max() < points[:, 0].max() + 8
    assert points[:, 1].min() - 8 < rows.min() and rows.max() < points[:, 1].max() + 8


@pytest.mark.parametrize("inside", [(20, 8, 8), (110, 10, 10), (250, 245, 235)])
def test_teeth_and_the_inside_of_the_mouth_keep_their_color(match: LipColors, inside: Colors) -> None:
    face = mouth(RED)
    before = crop(mouth(ORANGE, inside))
    (after,) = moved(match, [face], [before.copy()])
    lip, within = ((at(face, after, *at_) - at(face, before, *at_)) for at_ in ((57,), (62, 66)))
    assert np.abs(lip).max() > 4
    assert np.abs(within).max() < 1


def test_black_and_white_pictures_move_no_lips(match: LipColors) -> None:
    face, before = mouth(RED), crop(mouth(ORANGE))
    face.frame = np.repeat(face.frame.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    (after,) = moved(match, [face], [before.copy()])
    np.testing.assert_allclose(after, before, atol=0.5 / 255)


def test_where_no_lips_are_painted_skin_does_not_become_red(match: LipColors) -> None:
    """What is a little redder than the rest is grain."""
    grain = np.random.default_rng(0).normal(0.0, 0.004, (SIZE, SIZE, 3))
    before = (np.array(SKIN) / 255 + grain).astype(np.float32)
    (after,) = moved(match, [mouth(RED)], [before.copy()])
    assert np.abs(after - before).max() < 3 / 255


def test_a_difference_too_large_for_lips_is_removed_in_part_only(match: LipColors) -> None:
    face = mouth((150, 50, 150))
    before = crop(mouth(ORANGE))
    (after,) = moved(match, [face], [before.copy()])
    assert 0.04 < np.abs(after - before).max() <= 0.06 * 1.25 + 1e-6


def test_lips_do_not_flicker_and_a_new_shot_begins_anew(match: LipColors) -> None:
    patch = crop(mouth(NEAR))

    def shift(face: FaceJob) -> float:
        (after,) = moved(match, [face], [patch.copy()])
        return float((at(face, after, 57) - at(face, patch, 57))[2])

    usual = [shift(mouth(RED, index=index)) for index in range(6)]
    np.testing.assert_allclose(usual, usual[0], atol=0.1)
    once = shift(mouth((171, 62, 62), index=6))
    other = shift(mouth((171, 62, 62), index=7, stretch=7))
    assert usual[0] > 8 and other < 0.6 * usual[0]
    assert abs(once - usual[0]) < 0.3 * abs(other - usual[0])


@pytest.mark.parametrize("tensors", [False, True])
def test_a_face_that_went_wrong_spoils_no_other(tensors: bool) -> None:
    raster = TensorRaster(CPU) if tensors else ArrayRaster(CPU)
    match = LipColors(raster)
    faces = [mouth(RED, index=0), mouth(RED, index=1), mouth(RED, index=2)]
    patches = np.stack([crop(mouth(ORANGE))] * 3)
    patches[1] = np.nan
    batches = [(faces, patches), ([mouth(RED, index=3)], patches[:1])]
    found = []
    for batch, painted in batches:
        originals = torch.from_numpy(np.stack([crop(face) for face in batch])).permute(0, 3, 1, 2)
        found += list(np.asarray(match(batch, raster.constant(painted.copy()), originals)))
    assert [bool(np.isfinite(image).all()) for image in found] == [True, False, True, True]


def test_strength_is_a_share(match: LipColors) -> None:
    face, patch = mouth(RED), crop(mouth(ORANGE))
    (full,) = moved(match, [face], [patch.copy()])
    (half,) = moved(LipColors(ArrayRaster(CPU), 0.5), [face], [patch.copy()])
    np.testing.assert_allclose(half - patch, (full - patch) / 2, atol=1e-5)


def test_tensors_give_the_same_as_arrays() -> None:
    faces = [mouth(RED), mouth((190, 80, 90), x=40, index=1), mouth(RED, index=2, stretch=2)]
    patches = [crop(mouth(ORANGE)), crop(mouth(ORANGE, (20, 8, 8), x=40)), crop(mouth((185, 65, 45)))]
    expected = moved(LipColors(ArrayRaster(CPU)), faces, patches)
    originals = torch.from_numpy(np.stack([crop(face) for face in faces])).permute(0, 3, 1, 2)
    result = LipColors(TensorRaster(CPU))(faces, torch.from_numpy(np.stack(patches)), originals)
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-3)
    assert np.abs(expected - np.stack(patches)).max() > 0.02


@pytest.mark.parametrize("where", [{"x": -60.0}, {"x": 190.0}, {"y": 150.0}, {"x": -300.0}])
def test_mouths_that_leave_the_frame(match: LipColors, where: dict[str, float]) -> None:
    landmarks = face_landmarks(**where)
    face = face_job(face_frame(landmarks), landmarks, size=SIZE)
    assert np.isfinite(moved(match, [face], [crop(face)])).all()


def test_the_main_job_does_it_unless_told_otherwise(
    make_retalker: Callable[..., object],
    make_video: Callable[..., object],
    make_speech: Callable[..., object],
) -> None:
    """Counted, since the tiny networks paint no lips."""
    calls = []
    original = LipColors.__call__

    def counted(self: LipColors, faces: list[FaceJob], *rest: object) -> object:
        calls.append(self.strength)
        return original(self, faces, *rest)  # type: ignore[arg-type]

    video, speech = make_video([face_frame(face_landmarks(30, 20, 80), 160, 128)] * 3), make_speech(0.12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LipColors, "__call__", counted)
        for settings in ({}, {"lip_match": 0.5}, {"lip_match": 0.0}):
            list(make_retalker(render=settings).frames(video, speech))  # type: ignore[attr-defined]
    assert set(calls) == {1.0, 0.5}

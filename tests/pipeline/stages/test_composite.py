from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.core.constants import ENET_SIZE
from videoretalking.faces.align import box_crop, extract, lipsync_box
from videoretalking.faces.masks import face_polygon_mask, mouth_outline, polygon_mask
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages.composite import Compositor


def _composite(whole_face: bool = False, color_match: float = 1.0) -> Callable[..., np.ndarray]:
    """A compositor of single frames."""
    compositor = Compositor(whole_face, ArrayRaster(torch.device("cpu")), color_match)

    def run(frame: np.ndarray, faces: list[FaceJob], painted: np.ndarray | None = None) -> np.ndarray:
        (result,) = compositor([frame], [faces], None if painted is None else [painted])
        return np.asarray(result) if faces else result

    return run


def _edited(color_shift: float = 0.0, **where: float):  # type: ignore[no-untyped-def]
    landmarks = face_landmarks(**where)
    frame = face_frame(landmarks)
    face = face_job(frame, landmarks)
    patch = extract(frame, face.crop).astype(np.float32) / 255 + color_shift
    patch[60:80, 26:70] = [0.0, 1.0, 0.0]  # a green mouth
    face.patch = np.clip(patch, 0, 1)
    face.mask = face_polygon_mask(face.crop.to_crop(landmarks), face.crop.size)
    return frame, face


def test_the_mouth_changes_and_everything_else_keeps_its_bytes() -> None:
    frame, face = _edited()
    before = frame.copy()
    result = _composite()(frame, [face])
    assert np.array_equal(frame, before)
    x, y = np.round(face.landmarks[62]).astype(int)
    assert result[y, x, 1] > 200
    assert frame[y, x, 1] < 150
    x1, y1, x2, y2 = lipsync_box(face.landmarks)
    outside = np.ones(frame.shape[:2], bool)
    outside[int(y1) : int(y2) + 2, int(x1) : int(x2) + 2] = False
    assert np.array_equal(result[outside], frame[outside])
    eyes = slice(int(face.landmarks[36:48, 1].min()) - 3, int(face.landmarks[36:48, 1].max()) + 3)
    assert np.array_equal(result[eyes], frame[eyes])  # L-Net saw them; they stay original


def test_what_the_patch_only_blurs_keeps_its_bytes_but_for_the_lips() -> None:
    """Hair, a beard, a caption over the chin: the networks paint them softer, and the frame has them."""
    frame, face = _edited()
    x1, y1, x2, y2 = np.round(lipsync_box(face.landmarks)).astype(int)
    caption = frame[
        (y1 + y2) // 2 : y2, x1:x2
    ]  # fine lines over the lower half, as bright as what they cover
    caption[::2] -= np.minimum(caption[::2], 12)
    caption[1::2] += 12
    patch = extract(frame, face.crop).astype(np.float32) / 255
    face.patch = cv2.GaussianBlur(patch, (0, 0), 1.0)
    result = _composite()(frame, [face])
    lips = polygon_mask(mouth_outline(face.landmarks, 0.5), (frame.shape[1], frame.shape[0]), 0.0) > 0
    painted = face_polygon_mask(face.landmarks, (frame.shape[1], frame.shape[0])) > 0.5
    assert (painted & ~lips).sum() > 300
    assert (result != frame)[painted & ~lips].mean() < 0.1  # 0.22 where all of it is taken
    assert (np.abs(result[lips].astype(int) - frame[lips]) > 10).any()


@pytest.mark.parametrize("size", [50.0, 100.0])
def test_a_small_face_comes_back_as_sharp_as_it_was(size: float) -> None:
    """Linear interpolation there and back left 0.52 and 0.69 of the detail of real mouths."""
    landmarks = face_landmarks(size=size)
    frame = face_frame(landmarks)
    grain = np.random.default_rng(0).normal(0.0, 12.0, frame.shape[:2])[..., None]
    frame = np.clip(frame + cv2.GaussianBlur(grain, (0, 0), 0.5)[..., None], 0, 255).astype(np.uint8)
    face = face_job(frame, landmarks)
    face.crop = box_crop(lipsync_box(landmarks), (ENET_SIZE, ENET_SIZE))
    face.patch = extract(frame, face.crop).astype(np.float32) / 255
    face.mask = face_polygon_mask(face.crop.to_crop(landmarks), face.crop.size)
    result = _composite()(frame, [face])
    inside = polygon_mask(mouth_outline(landmarks, 0.1), (frame.shape[1], frame.shape[0]), 0.0) > 0.5
    details = [
        np.abs(image - cv2.blur(image, (3, 3)))[inside].mean()
        for image in (picture.mean(axis=2, dtype=np.float32) for picture in (result, frame))
    ]
    assert details[0] > 0.75 * details[1]


def test_the_whole_face_is_replaced_on_demand() -> None:
    frame, face = _edited(color_shift=0.2)
    eyes = np.s_[int(face.landmarks[39, 1]), int(face.landmarks[39, 0]) + 4]
    assert not np.array_equal(_composite(whole_face=True, color_match=0.0)(frame, [face])[eyes], frame[eyes])


def test_a_color_cast_of_the_networks_is_removed() -> None:
    frame, face = _edited(color_shift=0.1)
    chin = np.s_[int(face.landmarks[8, 1]) - 6, int(face.landmarks[8, 0])]
    matched = _composite(color_match=1.0)(frame, [face])
    unmatched = _composite(color_match=0.0)(frame, [face])
    original = frame[chin].astype(int)
    assert np.abs(matched[chin] - original).max() < 8
    assert np.abs(unmatched[chin] - original).max() > 15


def test_a_difference_too_large_for_a_color_cast_is_removed_in_part_only() -> None:
    frame, face = _edited(color_shift=-0.3)
    chin = np.s_[int(face.landmarks[8, 1]) - 6, int(face.landmarks[8, 0])]
    matched, unmatched = (
        _composite(color_match=strength)(frame, [face])[chin].astype(int) for strength in (1.0, 0.0)
    )
    np.testing.assert_allclose(matched - unmatched, 0.12 * 255, atol=3)


@pytest.mark.parametrize("where", [{"x": -60}, {"x": 190}, {"y": -70}, {"y": 150}, {"x": -300}])
def test_faces_that_leave_the_frame(where: dict[str, float]) -> None:
    frame, face = _edited(**where)
    result = _composite()(frame, [face])
    assert result.shape == frame.shape
    if where == {"x": -300}:
        assert np.array_equal(result, frame)


def test_two_faces_do_not_disturb_each_other() -> None:
    left, right = face_landmarks(5, 50, 90), face_landmarks(130, 50, 90)
    frame = face_frame(left)
    frame[:, 120:] = face_frame(right)[:, 120:]
    jobs = [face_job(frame, landmarks) for landmarks in (left, right)]
    for job, level in zip(jobs, (0.0, 1.0), strict=True):
        job.patch = np.full((96, 96, 3), level, np.float32)
        job.mask = face_polygon_mask(job.crop.to_crop(job.landmarks), job.crop.size)
    compositor = _composite(color_match=0.0)
    result = compositor(frame, jobs)
    assert np.array_equal(result[:, :120], compositor(frame, jobs[:1])[:, :120])
    assert np.array_equal(result[:, 120:], compositor(frame, jobs[1:])[:, 120:])


def test_painted_pixels_are_told_and_all_others_kept_their_bytes() -> None:
    frame, face = _edited(color_shift=0.1)
    painted = np.zeros(frame.shape[:2], np.float32)
    result = _composite(color_match=0.0)(frame, [face], painted)
    assert 0.02 < (painted > 0).mean() < 0.5 and painted.max() == 1.0
    assert np.array_equal(result[painted == 0], frame[painted == 0])
    x, y = np.round(face.landmarks[62]).astype(int)
    assert painted[y, x] == 1.0


def test_a_face_that_is_not_trusted_keeps_its_bytes() -> None:
    frame, face = _edited()
    x, y = np.round(face.landmarks[62]).astype(int)
    full = _composite()(frame, [face]).astype(int)
    face.trust = 0.5
    half = _composite()(frame, [face]).astype(int)
    assert frame[y, x, 1] + 20 < half[y, x, 1] < full[y, x, 1] - 20
    face.trust = 0.0
    assert np.array_equal(_composite()(frame, [face]), frame)


def test_frames_without_faces_pass_through() -> None:
    frame = face_frame(face_landmarks())
    assert _composite()(frame, []) is frame

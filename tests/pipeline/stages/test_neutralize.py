from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.core.coefficients import CROP, EXPRESSION, MOTION_EXPRESSION, MOTION_SCALE, motion_rows
from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.landmarks import LIPS
from videoretalking.faces.align import anchor_crop, extract
from videoretalking.faces.reconstruct import FitReconstructor, load_face_model, rows_in_view
from videoretalking.faces.types import FaceTrack
from videoretalking.models.dnet import DNetOutput
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages.detail import keep_detail
from videoretalking.pipeline.stages.neutralize import DrivingWindows, Neutralizer, insert_renderings

COUNT = 40
CPU = Engine(torch.device("cpu"), torch.float32, batch_size=4)
ARRAYS = ArrayRaster(CPU.device)


@pytest.fixture(scope="module")
def track() -> FaceTrack:
    """A face that walks, grows, is away in frames 15..17, and is cut at frame 30."""
    landmarks = np.stack([face_landmarks(20 + index, 10, 80 + index) for index in range(COUNT)])
    present = np.ones(COUNT, bool)
    present[15:18] = False
    empty = FaceTrack.empty(np.arange(COUNT) / 25, (240, 200))
    shots = (np.arange(COUNT) >= 30).astype(np.int64)
    track = replace(empty, landmarks=landmarks, landmarks_raw=landmarks, present=present, shots=shots)
    return FitReconstructor(load_face_model())(track)


def _view(track: FaceTrack, index: int):  # type: ignore[no-untyped-def]
    return anchor_crop(track.landmarks[index])


def test_every_column_has_the_template(track: FaceTrack) -> None:
    expression = np.arange(64, dtype=np.float32)
    window = DrivingWindows(track, expression, one_shot=False)([5], [_view(track, 5)])[0]
    assert window.shape == (73, 27)
    assert (window[MOTION_EXPRESSION] == expression[:, None]).all()


@pytest.mark.parametrize("index", [0, 14, 18, 29, 30, 39])
def test_windows_stay_within_shot_and_stretch(track: FaceTrack, index: int) -> None:
    """The rows of a window are those of its own stretch, clamped at its ends, in the frame's own view."""
    (span,) = [span for span in track.present_slices() if span.start <= index < span.stop]
    window = DrivingWindows(track, np.zeros(64, np.float32), one_shot=False)([index], [_view(track, index)])[
        0
    ]
    frames = np.clip(np.arange(index - 13, index + 14), span.start, span.stop - 1)
    rows = rows_in_view(track.rows[frames], track.landmarks[frames], _view(track, index))
    np.testing.assert_allclose(window[64:], motion_rows(rows)[:, 64:].T, rtol=1e-4, atol=1e-4)


def test_the_published_window_has_26_columns(track: FaceTrack) -> None:
    windows = DrivingWindows(track, np.zeros(64, np.float32), one_shot=False, length=26)
    assert windows([20], [_view(track, 20)]).shape == (1, 73, 26)


@pytest.mark.parametrize("one_shot", [False, True])
def test_windows_of_several_frames_are_those_of_each(track: FaceTrack, one_shot: bool) -> None:
    windows = DrivingWindows(track, np.zeros(64, np.float32), one_shot)
    frames = [3, 25, 26, 20]
    views = [_view(track, frame) for frame in frames]
    for frame, view, window in zip(frames, views, windows(frames, views), strict=True):
        np.testing.assert_allclose(window, windows([frame], [view])[0], rtol=1e-6, atol=1e-6)


def test_one_shot_keeps_the_driving_pose_and_corrects_the_scale(track: FaceTrack) -> None:
    template = np.zeros(64, np.float32)
    own = DrivingWindows(track, template, one_shot=False)([25], [_view(track, 25)])[0]
    shot = DrivingWindows(track, template, one_shot=True)([25], [_view(track, 25)])[0]
    others = [row for row in range(64, 73) if row != MOTION_SCALE]
    np.testing.assert_allclose(shot[others], own[others], rtol=1e-5)
    views = [anchor_crop(points) for points in track.landmarks[18:30]]
    rows = rows_in_view(track.rows[18:30], track.landmarks[18:30], views)
    assert 0.9 < (shot[MOTION_SCALE] / own[MOTION_SCALE])[0] < 1.1
    assert np.ptp(rows[:, CROP][:, 0]) < 1.0  # in its own view the face always has the same size


@pytest.mark.parametrize(("one_shot", "warped"), [(False, 25), (True, 18)])
def test_a_weak_dnet_is_driven_beyond_the_template(track: FaceTrack, one_shot: bool, warped: int) -> None:
    """Away from the expression of the frame that is warped: in one-shot mode the first of the stretch."""
    template = np.full(64, 0.5, np.float32)
    window = DrivingWindows(track, template, one_shot, overshoot=1.0)([25], [_view(track, 25)])[0]
    wanted = 2 * template - track.rows[warped, EXPRESSION]
    np.testing.assert_allclose(window[MOTION_EXPRESSION], np.repeat(wanted[:, None], 27, axis=1), atol=1e-4)


class _Painter(torch.nn.Module):
    """A D-Net that paints green stripes and counts how much it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.sources: list[torch.Tensor] = []

    def forward(self, image: torch.Tensor, coefficients: torch.Tensor) -> DNetOutput:
        self.sources += list(image)
        green = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1, 1).expand_as(image).clone()
        green[:, 1, :, torch.arange(image.shape[3]) // 16 % 2 == 0] = 0.4
        return DNetOutput(image, image, green)


def _neutralizer(track: FaceTrack, one_shot: bool = False) -> tuple[Neutralizer, _Painter]:
    painter = _Painter()
    windows = DrivingWindows(track, np.zeros(64, np.float32), one_shot)
    return Neutralizer(CPU.prepare(painter), [windows], ARRAYS), painter


def _crops(jobs: list[FaceJob]) -> np.ndarray:
    return np.asarray(ARRAYS.cut([job.frame for job in jobs], [job.crop for job in jobs]))


def test_the_reference_is_the_edited_face_within_the_original_crop(track: FaceTrack) -> None:
    neutralizer, _ = _neutralizer(track)
    frame = face_frame(track.landmarks[3])
    job = face_job(frame, track.landmarks[3], size=128, index=3)
    (reference,) = neutralizer([job], _crops([job]))
    assert reference.shape == (128, 128, 3)
    x, y = job.crop.to_crop(track.landmarks[3][33]).astype(int)
    row = np.s_[y - 8, x - 16 : x + 16, 1]  # below the eyes, where the frame is smooth
    assert np.ptp(extract(frame, job.crop)[row]) < 10 and np.ptp(reference[row]) > 0.15  # D-Net's stripes


def test_the_edited_face_has_the_colors_of_the_frame(track: FaceTrack) -> None:
    neutralizer, _ = _neutralizer(track)
    frame = face_frame(track.landmarks[3])
    job = face_job(frame, track.landmarks[3], size=128, index=3)
    (reference,) = neutralizer([job], _crops([job]))
    x, y = job.crop.to_crop(track.landmarks[3][30]).astype(int)
    area = np.s_[y - 12 : y + 12, x - 12 : x + 12]
    skin = extract(frame, job.crop)[area].mean(axis=(0, 1)) / 255
    np.testing.assert_allclose(reference[area].mean(axis=(0, 1)), skin, atol=0.04)  # D-Net painted green


def test_the_colors_of_the_mouth_do_not_leak(track: FaceTrack) -> None:
    neutralizer, _ = _neutralizer(track)
    frame = face_frame(track.landmarks[3])
    job = face_job(frame, track.landmarks[3], size=128, index=3)
    painted = frame.copy()
    cv2.fillPoly(painted, [track.landmarks[3][LIPS].round().astype(np.int32)], (0, 0, 0))
    (reference,) = neutralizer([job], _crops([job]))
    other, _ = _neutralizer(track)
    leaking = replace(job, frame=painted)
    (leaked,) = other([leaking], _crops([leaking]))
    x, y = job.crop.to_crop(track.landmarks[3][62]).astype(int)
    assert np.abs(leaked[y, x] - reference[y, x]).max() < 0.03


def test_where_d_net_only_blurs_the_frame_stays_but_for_the_lips(track: FaceTrack) -> None:
    points = track.landmarks[3]
    rng = np.random.default_rng(2)  # with the grain of others, 0.74 to 0.84 of the detail stay
    frame = (
        (face_frame(points).astype(int) + rng.integers(-24, 25, (200, 240, 1))).clip(0, 255).astype(np.uint8)
    )
    job = face_job(frame, points, size=ENET_SIZE, index=3)
    (original,) = _crops([job])
    view = anchor_crop(points)
    soft = cv2.GaussianBlur(ARRAYS.cut([job.frame], [view])[0], (0, 0), 3)
    (shown,) = insert_renderings(ARRAYS, soft[None], [view], [job.crop], [points], original[None])
    lips = job.crop.to_crop(points[LIPS]).mean(axis=0).astype(int)
    nose = job.crop.to_crop(points[30]).astype(int)

    def detail(image: np.ndarray, place: np.ndarray) -> float:
        x, y = place
        part = image[y - 3 : y + 4, x - 3 : x + 4].mean(axis=2)
        return float((part - cv2.GaussianBlur(part, (0, 0), 2)).std())

    assert detail(shown, nose) > 0.8 * detail(original, nose)
    assert detail(shown, lips) < 0.5 * detail(original, lips)


def test_detail_that_a_network_loses_is_that_of_the_moved_picture(track: FaceTrack) -> None:
    points = anchor_crop(track.landmarks[3]).to_crop(track.landmarks[3])
    rng = np.random.default_rng(0)
    warped = rng.uniform(0.3, 0.7, (256, 256, 3)).astype(np.float32)
    edited = cv2.GaussianBlur(warped, (0, 0), 3)
    edited[200:216, 40:56] -= 0.3  # something else than in the frame
    (shown,) = keep_detail(ARRAYS, edited[None], warped[None], [points])
    x, y = points[30].astype(int)
    nose = np.s_[y - 4 : y + 5, x - 4 : x + 5]
    assert np.abs(shown[nose] - warped[nose]).mean() < 0.2 * np.abs(edited[nose] - warped[nose]).mean()
    x, y = points[LIPS].mean(axis=0).astype(int)
    lips = np.s_[y - 4 : y + 5, x - 4 : x + 5]
    np.testing.assert_allclose(shown[lips], edited[lips], atol=0.03)  # the colors around them differ
    assert (warped - shown)[204:212, 44:52].mean() > 0.15


def test_a_held_frame_is_rendered_once(track: FaceTrack) -> None:
    neutralizer, painter = _neutralizer(track)
    frame = face_frame(track.landmarks[3])
    jobs = [face_job(frame, track.landmarks[3], index=3) for _ in range(3)]
    originals = _crops(jobs)
    first = neutralizer(jobs, originals)
    second = neutralizer(jobs[:1], originals[:1])
    assert len(painter.sources) == 1
    assert np.array_equal(first[2], second[0])


def test_one_shot_warps_the_first_frame_of_the_stretch(track: FaceTrack) -> None:
    neutralizer, painter = _neutralizer(track, one_shot=True)
    for index, start in ((0, 0), (1, 0), (18, 18), (19, 18)):
        frame = face_frame(track.landmarks[index], seed=index)
        job = replace(face_job(frame, track.landmarks[index], index=index), stretch=start)
        neutralizer([job], _crops([job]))
    same = [torch.equal(painter.sources[0], source) for source in painter.sources]
    assert same == [True, True, False, False]
    assert torch.equal(painter.sources[2], painter.sources[3])

"""Tensor operations against OpenCV's, one by one and in a whole dub; the tensors may lie on a GPU where one is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks
from fakes import TINY
from media_clips import write_raw

from videoretalking.core.devices import to_device
from videoretalking.core.quality import psnr
from videoretalking.faces.align import matrix_into, placed_box, rounds_positions, square_crop
from videoretalking.faces.masks import face_outline, face_polygon_mask
from videoretalking.faces.types import Crop
from videoretalking.media import upload
from videoretalking.media.color import ColorTags, Layout
from videoretalking.media.picture import as_picture
from videoretalking.media.video import VideoReader
from videoretalking.models.catalog import build_network
from videoretalking.pipeline import Retalker, raster_torch
from videoretalking.pipeline.config import OutputConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.marks import Marks
from videoretalking.pipeline.raster import ArrayRaster, Raster
from videoretalking.pipeline.raster_torch import FORCE_VARIABLE, TensorRaster, choose_raster
from videoretalking.pipeline.stages.composite import Compositor

CPU = torch.device("cpu")
ARRAYS = ArrayRaster(CPU)
FRAME = (640, 360)  # width, height
WIDE = 5e-3  # arrays compute wide blurs on a reduced image
# OpenCV 5 adds positions up in float32, whose steps are 1.5e-5 pixels from 128 pixels on.
WARPED = 1e-5 if rounds_positions() else 5e-5


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def tensors(request: pytest.FixtureRequest) -> TensorRaster:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return TensorRaster(torch.device(request.param))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """[height, width, 3] float32 in [0, 1] with shapes, edges and grain, as photos have them."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((max(height // 5, 2), max(width // 5, 2), 3)).astype(np.float32)
    shapes = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(shapes + 0.1 * rng.random((height, width, 3)), 0, 1).astype(np.float32)


def pictures(height: int, width: int, count: int = 3) -> np.ndarray:
    return np.stack([picture(height, width, seed) for seed in range(count)])


def crops(side: float, size: int, center: tuple[float, float], step: float = 9.0) -> list[Crop]:
    """Three squares that move, grow and turn."""
    return [
        square_crop((center[0] + step * k, center[1]), side * (1 + 0.03 * k), size, 0.1 * k) for k in range(3)
    ]


def same(result: Any, expected: np.ndarray, tolerance: float) -> None:
    """Both in units in which 1 is the whole range."""
    assert tuple(result.shape) == expected.shape
    np.testing.assert_allclose(result.cpu().numpy(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("interlaced", [False, True])
def test_decoded_frames_go_up_with_their_very_colors(
    tensors: TensorRaster, interlaced: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [
        av.VideoFrame.from_ndarray((255 * image).astype(np.uint8), format="rgb24").reformat(format="yuv420p")
        for image in pictures(FRAME[1], FRAME[0])
    ]
    write_raw(tmp_path / "clip.mp4", frames, **({"x264-params": "interlaced=1"} if interlaced else {}))
    sent = []
    monkeypatch.setattr(
        upload, "to_device", lambda data, device: sent.append(data.numel()) or to_device(data, device)
    )
    with VideoReader(tmp_path / "clip.mp4") as reader:
        looks = [look.picture for look in reader.looks()]
        uploaded = tensors.upload([tensors.ready(look) for look in looks])
        tensors.receive(uploaded)
        for image, look in zip(uploaded, looks, strict=True):
            (expected,) = ARRAYS.upload([ARRAYS.ready(look)])
            assert expected is look.image and np.array_equal(image.cpu().numpy(), expected)
    pixels = FRAME[0] * FRAME[1]
    assert sent == ([3 * pixels] * 3 if interlaced else [])  # else their planes went up


@pytest.mark.parametrize(
    ("side", "size", "center", "levels"),
    [
        (150, 256, (300, 180), 0.51),  # what OpenCV rounds to bytes
        (340, 96, (300, 180), 1.01),  # it rounds twice where it shrinks
        (330, 256, (300, 180), 1.01),  # one of the three shrinks
        (300, 256, (20, 20), 0.51),  # beyond the frame's border
        (500, 128, (600, 350), 1.01),
    ],
)
def test_crops_of_frames(
    tensors: TensorRaster, side: float, size: int, center: tuple[float, float], levels: float
) -> None:
    frames = [(picture(360, 640, seed) * 255).astype(np.uint8) for seed in range(3)]
    views = crops(side, size, center)
    uploaded = tensors.upload([as_picture(frame) for frame in frames])
    tensors.receive(uploaded)
    cut = tensors.cut(uploaded, views)
    expected = ARRAYS.cut(frames, views)
    same(cut, expected, levels / 255)
    assert abs(float(cut.mean()) - expected.mean()) < 0.05 / 255


@pytest.mark.parametrize(("edge", "cubic"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize(("side", "size"), [(100, 160), (120, 50), (125, 96), (400, 128)])
def test_views_of_crops(tensors: TensorRaster, side: float, size: int, edge: bool, cubic: bool) -> None:
    images = pictures(128, 128)
    views = crops(side, size, (64, 64), step=3)
    for batch in (images, images[..., 0].copy()):
        expected = ARRAYS.view(batch, views, edge, cubic)
        same(tensors.view(tensors.constant(batch), views, edge, cubic), expected, WARPED)


@pytest.mark.parametrize("side", [150.0, 60.0])  # enlarged, and shrunk
def test_patches_in_their_frame(tensors: TensorRaster, side: float) -> None:
    patch = picture(128, 128)[None]
    for x in (0.0, 100.0, 320.0, 639.0):
        crop = square_crop((x, 150), side, 128, 0.1)
        box = placed_box(crop, FRAME)
        assert box is not None
        size, matrices = (box[2] - box[0], box[3] - box[1]), [matrix_into(box, crop)]
        for cubic in (False, True):
            expected = ARRAYS.warp(patch, matrices, size, cubic=cubic)
            same(tensors.warp(tensors.constant(patch), matrices, size, cubic=cubic), expected, WARPED)
        same(tensors.coverage(crop.size, matrices, size), ARRAYS.coverage(crop.size, matrices, size), WARPED)


@pytest.mark.parametrize(("rounds", "shift"), [(True, 11 / 32), (False, 1 / 3)])
def test_positions_by_the_rule_of_either_opencv(
    tensors: TensorRaster, rounds: bool, shift: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_torch, "rounds_positions", lambda: rounds)
    ramp = np.tile(np.arange(64, dtype=np.float32) / 64, (1, 9, 1))
    moved = tensors.warp(tensors.constant(ramp), [np.array([[1.0, 0.0, -1 / 3], [0.0, 1.0, 0.0]])], (63, 9))
    same(moved, ramp[:, :, :63] + np.float32(shift / 64), 1e-6)


@pytest.mark.parametrize(
    ("softness", "tolerance"),
    [([1.5, 0.0, 5.0], 1e-5), ([40.0, 6.0, 17.0], WIDE)],
)
def test_blurs(tensors: TensorRaster, softness: list[float], tolerance: float) -> None:
    images = pictures(96, 120)
    for batch in (images, images[..., 0].copy()):
        same(tensors.soften(tensors.constant(batch), softness), ARRAYS.soften(batch, softness), tolerance)


def test_polygons(tensors: TensorRaster) -> None:
    outlines = [face_outline(face_landmarks(10 + 7 * k, 8, 80)) for k in range(3)]
    arguments = (outlines, (128, 112), [4.0, 0.0, 9.0])
    same(tensors.polygons(*arguments), ARRAYS.polygons(*arguments), WIDE)


@pytest.mark.parametrize("shape", [(64, 64), (97, 131), (5, 200), (33, 1), (2, 3)])
def test_pyramid_levels(tensors: TensorRaster, shape: tuple[int, int]) -> None:
    images = pictures(*shape, count=2)
    sizes = [shape[::-1]] * 2
    reduced = ARRAYS.reduce(images, sizes)
    same(tensors.reduce(tensors.constant(images), sizes), reduced, 1e-6)
    expanded = ARRAYS.expand(reduced, shape, sizes)
    same(tensors.expand(tensors.constant(reduced), shape, sizes), expanded, 1e-6)


def test_what_fills_a_batch_up_does_not_matter(tensors: TensorRaster) -> None:
    frames = [(picture(90, 120, seed) * 255).astype(np.uint8) for seed in range(2)]
    boxes = [(10, 5, 51, 82), (60, 20, 97, 61)]
    sizes = [(41, 77), (37, 41)]
    regions = tensors.to_floats(tensors.regions([tensors.constant(frame) for frame in frames], boxes))
    assert regions.shape[1:3] == (96, 64)
    reduced = tensors.reduce(regions + (tensors.filled(regions[..., 0] * 0, sizes, 9.0))[..., None], sizes)
    for number, (frame, box, size) in enumerate(zip(frames, boxes, sizes, strict=True)):
        own = ARRAYS.reduce(ARRAYS.to_floats(ARRAYS.regions([frame], [box])), [size])
        height, width = own.shape[1:3]
        same(reduced[number : number + 1, :height, :width], own, 1e-6)


def test_distances_are_those_of_opencv_but_for_its_two_percent(tensors: TensorRaster) -> None:
    y, x = np.mgrid[:200, :300]
    inside = np.stack([np.hypot(y - 90, x - 100) > 60, np.hypot(y - 90, x - 100) < 60, x >= 0])
    limit = 24.0
    expected = np.minimum(ARRAYS.distance(inside, limit), limit)
    same(tensors.distance(tensors.constant(inside), limit).clip(0, limit), expected, 0.021 * limit)


def test_bytes_and_floats(tensors: TensorRaster) -> None:
    numbers = np.linspace(-0.1, 1.1, 997, dtype=np.float32)
    rounded = ARRAYS.to_bytes(numbers)
    assert np.array_equal(tensors.to_bytes(tensors.constant(numbers)).cpu().numpy(), rounded)
    same(tensors.to_floats(tensors.constant(rounded)), ARRAYS.to_floats(rounded), 1e-7)


@pytest.mark.parametrize("layout", [None, (ColorTags(), "left"), (ColorTags(), "full")])
def test_frames_come_back_in_groups_as_they_come_back_alone(
    tensors: TensorRaster, layout: Layout | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last group is smaller, one frame is held, and the functions are called out of turn."""
    frames = list((pictures(36, 64) * 255).astype(np.uint8))
    uploaded = tensors.upload([as_picture(frame) for frame in frames])
    tensors.receive(uploaded)
    order = [0, 1, 1, 2, 0]
    expected = [fetch() for fetch in ARRAYS.download([frames[number] for number in order], layout)]
    monkeypatch.setattr(upload, "_PIXELS_TOGETHER", 2 * 36 * 64)
    fetches = tensors.download([uploaded[number] for number in order], layout)
    assert len(fetches) == len(order) and tensors.download([], layout) == []
    for fetch, wanted in list(zip(fetches, expected, strict=True))[::-1]:
        found = fetch()
        assert found.dtype == np.uint8 and found.shape == wanted.shape and found.flags["OWNDATA"]
        assert np.abs(found.astype(int) - wanted).max() <= (0 if layout is None else 1)


def test_frames_too_large_to_be_together_are_alone() -> None:
    assert list(upload.groups(3, 5000, 5000)) == [slice(0, 1), slice(1, 2), slice(2, 3)]
    assert list(upload.groups(9, 1080, 1920)) == [slice(0, 8), slice(8, 16)]


def job(x: float, y: float, seed: int) -> FaceJob:
    """A face with a patch that differs from its frame, at the frame's border or not."""
    landmarks = face_landmarks(x, y, 100 + seed)
    face = face_job((picture(200, 260, seed) * 255).astype(np.uint8), landmarks, size=128)
    face.patch = picture(128, 128, seed + 10)
    face.mask = face_polygon_mask(face.crop.to_crop(landmarks), face.crop.size)
    return face


def composite(raster: Raster, faces: list[list[FaceJob]]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Frames and what was painted in them, composited together."""

    def to(values: Any) -> Any:
        return raster.constant(values)

    frames = [to(inside[0].frame) for inside in faces]
    jobs = [[replace(face, patch=to(face.patch), mask=to(face.mask)) for face in inside] for inside in faces]
    painted = [raster.zeros(*frame.shape[:2]) for frame in frames]
    results = Compositor(whole_face=False, raster=raster)(frames, jobs, painted)
    return [fetch() for fetch in raster.download(results)], [
        np.asarray(weights.cpu() if isinstance(weights, torch.Tensor) else weights) for weights in painted
    ]


def test_faces_composited_together_are_those_composited_one_by_one(tensors: TensorRaster) -> None:
    """Other sizes, other borders of the frame, two faces in one, one that is out of sight."""
    faces = [[job(20, 30, 0)], [job(-40, 60, 1), job(120, 20, 2)], [job(190, 110, 3)], [job(-400, 20, 4)]]
    results, painted = composite(tensors, faces)
    for inside, result, weights in zip(faces, results, painted, strict=True):
        (expected,), (expected_weights,) = composite(ARRAYS, [inside])
        error = np.abs(result.astype(int) - expected)
        # OpenCV rounds the distance to the mask, and repeats what lies at the border of a part of a frame
        assert error.max() <= 10 and error.mean() < 0.05
        np.testing.assert_allclose(weights, expected_weights, atol=0.04)
        untouched = weights == 0
        assert np.array_equal(result[untouched], inside[0].frame[untouched])


@pytest.fixture
def tensors_forced(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setenv(FORCE_VARIABLE, "torch")


@pytest.mark.parametrize("one_shot", [False, True])
def test_a_dub_is_the_same(
    make_retalker: Callable[..., Retalker],
    make_video: Callable[..., Path],
    make_speech: Callable[..., Path],
    talking_frames: list[np.ndarray],
    tensors_forced: Callable[[], None],
    one_shot: bool,
) -> None:
    video, speech = make_video(talking_frames), make_speech(7 / 25)
    retalker = make_retalker(render={"one_shot": one_shot})

    def dub() -> np.ndarray:
        return np.stack([frame.image for frame in retalker.frames(video, speech)])

    expected = dub()
    tensors_forced()
    assert isinstance(choose_raster(CPU), TensorRaster)
    result = dub()
    assert not np.array_equal(expected, np.stack(talking_frames[: len(expected)]))
    quality = psnr(*(torch.from_numpy(frames)[None] / 255.0 for frames in (result, expected)))
    assert float(quality) >= 50.0
    assert np.abs(result.astype(int) - expected).max() <= 2


def test_marks_on_tensors_are_those_on_arrays(
    make_retalker: Callable[..., Retalker],
    make_video: Callable[..., Path],
    make_speech: Callable[..., Path],
    tensors_forced: Callable[[], None],
) -> None:
    frames = [face_frame(face_landmarks(60 + index, 40, 120), 320, 256) for index in range(3)]
    video, speech = make_video(frames), make_speech(3 / 25)
    marks = Marks.from_config(OutputConfig())
    faces_only = Marks.from_config(OutputConfig(mark="face"))
    assert marks is not None and faces_only is not None
    faces_only.payload = marks.payload
    retalker = make_retalker()

    def dub(chosen: Marks | None) -> np.ndarray:
        return np.stack([frame.image for frame in retalker.frames(video, speech, chosen)]).astype(int)

    expected = [dub(chosen) for chosen in (None, marks, faces_only)]
    tensors_forced()
    for before, chosen in zip(expected, (None, marks, faces_only), strict=True):
        assert np.abs(dub(chosen) - before).mean() < 0.3
    assert np.abs(expected[1] - expected[0]).mean() > 0.5


def test_chunks_of_twice_as_many_frames_give_the_same_frames(
    make_retalker: Callable[..., Retalker],
    make_video: Callable[..., Path],
    make_speech: Callable[..., Path],
    talking_frames: list[np.ndarray],
    tensors_forced: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video, speech = make_video(talking_frames), make_speech(20 / 25)
    tensors_forced()
    retalker = make_retalker()
    sizes, receive = [], TensorRaster.receive
    monkeypatch.setattr(
        TensorRaster, "receive", lambda self, frames: sizes.append(len(frames)) or receive(self, frames)
    )
    expected = [frame.image for frame in retalker.frames(video, speech)]
    usual = sizes.copy()
    sizes.clear()
    monkeypatch.setattr(TensorRaster, "roomy", True)
    found = [frame.image for frame in retalker.frames(video, speech)]
    assert usual == [3] * 6 + [2] and sizes == [3, 3, 6, 6, 2]
    for image, other in zip(found, expected, strict=True):
        assert np.abs(image.astype(int) - other).max() <= 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_nothing_waits_for_the_gpu_within_a_dub(
    make_retalker: Callable[..., Retalker],
    make_video: Callable[..., Path],
    make_speech: Callable[..., Path],
    talking_frames: list[np.ndarray],
) -> None:
    engine = Engine(torch.device("cuda"), torch.float32, batch_size=2)
    torch.manual_seed(0)
    built = {
        name: engine.prepare(build_network(name, config).eval().requires_grad_(False))
        for name, config in TINY.items()
    }
    retalker = make_retalker()
    retalker.networks = replace(retalker.networks, engine=engine, **built)
    frames = retalker.frames(
        make_video(talking_frames), make_speech(7 / 25), Marks.from_config(OutputConfig())
    )
    count = len(list(islice(frames, 3)))  # the first chunks make what lasts: patterns, matrices, kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        count += len(list(frames))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert count == len(talking_frames)


def test_only_cuda_takes_tensors_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FORCE_VARIABLE, raising=False)
    assert isinstance(choose_raster(CPU), ArrayRaster)
    assert isinstance(choose_raster(torch.device("meta")), ArrayRaster)

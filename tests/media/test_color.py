from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
import torch
from media_clips import samples_of

from videoretalking.media.color import (
    FULL_RANGE,
    LIMITED_RANGE,
    Chroma,
    ColorTags,
    Planes,
    flatten_alpha,
    frame_to_rgb,
    read_tags,
    rgb_to_planes,
)
from videoretalking.media.color_torch import chroma_place, planes_to_tensor, tensor_to_planes

WEIGHTS = {1: (0.2126, 0.0722), 2: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}

CPU = torch.device("cpu")


def smooth_planes() -> np.ndarray:
    rng = np.random.default_rng(0)
    planes = []
    for low, high in ((60, 180), (105, 150), (105, 150)):
        coarse = rng.uniform(low, high, (5, 6)).astype(np.float32)
        planes.append(cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_CUBIC))
    return np.stack(planes).round().astype(np.uint8)


def exact_rgb(planes: np.ndarray, tags: ColorTags) -> np.ndarray:
    """The definition of ITU-R BT.601/709/2020, in floating point."""
    red, blue = WEIGHTS[tags.matrix]
    y, u, v = planes.astype(np.float64)
    u, v = u - 128, v - 128
    if tags.range == LIMITED_RANGE:
        y, u, v = (y - 16) * 255 / 219, u * 255 / 224, v * 255 / 224
    r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
    g = (y - red * r - blue * b) / (1 - red - blue)
    return np.clip(np.stack([r, g, b], axis=-1), 0, 255)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("color_range", [LIMITED_RANGE, FULL_RANGE])
def test_decoding_follows_the_standard_without_bias(matrix: int, color_range: int) -> None:
    planes, tags = smooth_planes(), ColorTags(matrix, color_range, 2, 2)
    frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    error = frame_to_rgb(frame, tags, 160, 120) - exact_rgb(planes, tags)
    assert np.abs(error).max() <= 1.6
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.05


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("color_range", [LIMITED_RANGE, FULL_RANGE])
def test_encoding_inverts_decoding(matrix: int, color_range: int) -> None:
    planes, tags = smooth_planes(), ColorTags(matrix, color_range, 2, 2)
    back = rgb_to_planes(np.rint(exact_rgb(planes, tags)).astype(np.uint8), tags, "full")
    error = back.astype(np.float64) - planes
    assert np.abs(error).max() <= 1
    assert np.abs(error.mean(axis=(1, 2))).max() < 0.05


def test_subsampled_chroma_lies_where_it_is_said_to() -> None:
    ramp = np.tile(np.arange(64, dtype=np.float32), (8, 1))  # grows by one per column
    image = np.stack([60 + ramp, 120 - 0 * ramp, 180 - ramp], axis=-1).astype(np.uint8)
    tags = ColorTags(1, FULL_RANGE)
    full = rgb_to_planes(image, tags, "full")[1].astype(np.float64)
    left = rgb_to_planes(image, tags, "left")[8:10].reshape(4, 32).astype(np.float64)
    center = rgb_to_planes(image, tags, "center")[8:10].reshape(4, 32).astype(np.float64)
    inner = slice(4, -4)
    assert np.abs(left[0, inner] - full[0, 0::2][inner]).max() <= 0.51
    between = (full[0, 0::2] + full[0, 1::2]) / 2
    assert np.abs(center[0, inner] - between[inner]).max() <= 0.76
    assert np.abs((center - left)[0, inner].mean() - (between - full[0, 0::2])[inner].mean()) < 0.1


def test_constant_colors_survive_subsampling() -> None:
    image = np.full((6, 10, 3), (200, 40, 90), dtype=np.uint8)
    for chroma in ("left", "center"):
        planes = rgb_to_planes(image, ColorTags(), chroma)
        assert planes.shape == (9, 10)
        assert [len(np.unique(planes[rows])) for rows in (slice(0, 6), slice(6, 9))] == [1, 2]


def test_alpha_is_flattened_onto_white() -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]], dtype=np.uint8)
    assert flatten_alpha(pixels).tolist() == [[[10, 20, 30], [255, 255, 255], [204, 204, 204]]]


def test_gray_frames_keep_their_levels() -> None:
    levels = np.tile(np.arange(16, 236, dtype=np.uint8), (4, 1))
    frame = av.VideoFrame.from_ndarray(levels, format="gray")
    context = av.CodecContext.create("ffv1", "r")
    assert read_tags(frame, context).range == FULL_RANGE
    full = frame_to_rgb(frame, read_tags(frame, context), 220, 4)
    assert (full == levels[..., None]).all()
    frame.color_range = LIMITED_RANGE
    limited = frame_to_rgb(frame, read_tags(frame, context), 220, 4)
    expected = (levels.astype(np.float64) - 16) * 255 / 219
    assert np.abs(limited - expected[..., None]).max() <= 0.5


def test_ten_bit_frames_keep_their_colors() -> None:
    planes, tags = smooth_planes(), ColorTags(1, LIMITED_RANGE)
    shallow = av.VideoFrame.from_ndarray(planes, format="yuv444p")
    deep = shallow.reformat(format="yuv444p10le")
    assert np.abs(frame_to_rgb(deep, tags, 160, 120) - exact_rgb(planes, tags)).max() <= 1.6


def test_a_frame_of_another_size_is_fitted_to_the_stream() -> None:
    frame = av.VideoFrame.from_ndarray(np.full((3, 20, 30), 128, np.uint8), format="yuv444p")
    assert frame_to_rgb(frame, ColorTags(), 60, 40).shape == (40, 60, 3)


@pytest.mark.parametrize("chroma", ["full", "left", "center"])
@pytest.mark.parametrize("tags", [ColorTags(), ColorTags(6, FULL_RANGE)])
def test_tensors_become_the_same_planes(chroma: Chroma, tags: ColorTags) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 66, 3), dtype=np.uint8)
    expected = np.stack([rgb_to_planes(image, tags, chroma) for image in images]).astype(int)
    planes = tensor_to_planes(torch.from_numpy(images), tags, chroma).numpy()
    assert planes.dtype == np.uint8 and planes.shape == expected.shape
    error = np.abs(planes - expected)
    assert error.max() <= 1 and error.mean() < 0.05
    for image, together in zip(images, planes, strict=True):
        (alone,) = tensor_to_planes(torch.from_numpy(image)[None], tags, chroma).numpy()
        assert np.array_equal(alone, together)


NAMES = {(2, 2): "yuv420p", (2, 1): "yuv422p", (1, 1): "yuv444p"}
NOISE_SIZE = (134, 98)  # with padded lines


def noise_frame(across: int, down: int, size: tuple[int, int] = NOISE_SIZE) -> av.VideoFrame:
    """All levels at random, with colors that no camera sees."""
    rng, (width, height) = np.random.default_rng(1), size
    frame = av.VideoFrame(width, height, NAMES[across, down])
    for plane in frame.planes:
        plane.update(rng.integers(0, 256, plane.buffer_size, dtype=np.uint8).tobytes())
    return frame


@pytest.mark.parametrize("subsampling", NAMES)
@pytest.mark.parametrize("matrix", [*WEIGHTS, 4, 7])
@pytest.mark.parametrize("color_range", [LIMITED_RANGE, FULL_RANGE])
def test_planes_become_the_very_colors_on_tensors(
    subsampling: tuple[int, int], matrix: int, color_range: int
) -> None:
    frame, tags = noise_frame(*subsampling), ColorTags(matrix, color_range)
    planes = Planes.of(frame, tags)
    assert planes is not None
    place = chroma_place(planes, CPU)
    assert place is not None
    samples = torch.from_numpy(samples_of(planes))
    darker, image = planes_to_tensor(torch.stack([samples // 2, samples]), planes.layout, place)
    assert image.is_contiguous() and not torch.equal(darker, image)
    np.testing.assert_array_equal(image.numpy(), frame_to_rgb(frame, tags, *NOISE_SIZE))


@pytest.mark.parametrize("size", [(133, 98), (134, 97), (16, 16), (14, 98)])
def test_planes_that_the_chroma_does_not_divide_and_tiny_ones_are_not_offered(size: tuple[int, int]) -> None:
    assert Planes.of(noise_frame(2, 2, size), ColorTags()) is None


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "nv12", "gray", "rgb24", "yuva420p"])
def test_planes_of_other_kinds_are_not_offered(pixel_format: str) -> None:
    frame = noise_frame(2, 2).reformat(format=pixel_format)
    assert Planes.of(frame, ColorTags()) is None


def test_a_frame_keeps_its_samples_and_properties() -> None:
    frame = noise_frame(2, 2)
    planes = Planes.of(frame, ColorTags())
    assert planes is not None
    samples = samples_of(planes)
    planes.specimen()
    assert np.array_equal(samples, samples_of(planes))
    assert np.array_equal(samples.reshape(-1, NOISE_SIZE[0]), frame.to_ndarray())


def test_colors_by_other_rules_are_not_for_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    planes = Planes.of(noise_frame(2, 2), ColorTags())
    assert planes is not None and chroma_place(planes, CPU) is not None
    specimen = planes.specimen()
    specimen[8, 8, 0] ^= 1
    monkeypatch.setattr(planes, "specimen", lambda: specimen)
    assert chroma_place(planes, CPU) is None

"""Frames in parts: the colors of a part are those of the whole frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from media_clips import picture, read, samples_of, write_raw

from videoretalking.media.color_torch import Place, chroma_place, planes_to_tensor
from videoretalking.media.picture import DecodedPicture, Picture
from videoretalking.media.video import VideoReader

SIZE = (322, 184)

CPU = torch.device("cpu")


def _clip(path: Path, pixel_format: str, size: tuple[int, int] = SIZE) -> Path:
    frames = [
        av.VideoFrame.from_ndarray(picture(*size, seed=seed), format="rgb24").reformat(format=pixel_format)
        for seed in range(3)
    ]
    write_raw(path, frames, codec="ffv1" if path.suffix == ".mkv" else "libx264")
    return path


def _pictures(path: Path) -> list[Picture]:
    with VideoReader(path) as reader:
        return [look.picture for look in reader.looks()]


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
def test_a_part_has_the_very_colors_of_the_whole(pixel_format: str, tmp_path: Path) -> None:
    path = _clip(tmp_path / "clip.mp4", pixel_format)
    rng = np.random.default_rng(0)
    for look, whole in zip(_pictures(path), read(path), strict=True):
        assert isinstance(look, DecodedPicture) and look.size == SIZE
        for _ in range(6):
            left, right = sorted(rng.choice(SIZE[0] + 1, 2, replace=False).tolist())
            top, bottom = sorted(rng.choice(SIZE[1] + 1, 2, replace=False).tolist())
            part = look.part((left, top, right, bottom))
            assert np.array_equal(part, whole.image[top:bottom, left:right])
        assert np.array_equal(look.image, whole.image)


@pytest.mark.parametrize(
    ("pixel_format", "size"), [("yuv420p", (321, 183)), ("gray", SIZE), ("yuva420p", SIZE)]
)
def test_frames_whose_parts_would_differ_are_converted_whole(
    pixel_format: str, size: tuple[int, int], tmp_path: Path
) -> None:
    path = _clip(tmp_path / "clip.mkv", pixel_format, size)
    for look, whole in zip(_pictures(path), read(path), strict=True):
        assert not isinstance(look, DecodedPicture)
        assert np.array_equal(look.image, whole.image)


def test_looks_are_the_frames_that_iterating_gives(tmp_path: Path) -> None:
    path = _clip(tmp_path / "clip.mp4", "yuv420p")
    with VideoReader(path) as reader:
        looks = list(reader.looks())
        frames = list(reader)
        assert [(look.time, look.duration) for look in looks] == [
            (frame.time, frame.duration) for frame in frames
        ]
        assert [frame.time for frame in reader.frames_from(2)] == [float(Fraction(2, 25))]
        (look,) = reader.looks_from(2)
        assert look.time == frames[2].time and np.array_equal(look.picture.image, frames[2].image)


def test_reduced_parts_and_samples_look_like_those_of_the_whole(tmp_path: Path) -> None:
    path = _clip(tmp_path / "clip.mp4", "yuv420p")
    for look, whole in zip(_pictures(path), read(path), strict=True):
        box, small = look.reduced((51, 30, 250, 171), (57, 41))
        left, top, right, bottom = box
        assert (left, top) == (50, 30) and (right, bottom) == (250, 172)  # chroma is not cut in two
        expected = cv2.resize(whole.image[top:bottom, left:right], (57, 41), interpolation=cv2.INTER_AREA)
        assert small.shape == (41, 57, 3)
        assert np.abs(small.astype(int) - expected).mean() < 1.0
        samples = look.samples(2).astype(int)
        assert np.abs(samples - Picture(whole.image).samples(2)).mean() < 4.0  # the grain of single pixels


@pytest.mark.parametrize(
    ("codec", "options", "place"),
    [
        ("libx264", "", Place(0, 1)),
        ("libx264", "chromaloc=1", Place(1, 1)),
        ("libx264", "chromaloc=2", Place(0, 0)),
        ("libx264", "chromaloc=3", Place(1, 0)),
        ("libx264", "chromaloc=4", Place(0, 2)),
        ("libx264", "chromaloc=5", Place(1, 2)),
        ("libx264", "interlaced=1", None),
        ("mjpeg", "", Place(1, 1)),
    ],
)
def test_planes_become_the_colors_wherever_the_chroma_lies(
    codec: str, options: str, place: Place | None, tmp_path: Path
) -> None:
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    frames = [
        av.VideoFrame.from_ndarray(picture(*SIZE, seed=seed, grain=40.0), format="rgb24").reformat(
            format=pixel_format
        )
        for seed in range(2)
    ]
    write_raw(tmp_path / "clip.mkv", frames, codec, **({"x264-params": options} if options else {}))
    for look in _pictures(tmp_path / "clip.mkv"):
        planes = look.planes()
        assert planes is not None and chroma_place(planes, CPU) == place
        if place is not None:
            (image,) = planes_to_tensor(torch.from_numpy(samples_of(planes))[None], planes.layout, place)
            np.testing.assert_array_equal(image.numpy(), look.image)


def test_an_image_is_a_picture_too() -> None:
    image = picture(40, 30)
    known = Picture(image)
    assert known.size == (40, 30) and known.image is image
    assert known.planes() is None
    assert np.array_equal(known.part((3, 5, 20, 25)), image[5:25, 3:20])
    box, small = known.reduced((0, 0, 40, 30), (20, 15))
    assert box == (0, 0, 40, 30)
    assert np.array_equal(small, cv2.resize(image, (20, 15), interpolation=cv2.INTER_AREA))
    assert np.array_equal(known.samples(10), image[5::10, 5::10])

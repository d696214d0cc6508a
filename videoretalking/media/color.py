"""Exact conversion between decoded frames (YUV of any kind) and 8-bit RGB, in both directions.

The scaler of FFmpeg is exact on the way to RGB once its accurate flags are set; its defaults darken pictures by
more than one level. On the way back it shifts the chroma of full-range pictures by half a level, and it places
subsampled chroma between two columns, while H.264 and HEVC decode it as lying on the even columns. Both errors
would cost up to 10 dB on pixels that nobody edited, so :func:`rgb_to_planes` does that direction itself.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, TypeAlias

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import ColorRange

from videoretalking.core.arrays import Floats64, Image8
from videoretalking.core.colors import BT601_LUMA

Chroma = Literal["full", "left", "center"]

# ITU-T H.273 code points, as FFmpeg numbers them.
BT709 = 1
UNSPECIFIED = 2
LIMITED_RANGE = 1
FULL_RANGE = 2

# H.273 matrix -> (red weight, blue weight) of luma. Unspecified is BT.601 at every picture size, as it is for
# FFmpeg's scaler, OpenCV and all other readers built on FFmpeg.
_BT601_WEIGHTS = (BT601_LUMA[0], BT601_LUMA[2])
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}

# Bicubic chroma, exact rounding, chroma interpolated for every pixel: SWS_BICUBIC, SWS_ACCURATE_RND and
# SWS_FULL_CHR_H_INT of libswscale; PyAV 17 has no names for the last two.
_ACCURATE = 0x4 | 0x40000 | 0x2000
_ACCURATE_POINTS = 0x10 | 0x40000 | 0x2000  # the same with the nearest sample: SWS_POINT
_ACCURATE_AREAS = 0x20 | 0x40000 | 0x2000  # the same with means of areas: SWS_AREA

_MOST_THREADS = 4  # that convert a frame: each is started anew for it, and more cost more than they give

# 8-bit formats of three planes -> pixels across and down that share a sample of chroma.
_SUBSAMPLING = {
    "yuv420p": (2, 2),
    "yuvj420p": (2, 2),
    "yuv422p": (2, 1),
    "yuvj422p": (2, 1),
    "yuv444p": (1, 1),
    "yuvj444p": (1, 1),
}
SPECIMEN_SIZE = 16  # pixels of a side

_LIMITED_TO_FULL = np.rint((np.arange(256) - 16.0).clip(0, 219) * (255.0 / 219.0)).astype(np.uint8)

# Half-band low-pass for chroma columns: keeps what bicubic upsampling made, stops what would alias.
HALF_BAND = np.array([[-1, 0, 9, 16, 9, 0, -1]], dtype=np.float32) / 32


@dataclass(frozen=True)
class ColorTags:
    """How a stream's numbers stand for colors, as ITU-T H.273 code points (2 = unspecified).

    ``range`` is never unspecified: 1 limited (16..235), 2 full (0..255).
    """

    matrix: int = BT709
    range: int = LIMITED_RANGE
    primaries: int = BT709
    transfer: int = BT709


Layout: TypeAlias = tuple[ColorTags, Chroma]  # of the planes that an encoder takes


def read_tags(frame: av.VideoFrame, context: av.VideoCodecContext) -> ColorTags:
    """Tags of a decoded frame and its decoder; RGB gets BT.709, limited, which it should be encoded with."""
    if frame.format.is_rgb:
        return ColorTags()
    full = frame.color_range == ColorRange.JPEG or frame.format.name.startswith("yuvj")
    if _is_gray(frame.format):  # FFmpeg's gray has full range unless a stream says otherwise
        full = frame.color_range != ColorRange.MPEG
    return ColorTags(
        int(frame.colorspace),
        FULL_RANGE if full else LIMITED_RANGE,
        int(context.color_primaries),
        int(context.color_trc),
    )


def frame_to_rgb(frame: av.VideoFrame, tags: ColorTags, width: int, height: int, threads: int = 0) -> Image8:
    """Decoded frame of any pixel format -> RGB.

    Args:
        frame: decoded frame; one whose size differs from the stream's (streams may change) is resized.
        tags: of the stream.
        width: of the stream, before rotation.
        height: likewise.
        threads: that convert; 0 is one for each core, but no more than four.

    Returns:
        [height, width, 3] uint8; transparency is flattened onto white.
    """
    has_alpha = frame.format.has_palette or any(part.is_alpha for part in frame.format.components)
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = tags.matrix, tags.range
    converted = frame.reformat(
        width=width,
        height=height,
        format="rgba" if has_alpha else "rgb24",
        interpolation=_ACCURATE,
        threads=threads or min(_MOST_THREADS, os.cpu_count() or 1),
    )
    image = np.ascontiguousarray(converted.to_ndarray(), dtype=np.uint8)
    if _is_gray(frame.format) and tags.range == LIMITED_RANGE:  # the scaler takes gray for full range
        image = _LIMITED_TO_FULL[image]
    return flatten_alpha(image) if has_alpha else image


@dataclass(frozen=True)
class PlaneLayout:
    """How samples of 8 bits that lie one after the other make a picture: all luma, all blue, all red chroma.

    Attributes:
        width: of the luma.
        height: likewise.
        across: pixels in a row that share a sample of chroma, 1 or 2.
        down: pixels in a column that do, 1 or 2.
        tags: how the numbers stand for colors.
    """

    width: int
    height: int
    across: int
    down: int
    tags: ColorTags

    @property
    def num_luma(self) -> int:
        """Samples of luma."""
        return self.width * self.height

    @property
    def num_samples(self) -> int:
        """All samples."""
        rows, columns = self.chroma_shape
        return self.num_luma + 2 * rows * columns

    @property
    def chroma_shape(self) -> tuple[int, int]:
        """Rows and columns of a plane of chroma."""
        return self.height // self.down, self.width // self.across


class Planes:
    """The samples of a decoded frame, for those who convert them elsewhere.

    Args:
        frame: the frame, of a format that :meth:`of` knows.
        layout: of its samples.
    """

    def __init__(self, frame: av.VideoFrame, layout: PlaneLayout) -> None:
        self._frame = frame
        self.layout = layout

    @classmethod
    def of(cls, frame: av.VideoFrame, tags: ColorTags) -> Planes | None:
        """The planes of 8 bits of a frame whose chroma divides it evenly; None for all other frames."""
        across, down = _SUBSAMPLING.get(frame.format.name, (0, 0))
        if not across or frame.width % across or frame.height % down:
            return None
        if min(frame.width, frame.height) <= SPECIMEN_SIZE:
            return None
        return cls(frame, PlaneLayout(frame.width, frame.height, across, down, tags))

    def copy_to(self, samples: npt.NDArray[np.uint8]) -> None:
        """Write the samples into [N] uint8, laid out as ``layout`` says."""
        rows, columns = self.layout.chroma_shape
        shapes = [(self.layout.height, self.layout.width), (rows, columns), (rows, columns)]
        start = 0
        for plane, (height, width) in zip(self._frame.planes, shapes, strict=True):
            lines = np.frombuffer(memoryview(plane), dtype=np.uint8)[: height * plane.line_size]
            target = samples[start : start + height * width].reshape(height, width)
            target[...] = lines.reshape(height, plane.line_size)[:, :width]
            start += height * width

    def specimen(self) -> Image8:
        """What :func:`frame_to_rgb` makes of :func:`specimen_samples` in a frame of the same properties.

        It shows what PyAV does not tell, above all where the frame says that its chroma lies: the scaler minds it.

        Returns:
            [SPECIMEN_SIZE, SPECIMEN_SIZE, 3] uint8.
        """
        tags = self.layout.tags
        # a frame of another size is a new one, with all that is known about this one
        frame = _reformatted(
            self._frame, tags, (SPECIMEN_SIZE,) * 2, self._frame.format.name, _ACCURATE_POINTS
        )
        samples, start = specimen_samples(self.layout.across, self.layout.down), 0
        for plane in frame.planes:
            padded = np.zeros((plane.height, plane.line_size), dtype=np.uint8)
            stop = start + plane.height * plane.width
            padded[:, : plane.width] = samples[start:stop].reshape(plane.height, plane.width)
            plane.update(padded.tobytes())
            start = stop
        return frame_to_rgb(frame, tags, SPECIMEN_SIZE, SPECIMEN_SIZE, threads=1)


@lru_cache
def specimen_samples(across: int, down: int) -> npt.NDArray[np.uint8]:
    """Noise as samples of a small square picture, laid out as in :class:`PlaneLayout`."""
    count = SPECIMEN_SIZE**2
    return np.random.default_rng(0).integers(0, 256, count + 2 * count // (across * down), dtype=np.uint8)


def is_plain(frame: av.VideoFrame) -> bool:
    """Whether a frame is opaque color, of which :func:`frame_to_rgb` converts each part as in the whole.

    Chroma that does not divide the frame's size evenly is stretched over it, by another phase at every pixel.
    """
    parts = frame.format.components
    if _is_gray(frame.format) or frame.format.has_palette or any(part.is_alpha for part in parts):
        return False
    return not any(frame.width % part.width or frame.height % part.height for part in parts)


def sample_rgb(frame: av.VideoFrame, tags: ColorTags, step: int) -> Image8:
    """About the middle pixel of every square of a plain frame, [~height / step, ~width / step, 3]."""
    size = -(-frame.width // step), -(-frame.height // step)
    return _scaled_rgb(frame, tags, size, _ACCURATE_POINTS)


def reduced_rgb(frame: av.VideoFrame, tags: ColorTags, size: tuple[int, int]) -> Image8:
    """A plain frame at a smaller size (width, height) by means of areas: [height, width, 3]."""
    return _scaled_rgb(frame, tags, size, _ACCURATE_AREAS)


def _scaled_rgb(frame: av.VideoFrame, tags: ColorTags, size: tuple[int, int], flags: int) -> Image8:
    small = _reformatted(frame, tags, size, "rgb24", flags)
    return np.ascontiguousarray(small.to_ndarray(), dtype=np.uint8)


def _reformatted(
    frame: av.VideoFrame, tags: ColorTags, size: tuple[int, int], pixel_format: str, flags: int
) -> av.VideoFrame:
    """A small frame, (width, height); one thread, since to start others costs several times what there is to do."""
    if not frame.format.is_rgb:
        frame.colorspace, frame.color_range = tags.matrix, tags.range
    return frame.reformat(width=size[0], height=size[1], format=pixel_format, interpolation=flags, threads=1)


def _is_gray(pixel_format: av.VideoFormat) -> bool:
    return pixel_format.name.startswith("gray")


def flatten_alpha(image: npt.NDArray[np.uint8]) -> Image8:
    """[height, width, 4] uint8 RGBA with straight alpha -> RGB over white."""
    alpha = image[..., 3:].astype(np.float32) / 255.0
    blended = image[..., :3] * alpha + 255.0 * (1.0 - alpha)
    return np.rint(blended).astype(np.uint8)


def rgb_to_planes(image: Image8, tags: ColorTags, chroma: Chroma) -> npt.NDArray[np.uint8]:
    """RGB -> planar YUV, the inverse of :func:`frame_to_rgb`.

    Args:
        image: [height, width, 3]; both even unless ``chroma`` is ``full``.
        tags: matrix and range to use.
        chroma: ``full`` for 4:4:4; for 4:2:0 where its columns lie: ``left``, on the even columns, where decoders
            expect it in H.264 and HEVC, or ``center``, between two columns, as in VP9 and AV1 without a tag.

    Returns:
        uint8, [height * 3 / 2, width] (planes one after the other) or [3, height, width], as PyAV wants them.
    """
    height, width = image.shape[:2]
    matrix = rgb_to_yuv_matrix(tags)
    if chroma == "full":
        return np.ascontiguousarray(cv2.transform(image, matrix).transpose(2, 0, 1))
    luma = cv2.transform(image, matrix[:1])
    rows = cv2.addWeighted(image[0::2], 0.5, image[1::2], 0.5, 0.0, dtype=cv2.CV_32F)
    differences = cv2.transform(rows, matrix[1:])
    if chroma == "left":
        half = cv2.filter2D(differences, -1, HALF_BAND, borderType=cv2.BORDER_REFLECT_101)[:, ::2]
    else:
        half = (differences[:, 0::2] + differences[:, 1::2]) * 0.5
    blue, red = np.moveaxis(np.rint(half).clip(0, 255).astype(np.uint8), -1, 0)
    planes = np.concatenate([luma.ravel(), blue.ravel(), red.ravel()])
    return planes.reshape(height * 3 // 2, width)


def rgb_to_yuv_matrix(tags: ColorTags) -> Floats64:
    """[3, 4] affine map from R, G, B in 0..255 to Y, Cb, Cr in 0..255 (ITU-R BT.601, BT.709, BT.2020)."""
    red, blue = _LUMA_WEIGHTS.get(tags.matrix, _BT601_WEIGHTS)
    luma = np.array([red, 1.0 - red - blue, blue])
    rows = np.stack(
        [
            luma,
            (np.array([0.0, 0.0, 1.0]) - luma) / (2.0 * (1.0 - blue)),
            (np.array([1.0, 0.0, 0.0]) - luma) / (2.0 * (1.0 - red)),
        ]
    )
    if tags.range == FULL_RANGE:
        return np.column_stack([rows, [0.0, 128.0, 128.0]])
    scales = np.array([219.0, 224.0, 224.0]) / 255.0
    return np.column_stack([rows * scales[:, None], [16.0, 128.0, 128.0]])

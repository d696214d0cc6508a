"""A frame whose colors are worked out only where somebody looks.

Bringing a decoded frame into RGB costs several times what decoding it does, and whoever follows a face looks at a
part of it. FFmpeg's crop keeps how the numbers are meant, so a part has the very colors of the whole.
"""

from __future__ import annotations

from typing import TypeAlias

import av
import cv2
import numpy as np
from av.filter import Graph

from videoretalking.core.arrays import Image8
from videoretalking.media.color import ColorTags, Planes, frame_to_rgb, reduced_rgb, sample_rgb

Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom in pixels

_CHROMA = 2  # pixels that share a sample of chroma, in all usual formats
_GRID = 8  # parts begin and end on multiples of it, which every subsampling of chroma divides
_REACH = 8  # pixels beyond a part that its chroma is interpolated from, rounded up to the grid


class Picture:
    """An RGB image that is there already.

    Args:
        image: [H, W, 3] uint8 RGB.
    """

    def __init__(self, image: Image8) -> None:
        self._image: Image8 | None = image
        self.size = (image.shape[1], image.shape[0])

    @property
    def image(self) -> Image8:
        """[H, W, 3] uint8 RGB."""
        assert self._image is not None
        return self._image

    def image_ahead(self) -> Image8:
        """:attr:`image`, for who needs it before the others: parts are worked out as if nobody had looked yet."""
        return self.image

    def planes(self) -> Planes | None:
        """The samples that the colors are worked out from; None where there are none or in no usual form."""
        return None

    def part(self, box: Box) -> Image8:
        """The pixels ``[top:bottom, left:right]`` of :attr:`image`.

        Args:
            box: left, top, right, bottom inside of the frame.
        """
        left, top, right, bottom = box
        return self.image[top:bottom, left:right]

    def reduced(self, box: Box, size: tuple[int, int]) -> tuple[Box, Image8]:
        """A part at a smaller size, every pixel the mean of the area that it covers.

        Args:
            box: left, top, right, bottom inside of the frame.
            size: (width, height), no larger than the box.

        Returns:
            The box that is shown, up to a pixel larger on each side, and [height, width, 3] uint8 RGB.
        """
        return box, np.asarray(cv2.resize(self.part(box), size, interpolation=cv2.INTER_AREA), dtype=np.uint8)

    def samples(self, step: int) -> Image8:
        """About the middle pixel of every square of ``step`` x ``step``."""
        return self.image[step // 2 :: step, step // 2 :: step]


class DecodedPicture(Picture):
    """A decoded frame, upright and of the stream's own size, in opaque color.

    Args:
        decoded: the frame.
        tags: how the stream's numbers stand for colors.
    """

    def __init__(self, decoded: av.VideoFrame, tags: ColorTags) -> None:
        self.size = (decoded.width, decoded.height)
        self._image: Image8 | None = None
        self._image_ahead: Image8 | None = None
        self._decoded = decoded
        self._tags = tags
        self._parts: list[tuple[Box, Image8]] = []  # what was worked out so far

    @property
    def image(self) -> Image8:
        """See :class:`Picture`; converted at the first look."""
        if self._image is None:
            self._image = self.image_ahead()
        return self._image

    def image_ahead(self) -> Image8:
        """See :class:`Picture`."""
        if self._image_ahead is None:
            self._image_ahead = frame_to_rgb(self._decoded, self._tags, *self.size)
        return self._image_ahead

    def planes(self) -> Planes | None:
        """See :class:`Picture`."""
        return Planes.of(self._decoded, self._tags)

    def part(self, box: Box) -> Image8:
        """See :class:`Picture`; a part of an earlier part costs nothing."""
        if self._image is not None:
            return super().part(box)
        for known, pixels in self._parts:
            if _holds(known, box):
                return _cut(pixels, known, box)
        wider = _on_grid(box, self.size)
        cut = _crop(self._decoded, wider)
        pixels = frame_to_rgb(cut, self._tags, cut.width, cut.height, threads=1)
        sound = _sound(wider, self.size)
        self._parts.append((sound, _cut(pixels, wider, sound)))
        return _cut(pixels, wider, box)

    def reduced(self, box: Box, size: tuple[int, int]) -> tuple[Box, Image8]:
        """See :class:`Picture`; chroma is reduced where it is stored, so colors differ by a level or two."""
        if self._image is not None:
            return super().reduced(box, size)
        wider = _on_grid(box, self.size, grid=_CHROMA, reach=0)
        return wider, reduced_rgb(_crop(self._decoded, wider), self._tags, size)

    def samples(self, step: int) -> Image8:
        """See :class:`Picture`; chroma is that of the nearest sample."""
        if self._image is not None:
            return super().samples(step)
        return sample_rgb(self._decoded, self._tags, step)


def _holds(outer: Box, inner: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _cut(pixels: Image8, of: Box, box: Box) -> Image8:
    """The pixels of a box from those of a larger one."""
    return pixels[box[1] - of[1] : box[3] - of[1], box[0] - of[0] : box[2] - of[0]]


def _on_grid(box: Box, size: tuple[int, int], grid: int = _GRID, reach: int = _REACH) -> Box:
    """The part to convert, so that ``box`` has the colors that it has in the whole frame."""
    left, top = ((edge - reach) // grid * grid for edge in box[:2])
    right, bottom = (-(-(edge + reach) // grid) * grid for edge in box[2:])
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _sound(box: Box, size: tuple[int, int]) -> Box:
    """Without the border whose chroma lacks neighbors that the whole frame has."""
    left, top, right, bottom = box
    return (
        left + _REACH * (left > 0),
        top + _REACH * (top > 0),
        right - _REACH * (right < size[0]),
        bottom - _REACH * (bottom < size[1]),
    )


def _crop(frame: av.VideoFrame, box: Box) -> av.VideoFrame:
    """The part as a frame of its own, which shares the memory and keeps the place of the chroma."""
    left, top, right, bottom = box
    graph = Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    crop = graph.add("crop", f"{right - left}:{bottom - top}:{left}:{top}:exact=1")
    sink = graph.add("buffersink")
    source.link_to(crop)
    crop.link_to(sink)
    graph.configure()
    graph.push(frame)
    part = graph.pull()
    assert isinstance(part, av.VideoFrame)
    return part


def as_picture(frame: Image8 | Picture) -> Picture:
    """A frame as a picture, whichever it comes as."""
    return Picture(np.asarray(frame)) if isinstance(frame, np.ndarray) else frame

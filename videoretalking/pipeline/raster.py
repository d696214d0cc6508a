"""Pixel work of pass 2, so that the stages say what is done and not with which library.

A stage handles a batch of images at once, [N, H, W, C] or [N, H, W], as NumPy arrays or as tensors: indexing,
arithmetic, ``clip``, ``round`` and ``sum(axis=...)`` are spelled alike for both, and what is not stands here.
:class:`ArrayRaster` works with OpenCV on the CPU. :class:`~videoretalking.pipeline.raster_torch.TensorRaster` does
the same on the device of the networks, where a frame then stays from the decoder to the encoder.
"""

# ruff: noqa: D102 - the base class says what each operation does

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeAlias

import cv2
import numpy as np
import torch

from videoretalking.core.arrays import AnyImage, Floats64, Image8
from videoretalking.faces.align import coverage_of, warp
from videoretalking.faces.masks import polygon_mask, soften
from videoretalking.faces.types import Crop
from videoretalking.media.color import Layout, rgb_to_planes
from videoretalking.media.picture import Picture

Pixels: TypeAlias = Any  # a NumPy array or a tensor
Size: TypeAlias = tuple[int, int]  # width, height
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom


class Raster(ABC):
    """Operations on batches of images; see the module.

    Attributes:
        device: where the networks run.
        in_batches: whether frames of a chunk are composited together, in the thread of the networks.
        roomy: whether there is memory for chunks of twice as many frames.
    """

    in_batches = False
    roomy = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    # ------------------------------------------------------------------------- to and from frames and networks

    def ready(self, frame: Picture) -> Picture:
        """The same frame, after what is left to decode of it before it is uploaded."""
        return frame

    @abstractmethod
    def upload(self, frames: Sequence[Picture]) -> list[Pixels]:
        """Decoded frames as [H, W, 3] uint8 RGB each where the pixel work is done; from any thread."""

    @abstractmethod
    def receive(self, frames: Sequence[Pixels]) -> None:
        """Make sure that uploaded frames are there before what follows in this thread reads them."""

    @abstractmethod
    def download(self, frames: Sequence[Pixels], layout: Layout | None = None) -> list[Callable[[], Image8]]:
        """Begin to bring finished frames back; each function waits for one of them, in any thread.

        Args:
            frames: [H, W, 3] uint8 each, of one size.
            layout: of the planes that are wanted instead (:func:`media.color.rgb_to_planes`).
        """

    @abstractmethod
    def pixels(self, batch: torch.Tensor) -> Pixels:
        """[N, C, H, W] or [N, H, W] of a network -> [N, H, W, C] or [N, H, W], float32."""

    @abstractmethod
    def tensor(self, images: Pixels) -> torch.Tensor:
        """[N, H, W, C] float32 -> [N, C, H, W] on the device of the networks."""

    # ----------------------------------------------------------------------------------------------- making

    @abstractmethod
    def stack(self, images: Sequence[Pixels], axis: int = 0) -> Pixels:
        """Join images along a new axis."""

    @abstractmethod
    def copy(self, image: Pixels) -> Pixels:
        """An image that may be changed."""

    @abstractmethod
    def contiguous(self, images: Pixels) -> Pixels:
        """The same in one piece of memory."""

    @abstractmethod
    def constant(self, values: AnyImage) -> Pixels:
        """Numbers as they are."""

    @abstractmethod
    def zeros(self, height: int, width: int) -> Pixels:
        """[height, width] float32."""

    @abstractmethod
    def polygons(self, outlines: Sequence[Floats64], size: Size, softness: Sequence[float]) -> Pixels:
        """One :func:`faces.masks.polygon_mask` for each outline, [N, height, width]."""

    # -------------------------------------------------------------------------------------------- operations

    @abstractmethod
    def cut(self, frames: Sequence[Pixels], crops: Sequence[Crop]) -> Pixels:
        """The crops of uint8 frames, which may be of one size only: [N, h, w, 3] float32 in [0, 1]."""

    @abstractmethod
    def warp(
        self,
        images: Pixels,
        matrices: Sequence[Floats64],
        size: Size,
        edge: bool = True,
        cubic: bool = False,
    ) -> Pixels:
        """:func:`faces.align.warp` of float32 images, each under a map of its own."""

    def view(self, images: Pixels, crops: Sequence[Crop], edge: bool = True, cubic: bool = False) -> Pixels:
        """:func:`faces.align.extract` of float32 images, each through a crop of its own, all of one size."""
        return self.warp(images, [crop.matrix for crop in crops], crops[0].size, edge, cubic)

    @abstractmethod
    def coverage(self, patch_size: Size, matrices: Sequence[Floats64], size: Size) -> Pixels:
        """:func:`faces.align.coverage_of` for each map: [N, height, width]."""

    @abstractmethod
    def regions(self, frames: Sequence[Pixels], boxes: Sequence[Box]) -> Pixels:
        """Parts of uint8 frames, [N, H, W, 3]; where they differ in size, the smaller ones are filled up.

        Each stands at the upper left; what follows knows by ``sizes``, (width, height) each, how far it reaches.
        Arrays take one at a time, or several of one size.
        """

    @abstractmethod
    def filled(self, images: Pixels, sizes: Sequence[Size], value: float) -> Pixels:
        """[N, H, W] with ``value`` where an image was filled up."""

    @abstractmethod
    def edges_repeated(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        """[N, H, W, 3] with the last row and column of an image where it was filled up."""

    @abstractmethod
    def soften(self, images: Pixels, softness: Sequence[float]) -> Pixels:
        """:func:`faces.masks.soften` of each image."""

    @abstractmethod
    def shrink(self, images: Pixels, factor: int) -> Pixels:
        """Images of a fraction of the size, pixels being means of squares; sides are multiples of the factor."""

    @abstractmethod
    def enlarge(self, images: Pixels, factor: int) -> Pixels:
        """The way back to the size, bilinear."""

    @abstractmethod
    def reduce(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        """The next level of a Gaussian pyramid, half the size rounded up (``cv2.pyrDown``)."""

    @abstractmethod
    def expand(self, images: Pixels, shape: tuple[int, int], sizes: Sequence[Size]) -> Pixels:
        """The way back to a level of (height, width), whose images reach as far as ``sizes`` (``cv2.pyrUp``)."""

    @abstractmethod
    def distance(self, inside: Pixels, limit: float) -> Pixels:
        """[N, H, W] pixels from each place where ``inside`` holds to the nearest where it does not.

        Values beyond ``limit`` need not be exact, but lie beyond it too.
        """

    @abstractmethod
    def maximum(self, images: Pixels, others: Pixels) -> Pixels:
        """The larger of two numbers each."""

    @abstractmethod
    def finite(self, numbers: Pixels) -> Pixels:
        """0 for what is no number or infinite, as a network in float16 may make it."""

    @abstractmethod
    def cos(self, angles: Pixels) -> Pixels:
        """The cosine of each number."""

    @abstractmethod
    def to_floats(self, images: Pixels) -> Pixels:
        """uint8 -> float32 in [0, 1]."""

    @abstractmethod
    def to_bytes(self, images: Pixels) -> Pixels:
        """float32 in [0, 1] and beyond -> uint8, rounded."""


class ArrayRaster(Raster):
    """On the CPU by OpenCV, image for image."""

    def ready(self, frame: Picture) -> Picture:
        _ = frame.image  # works out the colors
        return frame

    def upload(self, frames: Sequence[Picture]) -> list[Pixels]:
        return [frame.image for frame in frames]

    def receive(self, frames: Sequence[Pixels]) -> None:
        pass

    def download(self, frames: Sequence[Pixels], layout: Layout | None = None) -> list[Callable[[], Image8]]:
        def bring(frame: Image8) -> Image8:
            return frame if layout is None else rgb_to_planes(frame, *layout)

        return [partial(bring, frame) for frame in frames]

    def pixels(self, batch: torch.Tensor) -> Pixels:
        channels_last = batch.permute(0, 2, 3, 1) if batch.dim() == 4 else batch
        return channels_last.contiguous().cpu().float().numpy()

    def tensor(self, images: Pixels) -> torch.Tensor:
        return torch.from_numpy(images).to(self.device).permute(0, 3, 1, 2)

    def stack(self, images: Sequence[Pixels], axis: int = 0) -> Pixels:
        return np.stack(images, axis)

    def copy(self, image: Pixels) -> Pixels:
        return image.copy()

    def contiguous(self, images: Pixels) -> Pixels:
        return np.ascontiguousarray(images)

    def constant(self, values: AnyImage) -> Pixels:
        return values

    def zeros(self, height: int, width: int) -> Pixels:
        return np.zeros((height, width), dtype=np.float32)

    def polygons(self, outlines: Sequence[Floats64], size: Size, softness: Sequence[float]) -> Pixels:
        return np.stack(
            [polygon_mask(outline, size, blur) for outline, blur in zip(outlines, softness, strict=True)]
        )

    def cut(self, frames: Sequence[Pixels], crops: Sequence[Crop]) -> Pixels:
        return self.to_floats(self.view(frames, crops))

    def warp(
        self,
        images: Pixels,
        matrices: Sequence[Floats64],
        size: Size,
        edge: bool = True,
        cubic: bool = False,
    ) -> Pixels:
        return np.stack(
            [warp(image, matrix, size, edge, cubic) for image, matrix in zip(images, matrices, strict=True)]
        )

    def coverage(self, patch_size: Size, matrices: Sequence[Floats64], size: Size) -> Pixels:
        return np.stack([coverage_of(patch_size, matrix, size) for matrix in matrices])

    def regions(self, frames: Sequence[Pixels], boxes: Sequence[Box]) -> Pixels:
        return np.stack(
            [
                frame[top:bottom, left:right]
                for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True)
            ]
        )

    def filled(self, images: Pixels, sizes: Sequence[Size], value: float) -> Pixels:
        return images

    def edges_repeated(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        return images

    def soften(self, images: Pixels, softness: Sequence[float]) -> Pixels:
        return np.stack([soften(*item).reshape(item[0].shape) for item in zip(images, softness, strict=True)])

    def shrink(self, images: Pixels, factor: int) -> Pixels:
        return np.stack([_resized(image, 1 / factor, cv2.INTER_AREA) for image in images])

    def enlarge(self, images: Pixels, factor: int) -> Pixels:
        return np.stack([_resized(image, factor, cv2.INTER_LINEAR) for image in images])

    def reduce(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        return np.stack([cv2.pyrDown(image) for image in images])

    def expand(self, images: Pixels, shape: tuple[int, int], sizes: Sequence[Size]) -> Pixels:
        return np.stack([cv2.pyrUp(image, dstsize=shape[::-1]) for image in images])

    def distance(self, inside: Pixels, limit: float) -> Pixels:
        return np.stack([cv2.distanceTransform(item.astype(np.uint8), cv2.DIST_L2, 5) for item in inside])

    def maximum(self, images: Pixels, others: Pixels) -> Pixels:
        return np.maximum(images, others)

    def finite(self, numbers: Pixels) -> Pixels:
        return np.nan_to_num(numbers, posinf=0.0, neginf=0.0)

    def cos(self, angles: Pixels) -> Pixels:
        return np.cos(angles)

    def to_floats(self, images: Pixels) -> Pixels:
        return images.astype(np.float32) / 255.0

    def to_bytes(self, images: Pixels) -> Pixels:
        return np.clip(np.rint(images * 255.0), 0.0, 255.0).astype(np.uint8)


def _resized(image: Pixels, factor: float, how: int) -> Pixels:
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)

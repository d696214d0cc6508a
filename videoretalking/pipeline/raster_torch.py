"""Pixel work of pass 2 as tensor operations, for frames that stay on the device of the networks.

Same geometry as OpenCV: pixel centers at integers, positions rounded to 1/32 pixel where the installed version
rounds them, pixel areas where an image shrinks, the same kernels and borders. What is separable (reduction, blur,
pyramids) is two matrix products, whose matrices hold the border too. ``tests/pipeline/test_raster.py`` holds both
against each other.

Nothing here waits for the device: what comes from the CPU goes through page-locked memory, and no value is read
back.
"""

# ruff: noqa: D102 - the base class says what each operation does

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, lru_cache, partial

import numpy as np
import torch
import torch.nn.functional as F

from videoretalking.core.arrays import AnyImage, Floats32, Floats64, Image8, Ints64
from videoretalking.core.devices import to_device
from videoretalking.faces.align import (
    MIN_SCALE,
    ReducedParts,
    inverse_maps,
    reduced_parts,
    rounds_positions,
)
from videoretalking.faces.masks import draw_polygon
from videoretalking.faces.types import Crop
from videoretalking.media.color import Layout
from videoretalking.media.color_torch import tensor_to_planes
from videoretalking.media.picture import Picture
from videoretalking.media.upload import groups, upload_pictures
from videoretalking.models.layers.blocks import scale_by
from videoretalking.pipeline.raster import ArrayRaster, Box, Pixels, Raster, Size

_Matrix = Callable[[int], Floats32]

FORCE_VARIABLE = "VIDEORETALKING_RASTER"  # "torch" takes these operations on the CPU too, for tests

# cv2.warpAffine where it rounds: steps of a source position in its integer arithmetic, and those that it
# interpolates between.
_POSITION_BITS, _FRACTION_BITS = 10, 5
_HALF_STEP = 1 << (_POSITION_BITS - _FRACTION_BITS - 1)
_KEPT = 2  # geometries: a way there and back, on which several images go one after the other
_CUBIC_REACH = 2.0  # pixels to each side that a cubic interpolation looks at
_LEAST_AREA = 1e-3  # keeps quotients finite where nothing counts
_BLUR_TAPS = 8  # of cv2.GaussianBlur on float32, in standard deviations
_PYRAMID = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
_STEPS = 16  # rows that the distance looks at in one go
# Bytes of a GPU's memory from which on twice as many frames travel together, each of which then costs the launching
# thread a third less. Chunks of 16 frames, with a face as high as 1080p, took 4.3 GiB with all networks but GFPGAN.
_ROOMY = 30 << 30
_GRID = 32  # sizes of batches of regions are multiples, so that a moving face brings few of them


class TensorRaster(Raster):
    """On the device of the networks, a batch at a time.

    On CUDA a frame goes up and comes down on streams of their own, beside the networks.

    Args:
        device: where.
    """

    in_batches = True

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._up = self._down = None
        self._places: list[tuple[tuple[bytes, Size], torch.Tensor]] = []
        if device.type == "cuda":
            self._up, self._down = _copy_streams(device)
            self.roomy = torch.cuda.get_device_properties(device).total_memory >= _ROOMY

    def upload(self, frames: Sequence[Picture]) -> list[Pixels]:
        with nullcontext() if self._up is None else torch.cuda.stream(self._up):
            return upload_pictures(frames, self.device)

    def receive(self, frames: Sequence[Pixels]) -> None:
        if self._up is None:
            return
        current = torch.cuda.current_stream(self.device)
        current.wait_stream(self._up)
        for frame in frames:
            frame.record_stream(current)

    def download(self, frames: Sequence[Pixels], layout: Layout | None = None) -> list[Callable[[], Image8]]:
        if not len(frames):  # a batch in one tensor too
            return []
        together = groups(len(frames), *frames[0].shape[:2])
        return [fetch for group in together for fetch in self._download(frames[group], layout)]

    def _download(self, frames: Sequence[Pixels], layout: Layout | None) -> list[Callable[[], Image8]]:
        """:meth:`download` of frames that come together."""
        batch = torch.stack(list(frames))
        if layout is not None:
            batch = tensor_to_planes(batch, *layout)
        arrived: torch.cuda.Event | None = None
        host = batch
        if self._down is not None:
            self._down.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(self._down):
                host = torch.empty(batch.shape, dtype=batch.dtype, pin_memory=True)
                host.copy_(batch, non_blocking=True)
                batch.record_stream(self._down)
                # threads that wait for it leave their core to the encoder
                arrived = self._down.record_event(torch.cuda.Event(blocking=True))

        def wait(number: int) -> Image8:
            if arrived is not None:
                arrived.synchronize()
            # page-locked memory is scarce, and the caller may keep some of these frames for long
            return host[number].cpu().numpy().copy()

        return [partial(wait, number) for number in range(len(frames))]

    def pixels(self, batch: torch.Tensor) -> Pixels:
        return batch.permute(0, 2, 3, 1) if batch.dim() == 4 else batch

    def tensor(self, images: Pixels) -> torch.Tensor:
        return images.permute(0, 3, 1, 2)

    def stack(self, images: Sequence[Pixels], axis: int = 0) -> Pixels:
        return torch.stack(list(images), axis)

    def copy(self, image: Pixels) -> Pixels:
        return image.clone()

    def contiguous(self, images: Pixels) -> Pixels:
        return images.contiguous()

    def constant(self, values: AnyImage) -> Pixels:
        return to_device(torch.from_numpy(np.ascontiguousarray(values)), self.device)

    def zeros(self, height: int, width: int) -> Pixels:
        return torch.zeros(height, width, device=self.device)

    def polygons(self, outlines: Sequence[Floats64], size: Size, softness: Sequence[float]) -> Pixels:
        hard = np.stack([draw_polygon(outline, size) for outline in outlines])
        return self.soften(self.constant(hard).float() / 255.0, softness)

    def cut(self, frames: Sequence[Pixels], crops: Sequence[Crop]) -> Pixels:
        return self.warp(frames, [crop.matrix for crop in crops], crops[0].size) / 255.0

    def warp(
        self,
        images: Pixels | Sequence[Pixels],
        matrices: Sequence[Floats64],
        size: Size,
        edge: bool = True,
        cubic: bool = False,
        shrinks: bool = True,
    ) -> Pixels:
        height, width = images[0].shape[:2]
        parts = _parts(np.stack(matrices), size, (width, height), shrinks)
        low, high = parts.boxes[:, :2], parts.boxes[:, 2:]
        if isinstance(images, torch.Tensor):  # one cut for all, though it may be larger
            first, last = low.min(axis=0), high.max(axis=0)
            cut = images[:, first[1] : last[1], first[0] : last[0]]
        else:
            span = (high - low).max(axis=0)
            first = np.minimum(low, np.array((width, height)) - span)
            boxes = np.concatenate([first, first + span], axis=1).tolist()
            cut = torch.stack([image[t:b, x:r] for image, (x, t, r, b) in zip(images, boxes, strict=True)])
        flat = cut.dim() == 3
        batch = (cut[..., None] if flat else cut).permute(0, 3, 1, 2).float()
        offsets, spans = low - first, high - low
        if (parts.sizes != spans).any():
            across, down = (
                self._areas(spans[:, k], parts.sizes[:, k], offsets[:, k], batch.shape[3 - k], edge)
                for k in (0, 1)
            )
            batch = _separable(batch, down, across)
            offsets = np.zeros_like(offsets)
        beyond = _CUBIC_REACH if cubic else 0.0
        grid = self._grid(parts, size, offsets, beyond if edge else None, (batch.shape[3], batch.shape[2]))
        sampled = F.grid_sample(
            batch,
            grid,
            mode="bicubic" if cubic else "bilinear",
            padding_mode="border" if edge else "zeros",
            align_corners=False,
        ).permute(0, 2, 3, 1)
        return sampled[..., 0] if flat else sampled

    def coverage(self, patch_size: Size, matrices: Sequence[Floats64], size: Size) -> Pixels:
        ones = torch.ones(patch_size[::-1], device=self.device).expand(len(matrices), -1, -1)
        return self.warp(ones, matrices, size, edge=False, shrinks=False)

    def regions(self, frames: Sequence[Pixels], boxes: Sequence[Box]) -> Pixels:
        width, height = (_GRID * max(-(-(box[k + 2] - box[k]) // _GRID) for box in boxes) for k in (0, 1))
        parts = [
            F.pad(frame[top:bottom, left:right], (0, 0, 0, width - right + left, 0, height - bottom + top))
            for frame, (left, top, right, bottom) in zip(frames, boxes, strict=True)
        ]
        return torch.stack(parts)

    def filled(self, images: Pixels, sizes: Sequence[Size], value: float) -> Pixels:
        width, height = self.constant(np.array(sizes, dtype=np.int32).T)[:, :, None]
        rows, columns = (torch.arange(length, device=self.device) for length in images.shape[1:3])
        inside = (rows < height)[:, :, None] & (columns < width)[:, None, :]
        return torch.where(inside, images, value)

    def edges_repeated(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        width, height = self.constant(np.array(sizes, dtype=np.int32).T)[:, :, None]
        rows, columns = (
            torch.minimum(torch.arange(length, device=self.device), extent - 1)
            for length, extent in zip(images.shape[1:3], (height, width), strict=True)
        )
        numbers = torch.arange(len(images), device=self.device)[:, None, None]
        return images[numbers, rows[:, :, None], columns[:, None, :]]

    def soften(self, images: Pixels, softness: Sequence[float]) -> Pixels:
        flat = images.dim() == 3
        batch = (images[..., None] if flat else images).permute(0, 3, 1, 2)
        down, across = (self._blurs(softness, length) for length in batch.shape[2:])
        soft = _separable(batch, down, across).permute(0, 2, 3, 1)
        return soft[..., 0] if flat else soft

    def shrink(self, images: Pixels, factor: int) -> Pixels:
        return F.avg_pool2d(images.permute(0, 3, 1, 2), factor).permute(0, 2, 3, 1)

    def enlarge(self, images: Pixels, factor: int) -> Pixels:
        return scale_by(images.permute(0, 3, 1, 2), float(factor)).permute(0, 2, 3, 1)

    def reduce(self, images: Pixels, sizes: Sequence[Size]) -> Pixels:
        height, width = ((length + 1) // 2 for length in images.shape[1:3])
        return self._resample(images, _reduction, (height, width), sizes)

    def expand(self, images: Pixels, shape: tuple[int, int], sizes: Sequence[Size]) -> Pixels:
        return self._resample(images, _expansion, shape, sizes)

    def distance(self, inside: Pixels, limit: float) -> Pixels:
        # Euclidean, where OpenCV's mask of 5 x 5 pixels is up to 2 % off: along the rows first, then across
        reach = int(np.ceil(limit)) + 1
        along = torch.minimum(_since_hole(inside), _since_hole(inside.flip(2)).flip(2))
        square = along.clamp(max=reach).square()
        padded = F.pad(square, (0, 0, reach, reach), value=float(reach**2))
        columns = padded.unfold(1, 2 * reach + 1, 1)  # [N, H, W, steps], a view
        steps = torch.arange(-reach, reach + 1, device=inside.device, dtype=torch.float32).square()
        nearest = [
            (columns[..., first : first + _STEPS] + steps[first : first + _STEPS]).amin(dim=3)
            for first in range(0, len(steps), _STEPS)
        ]
        return torch.stack(nearest).amin(dim=0).sqrt()

    def maximum(self, images: Pixels, others: Pixels) -> Pixels:
        return torch.maximum(images, others)

    def finite(self, numbers: Pixels) -> Pixels:
        return numbers.nan_to_num(posinf=0.0, neginf=0.0)

    def cos(self, angles: Pixels) -> Pixels:
        return torch.cos(angles)

    def to_floats(self, images: Pixels) -> Pixels:
        return images.float() / 255.0

    def to_bytes(self, images: Pixels) -> Pixels:
        return (images * 255.0).round().clamp(0.0, 255.0).to(torch.uint8)

    def _areas(self, spans: Ints64, counts: Ints64, offsets: Ints64, length: int, edge: bool) -> torch.Tensor:
        """[N, max(counts), length] means over pixel areas, as ``cv2.INTER_AREA`` takes them along one axis.

        Args:
            spans: [N] pixels that are reduced.
            counts: [N] pixels that they become.
            offsets: [N] where they begin among the ``length``.
            length: of the axis.
            edge: repeat the last one where an image becomes fewer than another; False gives 0.
        """
        most = int(counts.max())
        columns = np.stack([spans, spans / counts, offsets, counts - 1 if edge else counts], axis=1)
        numbers = self.constant(columns.astype(np.float32))
        span, step, offset, latest = numbers[:, :, None, None].unbind(1)
        number = torch.arange(most, device=self.device, dtype=torch.float32)[:, None]
        first = torch.minimum(number, latest) * step
        last = torch.minimum(first + step, span)
        pixel = torch.arange(length, device=self.device) - offset
        overlap = torch.minimum(pixel + 1.0, last) - torch.maximum(pixel, first)
        return overlap.clamp(min=0.0) / (last - first).clamp(min=_LEAST_AREA)

    def _grid(
        self,
        parts: ReducedParts,
        size: Size,
        offsets: Ints64,
        beyond: float | None,
        source_size: Size,
    ) -> torch.Tensor:
        """[N, h, w, 2] where ``grid_sample`` looks, rounded as ``cv2.warpAffine`` rounds.

        At most ``beyond`` pixels outside of the part; None looks anywhere.
        """
        positions = self._positions(parts.matrices, size)
        numbers = self.constant(np.stack([parts.sizes - 1, offsets], axis=1).astype(np.float32))[
            ..., None, None
        ]
        if beyond is not None:
            positions = torch.minimum(positions.clamp(min=-beyond), numbers[:, 0] + beyond)
        extent = self.constant(np.array(source_size, dtype=np.float32))
        return ((positions + numbers[:, 1]).permute(0, 2, 3, 1) * 2.0 + 1.0) / extent - 1.0

    def _positions(self, matrices: Floats64, size: Size) -> torch.Tensor:
        """[N, 2, h, w] float32 x and y where ``cv2.warpAffine`` looks for the pixels of N outputs."""
        key = matrices.tobytes(), size
        for known, places in self._places:
            if known == key:
                return places
        inverses = inverse_maps(matrices)
        across = inverses[:, :, :1] * np.arange(size[0])
        down = inverses[:, :, 1:2] * np.arange(size[1]) + inverses[:, :, 2:]
        rounded = rounds_positions()
        if rounded:
            across = np.rint(across * 2.0**_POSITION_BITS)
            down = np.rint(down * 2.0**_POSITION_BITS) + _HALF_STEP
        steps = np.concatenate([across, down], axis=2).astype(np.int32 if rounded else np.float32)
        across_steps, down_steps = self.constant(steps).split(size, dim=2)
        places = across_steps[:, :, None, :] + down_steps[:, :, :, None]
        if rounded:
            places = (places >> (_POSITION_BITS - _FRACTION_BITS)).float() / 2.0**_FRACTION_BITS
        self._places = [*self._places[1 - _KEPT :], (key, places)]
        return places

    def _blurs(self, softness: Sequence[float], length: int) -> torch.Tensor:
        """[N or none, length, length] Gaussian blurs along one axis that repeats its border; one if alike."""
        if len(softness) > 1 and len(set(softness)) == 1:
            return _blur_on_device(softness[0], length, self.device)
        return _blurs(self.constant(_gaussians(np.array(softness))), length)

    def _resample(
        self, images: Pixels, matrix: _Matrix, shape: tuple[int, int], sizes: Sequence[Size]
    ) -> Pixels:
        flat = images.dim() == 3
        batch = (images[..., None] if flat else images).permute(0, 3, 1, 2)
        down, across = (
            torch.stack(
                [_on_device(matrix, size[1 - k], shape[k], batch.shape[2 + k], self.device) for size in sizes]
            )
            for k in (0, 1)
        )
        result = _separable(batch, down, across).permute(0, 2, 3, 1)
        return result[..., 0] if flat else result


@cache
def _copy_streams(device: torch.device) -> tuple[torch.cuda.Stream, torch.cuda.Stream]:
    """Up and down, for all rasters: PyTorch has few streams, and hands out those that are in use again."""
    return torch.cuda.Stream(device), torch.cuda.Stream(device)


def choose_raster(device: torch.device) -> Raster:
    """Tensors where the networks run on CUDA, arrays elsewhere."""
    forced = os.environ.get(FORCE_VARIABLE) == "torch"
    return TensorRaster(device) if device.type == "cuda" or forced else ArrayRaster(device)


def _parts(matrices: Floats64, size: Size, image_size: Size, shrinks: bool) -> ReducedParts:
    """The part of an image that each of N outputs shows, reduced where the map [N, 2, 3] shrinks."""
    right, bottom = size[0] - 1, size[1] - 1
    inverses, linear = inverse_maps(matrices), matrices[:, :, :2]
    corners = np.array([[0, 0], [right, 0], [0, bottom], [right, bottom]], dtype=np.float64)
    seen = corners @ inverses[:, :, :2].mT + inverses[:, None, :, 2]
    low = np.clip(np.floor(seen.min(axis=1)) - 1, 0, np.array(image_size) - 1).astype(int)
    high = np.clip(np.ceil(seen.max(axis=1)) + 2, low + 1, image_size).astype(int)
    moved = matrices.copy()
    moved[:, :, 2] += (linear @ low[:, :, None])[:, :, 0]
    boxes, sizes = np.concatenate([low, high], axis=1), high - low
    shrunk = shrinks & (np.sqrt(np.abs(np.linalg.det(linear))) < MIN_SCALE)
    if shrunk.any():
        parts = reduced_parts(matrices[shrunk], size, image_size)
        boxes[shrunk], sizes[shrunk], moved[shrunk] = parts.boxes, parts.sizes, parts.matrices
    return ReducedParts(boxes, sizes, moved)


def _separable(batch: torch.Tensor, down: torch.Tensor, across: torch.Tensor) -> torch.Tensor:
    """Matrices [N or none, to, from] along the rows and columns of [N, C, H, W]."""
    down, across = (matrix[:, None] if matrix.dim() == 3 else matrix for matrix in (down, across))
    return down @ batch @ across.mT


def _since_hole(inside: torch.Tensor) -> torch.Tensor:
    """[N, H, W] how far to the left the last place lies where ``inside`` does not hold."""
    places = torch.arange(inside.shape[2], device=inside.device, dtype=torch.float32)
    holes = torch.where(inside, -2.0 * inside.shape[2], places)
    return places - holes.cummax(dim=2).values


def _gaussians(deviations: Floats64) -> Floats32:
    """[N, taps] kernels of ``cv2.GaussianBlur`` on float32, zeros around the shorter ones."""
    wide = np.maximum(deviations, 0.0)[:, None]
    reaches = (np.rint(wide * _BLUR_TAPS + 1.0).astype(int) | 1) // 2
    steps = np.arange(-reaches.max(), reaches.max() + 1)
    values = np.exp(-0.5 * (steps / np.maximum(wide, _LEAST_AREA)) ** 2) * (np.abs(steps) <= reaches)
    return (values / values.sum(axis=1, keepdims=True)).astype(np.float32)


def _blurs(kernels: torch.Tensor, length: int) -> torch.Tensor:
    """[N, length, length] blurs of an axis by kernels [N, taps]."""
    reach = kernels.shape[1] // 2
    taps = (
        torch.arange(-reach, reach + 1, device=kernels.device)
        + torch.arange(length, device=kernels.device)[:, None]
    )
    blurs = torch.zeros(len(kernels), length, length, device=kernels.device)
    taps = taps.clamp(0, length - 1).expand(len(kernels), -1, -1)
    return blurs.scatter_add_(2, taps, kernels[:, None].expand(-1, length, -1))


@lru_cache(maxsize=64)
def _blur_on_device(deviation: float, length: int, device: torch.device) -> torch.Tensor:
    """[length, length] the same blur for all."""
    return _blurs(to_device(torch.from_numpy(_gaussians(np.array([deviation]))), device), length)[0]


@lru_cache(maxsize=1024)
def _on_device(matrix: _Matrix, length: int, rows: int, columns: int, device: torch.device) -> torch.Tensor:
    result = np.zeros((rows, columns), dtype=np.float32)
    own = matrix(length)
    result[: own.shape[0], : own.shape[1]] = own
    return to_device(torch.from_numpy(result), device)


def _reduction(length: int) -> Floats32:
    """[half, length] ``cv2.pyrDown`` along one axis: the border is mirrored without its last pixel."""
    targets = np.arange((length + 1) // 2)
    result = np.zeros((len(targets), length), dtype=np.float32)
    for tap, weight in enumerate(_PYRAMID, start=-2):
        places = np.abs(2 * targets + tap)
        places = np.minimum(places, np.abs(2 * (length - 1) - places))
        np.add.at(result, (targets, np.minimum(places, length - 1)), weight)
    return result


def _expansion(length: int) -> Floats32:
    """[length, half] ``cv2.pyrUp`` along one axis: mirrored before the first pixel, repeated after the last."""
    source, targets = (length + 1) // 2, np.arange(length)
    result = np.zeros((length, source), dtype=np.float32)
    for tap, weight in enumerate(2.0 * _PYRAMID, start=-2):
        rows = targets[(targets + tap) % 2 == 0]
        columns = np.minimum(np.abs((rows + tap) // 2), source - 1)
        np.add.at(result, (rows, columns), weight)
    return result

"""Alignment and batch assembly exactly as the published inference program does them, quirks included.

The pipeline has better ways of its own (:mod:`faces.align`); these exist so that the differences stay measurable.
Pillow does the resampling here because the published program uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Image8
from videoretalking.core.constants import DNET_SIZE, ENET_SIZE
from videoretalking.core.landmarks import LEFT_EYE, MOUTH_CORNERS, RIGHT_EYE
from videoretalking.faces.align import RECON_TEMPLATE

_ASPECT_EYES, _ASPECT_MOUTH = 2.0, 1.8  # the quad's half side: the larger of 2 eye and 1.8 mouth distances
_CENTER_SHIFT = 0.1  # of the way from the eyes to the mouth
_BORDER_SHARE, _MIN_BORDER = 0.1, 3  # margin of the crop around the quad


def quad_axes(landmarks: npt.ArrayLike, scale: float = 1.0) -> tuple[Floats64, Floats64, Floats64]:
    """Center and half axes of the oriented square around a face (FFHQ alignment).

    Args:
        landmarks: [..., 68, 2] pixels.
        scale: factor on the axes.

    Returns:
        center (type of the landmarks), x and y axis (float64), each [..., 2] pixels.
    """
    points = np.asarray(landmarks)
    left, right = points[..., LEFT_EYE, :].mean(axis=-2), points[..., RIGHT_EYE, :].mean(axis=-2)
    eyes = (left + right) * 0.5
    across = right - left
    down = (points[..., MOUTH_CORNERS[0], :] + points[..., MOUTH_CORNERS[1], :]) * 0.5 - eyes
    # float32 landmarks keep float32 sums up to here and float64 from here on, as published
    x = across + np.stack([down[..., 1], -down[..., 0]], axis=-1).astype(np.float64)
    length = np.maximum(np.hypot(*across.T) * _ASPECT_EYES, np.hypot(*down.T) * _ASPECT_MOUTH).T
    x = x / np.hypot(x[..., :1], x[..., 1:]) * length[..., None] * scale
    y = np.stack([-x[..., 1], x[..., 0]], axis=-1)
    return eyes + down * _CENTER_SHIFT, x, y


def quads_from_axes(center: Floats64, x: Floats64, y: Floats64) -> Floats64:
    """[..., 4, 2] corners in the order top left, bottom left, bottom right, top right."""
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y], axis=-2)


def smooth_axes(values: Floats64, sigma: float) -> Floats64:
    """Gaussian over time (axis 0), cut at 4 sigma, borders mirrored with the edge repeated; [N, 2].

    The result has the type of the values: float32 centers are rounded to float32, as published.
    """
    radius = int(4.0 * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(values, ((radius, radius), (0, 0)), mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=0)
    return np.asarray(windows @ weights, dtype=values.dtype)


def _quad_bounds(quad: Floats64, side: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The quad's bounding box with its border, clipped to the image."""
    border = max(int(np.rint(side * _BORDER_SHARE)), _MIN_BORDER)
    left, top = np.floor(quad.min(axis=0)).astype(int) - border
    right, bottom = np.ceil(quad.max(axis=0)).astype(int) + border
    return max(left, 0), max(top, 0), min(right, size[0]), min(bottom, size[1])


def _reduced_size(size: tuple[int, int], factor: int) -> tuple[int, int]:
    return int(np.rint(size[0] / factor)), int(np.rint(size[1] / factor))


@dataclass(frozen=True)
class FfhqRegion:
    """The first crop of the published program.

    Attributes:
        crop: left, top, right, bottom of the outer crop.
        limits: left, top, right, bottom of the face inside that crop, fractional.
    """

    crop: tuple[int, int, int, int]
    limits: tuple[float, float, float, float]

    def region(self, frame_size: tuple[int, int]) -> tuple[int, int, int, int]:
        """y1, y2, x1, x2 of the face in a frame of (width, height)."""
        left, top = self.crop[:2]
        x1, y1, x2, y2 = (int(value) for value in self.limits)
        return top + y1, min(top + y2, frame_size[1]), left + x1, min(left + x2, frame_size[0])


def ffhq_croper(landmarks: npt.ArrayLike, size: tuple[int, int], output_size: int = 512) -> FfhqRegion:
    """First crop of the clip, from the landmarks of one frame.

    Kept as published: the lower limit is clipped with the *width* of the crop, and faces of 4 x
    ``output_size`` or more return coordinates of a reduced image while the caller applies them to the full
    frame.

    Args:
        landmarks: [68, 2] integer pixels.
        size: (width, height) of the frame.
        output_size: size that the reduction aims at.
    """
    center, x, y = quad_axes(landmarks)
    quad = quads_from_axes(center, x, y)
    side = float(np.hypot(*x) * 2)
    factor = int(np.floor(side / output_size * 0.5))
    if factor > 1:
        size = _reduced_size(size, factor)
        quad, side = quad / factor, side / factor
    crop = _quad_bounds(quad, side, size)
    width = crop[2] - crop[0]
    inside = quad - crop[:2] + 0.5
    (ax, ay), (bx, by), (cx, cy), (dx, dy) = inside.tolist()
    limits = (max(min(ax, bx), 0), max(min(ay, dy), 0), min(max(cx, dx), width), min(max(by, cy), width))
    return FfhqRegion(crop, limits)


def first_face(has_face: Sequence[bool]) -> tuple[int | None, int]:
    """Search of the published program for the frame whose landmarks place the first crop.

    Only the first half of the clip is searched.

    Args:
        has_face: per frame, whether landmarks were found.

    Returns:
        The frame, or None if there is none, and the number of frames examined.

    Raises:
        UnboundLocalError: a single frame, with which the published program fails.
    """
    half = len(has_face) // 2
    if half == 0:
        raise UnboundLocalError("the published search examines no frame of a clip of one frame")
    for index in range(half):
        if has_face[index]:
            return index, index + 1
    return None, half


def missing_landmarks(frame_size: tuple[int, int]) -> Floats64:
    """The five points, y up, that stand in for a frame without landmarks: [5, 2]."""
    template = RECON_TEMPLATE[:, :2].astype(np.float32)
    return ((template + 1) / 2 * np.array(frame_size, dtype=np.float32)).astype(np.float64)


def stit_crop(image: Image8, quad: Floats64, size: int) -> Image8:
    """Sample an oriented square from an image, bilinear without antialiasing, black outside.

    Args:
        image: [H, W, 3] uint8.
        quad: [4, 2] corners in the order of :func:`quads_from_axes`.
        size: side of the result.

    Returns:
        [size, size, 3] uint8.
    """
    from PIL import Image as PillowImage

    picture = PillowImage.fromarray(image)
    side = float(np.hypot(*(quad[3] - quad[1])))  # the diagonal, as published
    factor = int(np.floor(side / size * 0.5))
    if factor > 1:
        picture = picture.resize(_reduced_size(picture.size, factor), PillowImage.Resampling.LANCZOS)
        quad, side = quad / factor, side / factor
    crop = _quad_bounds(quad, side, picture.size)
    if crop[2] - crop[0] < picture.size[0] or crop[3] - crop[1] < picture.size[1]:
        picture = picture.crop(crop)
        quad = quad - crop[:2]
    corners = (quad + 0.5).flatten().tolist()
    transformed = picture.transform(
        (size, size), PillowImage.Transform.QUAD, corners, PillowImage.Resampling.BILINEAR
    )
    return np.asarray(transformed)


def perspective_coefficients(source: npt.ArrayLike, target: npt.ArrayLike) -> Floats64:
    """The eight numbers a..h with u = (a x + b y + c)/(g x + h y + 1), v = (d x + e y + f)/(g x + h y + 1).

    Args:
        source: [4, 2] points (x, y).
        target: [4, 2] points (u, v).
    """
    rows, values = [], []
    for (x, y), (u, v) in zip(np.asarray(source, float), np.asarray(target, float), strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    return np.linalg.solve(np.array(rows), np.array(values))


def quad_inverse(quad: Floats64, size: int) -> Floats64:
    """Perspective coefficients that take image coordinates to those of the ``size`` crop of a quad, [8]."""
    return perspective_coefficients(quad + 0.5, [[0, 0], [0, size], [size, size], [size, 0]])


def paste_square(image: Image8, square: Image8, inverse: Floats64) -> Image8:
    """Warp a square crop back and paste it with a hard edge.

    Args:
        image: [H, W, 3] uint8, not changed.
        square: [S, S, 3] uint8.
        inverse: [8] from :func:`quad_inverse`.

    Returns:
        [H, W, 4] uint8 RGBA.
    """
    from PIL import Image as PillowImage

    canvas = PillowImage.fromarray(image).convert("RGBA")
    patch = (
        PillowImage.fromarray(square)
        .convert("RGBA")
        .transform(
            canvas.size, PillowImage.Transform.PERSPECTIVE, inverse.tolist(), PillowImage.Resampling.BILINEAR
        )
    )
    canvas.paste(patch, (0, 0), mask=patch)
    return np.asarray(canvas)


@dataclass(frozen=True)
class LipsyncBatch:
    """One batch for L-Net.

    Attributes:
        inputs: [B, S, S, 6] float in [0, 1]: original with the lower half black, then the reference.
        originals: [B, S, S, 3] uint8.
        mels: [B, 80, 16, 1].
        coords: y1, y2, x1, x2 of each face in its frame.
        frames: index of each item's frame.
    """

    inputs: Floats64
    originals: Image8
    mels: Floats32
    coords: list[tuple[int, int, int, int]]
    frames: list[int]


def lipsync_batches(
    frames: Sequence[Image8],
    stabilized: Sequence[Image8],
    landmarks: npt.ArrayLike,
    boxes: Sequence[tuple[int, int, int, int]],
    region: tuple[int, int, int, int],
    mels: Sequence[Floats32],
    batch_size: int,
    img_size: int = ENET_SIZE,
    static: bool = False,
) -> list[LipsyncBatch]:
    """Assemble the batches of L-Net from whole frames and stabilized faces.

    Args:
        frames: whole frames, [H, W, 3] uint8.
        stabilized: D-Net's faces, [256, 256, 3] uint8.
        landmarks: [N, 68, 2] in the 256 x 256 version of the region.
        boxes: y1, y2, x1, x2 of the face per frame.
        region: y1, y2, x1, x2 of the first crop.
        mels: windows [80, 16].
        batch_size: items a batch; the last may hold fewer.
        img_size: side S of the crops.
        static: use the first frame throughout.
    """
    references = [
        _reference_frame(frame, face, quad, region)
        for frame, face, quad in zip(frames, stabilized, quads_from_axes(*quad_axes(landmarks)), strict=True)
    ]
    indices = [0 if static else item % len(frames) for item in range(len(mels))]
    batches = []
    for start in range(0, len(mels), batch_size):
        chosen = indices[start : start + batch_size]
        coords = [boxes[index] for index in chosen]
        originals = np.stack([_cut(frames[index], boxes[index], img_size) for index in chosen])
        reference = np.stack([_cut(references[index], boxes[index], img_size) for index in chosen])
        masked = originals.copy()
        masked[:, img_size // 2 :] = 0
        batches.append(
            LipsyncBatch(
                inputs=np.concatenate([masked, reference], axis=3) / 255.0,
                originals=originals,
                mels=np.stack(mels[start : start + batch_size])[..., None],
                coords=coords,
                frames=chosen,
            )
        )
    return batches


def _reference_frame(
    frame: Image8, stabilized: Image8, quad: Floats64, region: tuple[int, int, int, int]
) -> Image8:
    """The frame with its region replaced by the aligned stabilized face, through 256 x 256 pixels."""
    y1, y2, x1, x2 = region
    small = cv2.resize(frame[y1:y2, x1:x2], (DNET_SIZE, DNET_SIZE))
    square = stit_crop(stabilized, quad, DNET_SIZE)
    pasted = paste_square(np.asarray(small, dtype=np.uint8), square, quad_inverse(quad, DNET_SIZE))[..., :3]
    result = frame.copy()
    result[y1:y2, x1:x2] = cv2.resize(np.ascontiguousarray(pasted), (x2 - x1, y2 - y1))
    return result


def _cut(frame: Image8, box: tuple[int, int, int, int], size: int) -> Image8:
    y1, y2, x1, x2 = box
    return np.asarray(cv2.resize(frame[y1:y2, x1:x2], (size, size)), dtype=np.uint8)


def keep_upper_face(
    batch: Floats32,
    output: Floats32,
    upper_face: Floats32,
    enabled: bool = False,
) -> Floats32:
    """Mix the edited upper face into the network's output where its input is not masked.

    As published, the mask is "input value is 0", channel by channel, so truly black pixels count as masked,
    and nothing happens unless the option called ``without_rl1`` is given.

    Args:
        batch: [B, 6, H, W] network input.
        output: [B, 3, H, W] network output.
        upper_face: [B, 3, H, W] edited input.
        enabled: the option.
    """
    if not enabled:
        return output
    masked = batch[:, :3] == 0
    return np.where(masked, output, upper_face)

"""Where a face lies in a frame: crops, their exact inverses, and the alignments that the networks expect.

Convention: pixel (column x, row y) has its center at the integer coordinates (x, y), as in
``cv2.warpAffine``; a frame of width W covers -0.5 .. W - 0.5. An integer box x1, y1, x2, y2 means the
pixels ``[y1:y2, x1:x2]``, so its edges lie at x1 - 0.5 and x2 - 0.5, and resizing it to another size keeps
edges on edges (half-pixel centers).

Landmarks are the 68 points of :mod:`core.landmarks`; left and right mean left and right in the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats, Floats32, Floats64, Image8, Ints64
from videoretalking.core.constants import DNET_SIZE, LANDMARK_SIZE, RECON_SIZE, RESTORER_SIZE
from videoretalking.core.landmarks import (
    LEFT_EYE,
    LEFT_EYE_CORNERS,
    MOUTH_CORNERS,
    NOSE_TIP,
    RIGHT_EYE,
    RIGHT_EYE_CORNERS,
)
from videoretalking.faces.types import Crop

Sample = TypeVar("Sample", np.uint8, np.float32)

# Eye centers, nose tip and mouth corners in the 112 x 96 template (height x width) of the ArcFace alignment,
# which the recognition network and the enhancers share.
_FACE_TEMPLATE = np.array(
    [
        [30.29459953, 51.69630051],
        [65.53179932, 51.50139999],
        [48.02519989, 71.73660278],
        [33.54930115, 92.3655014],
        [62.72990036, 92.20410156],
    ]
)
_TEMPLATE_WIDENING = 8.0  # pixels that make the 96 x 112 template square
RECOGNITION_TEMPLATE = _FACE_TEMPLATE + np.array([_TEMPLATE_WIDENING, 0.0])
RECOGNITION_SIZE = 112
_ENHANCER_PADDING = 0.25  # of the square template, on every side

# The same five points of the 3-D standard face that the 3DMM regressor was trained with (Deng et al. 2019),
# x to the right, y up, z towards the viewer, in units of the face model.
RECON_TEMPLATE = np.array(
    [
        [-0.3114865720272064, 0.29036077857017517, 0.13377952575683594],
        [0.30979886651039124, 0.289720356464386, 0.1317952573299408],
        [0.003253498813137412, -0.04617932438850403, 0.5524424314498901],
        [-0.25216928124427795, -0.3813391625881195, 0.22405731678009033],
        [0.24846619367599487, -0.38128235936164856, 0.22235769033432007],
    ]
)
RECON_SCALE = 102.0  # crop pixels per model unit
_MIN_POSE_SCALE = 0.1  # frame pixels per model unit; less is no face

# Eye centers and nose tip as shares of the aligned face.
# Assumed: the paper names the anchors (section 3.1) but not their target; these are their usual places in the
# VoxCeleb crops that D-Net trains on.
_ANCHOR_TEMPLATE = np.array([[0.37, 0.40], [0.63, 0.40], [0.50, 0.56]])
_ANCHOR_ACROSS = 0.26  # distance of the eyes
_ANCHOR_DOWN = 0.16  # drop from the eyes to the nose

# Assumed: extent of an S3FD box relative to the landmarks; it reaches from the middle of the forehead to the
# chin and from cheek to cheek. The pad below is the published 20 pixels on a face of about 290 pixels.
_FOREHEAD_SHARE = 0.20  # of the distance from brows to chin
_PAD_BELOW_SHARE = 0.07  # of the height of the box

_LANDMARK_CROP_FACTOR = 1.6  # side of the landmark network's crop over the longer side of the landmarks' box
_MAX_CHANNELS = 4  # that OpenCV reduces by areas, interpolates by cubics and, from 5 on, where float32 says
MIN_SCALE = 0.75  # crops that shrink the frame further than this are low-pass filtered first


def five_points(landmarks: npt.ArrayLike) -> Floats:
    """Five anchor points of the 68: eyes (mean of the two corners), nose tip, mouth corners.

    Args:
        landmarks: [..., 68, D]; float32 is averaged in float32, as published.

    Returns:
        [..., 5, D] in image order: left eye, right eye, nose tip, left and right mouth corner; float32 for
        float32, else float64.
    """
    points = _floats(landmarks)
    return np.stack(
        [
            points[..., LEFT_EYE_CORNERS, :].mean(axis=-2),
            points[..., RIGHT_EYE_CORNERS, :].mean(axis=-2),
            points[..., NOSE_TIP, :],
            points[..., MOUTH_CORNERS[0], :],
            points[..., MOUTH_CORNERS[1], :],
        ],
        axis=-2,
    )


def _floats(points: npt.ArrayLike) -> Floats:
    """Points in their own precision, integers in float64."""
    values = np.asarray(points)
    return values if values.dtype == np.float32 else values.astype(np.float64)


def fit_similarity(source: npt.ArrayLike, target: npt.ArrayLike) -> Floats64:
    """Least-squares rotation, uniform scale and shift (no reflection) that takes ``source`` to ``target``.

    Args:
        source: [K, 2] points, K >= 2.
        target: [K, 2] points.

    Returns:
        [2, 3] float64 matrix.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    a, b = source - source_mean, target - target_mean
    spread = (a**2).sum()
    if spread == 0.0:
        raise ValueError("all source points coincide")
    cosine = (a * b).sum() / spread
    sine = (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum() / spread
    linear = np.array([[cosine, -sine], [sine, cosine]])
    return np.concatenate([linear, (target_mean - linear @ source_mean)[:, None]], axis=1)


def box_crop(box: npt.ArrayLike, size: tuple[int, int]) -> Crop:
    """The crop that resizes ``image[y1:y2, x1:x2]`` to ``size``; boxes may be fractional or leave the frame.

    Args:
        box: [4] x1, y1, x2, y2 in pixels.
        size: (width, height) of the crop.
    """
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64)
    if x2 <= x1 or y2 <= y1:
        raise ValueError(f"box {x1, y1, x2, y2} is empty")
    scale_x, scale_y = size[0] / (x2 - x1), size[1] / (y2 - y1)
    return Crop(
        np.array([[scale_x, 0.0, (0.5 - x1) * scale_x - 0.5], [0.0, scale_y, (0.5 - y1) * scale_y - 0.5]]),
        size,
    )


def anchor_crop(landmarks: npt.ArrayLike, size: int = DNET_SIZE) -> Crop:
    """Square face crop anchored at the eye centers and the nose tip, eyes level (paper, section 3.1).

    The anchors do not move when the mouth does, so the crop is steady while the face speaks. The size follows from
    both the distance of the eyes and the drop from the eyes to the nose, so that it changes little when the head
    turns or nods.

    Args:
        landmarks: [68, 2] pixels.
        size: side of the crop.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    anchors = np.stack([points[LEFT_EYE].mean(axis=0), points[RIGHT_EYE].mean(axis=0), points[NOSE_TIP]])
    across = anchors[1] - anchors[0]
    angle = float(np.arctan2(across[1], across[0]))
    down = np.array([-np.sin(angle), np.cos(angle)]) @ (anchors[2] - anchors[:2].mean(axis=0))
    shares = np.linalg.norm(across) / _ANCHOR_ACROSS, max(down, 0.0) / _ANCHOR_DOWN
    side = max(float(np.mean(shares)), 1.0)
    # the anchors' centroid lands on the template's
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    center = anchors.mean(axis=0) + turned @ (0.5 - _ANCHOR_TEMPLATE.mean(axis=0)) * side
    return square_crop(center, side, size, angle)


def enhancer_template(size: int = RESTORER_SIZE) -> Floats64:
    """Where the five points lie in the square that the face enhancers work on: [5, 2] float64 pixels."""
    side = RECOGNITION_SIZE
    padded = RECOGNITION_TEMPLATE + side * _ENHANCER_PADDING
    return padded * size / (side * (1 + 2 * _ENHANCER_PADDING))


def enhancer_crop(landmarks: npt.ArrayLike, size: int = RESTORER_SIZE) -> Crop:
    """Five-point alignment of the face enhancers (GPEN, GFPGAN, the parsing networks).

    Args:
        landmarks: [68, 2] or the [5, 2] points themselves, pixels.
        size: side of the crop.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    five = points if len(points) == 5 else five_points(points)
    return Crop(fit_similarity(five, enhancer_template(size)), (size, size))


def recognition_crop(landmarks: npt.ArrayLike) -> Crop:
    """Five-point alignment of the recognition network (ArcFace), 112 x 112, from [68, 2] pixels."""
    points = five_points(np.asarray(landmarks, dtype=np.float64))
    return Crop(fit_similarity(points, RECOGNITION_TEMPLATE), (RECOGNITION_SIZE, RECOGNITION_SIZE))


def landmarks_box(landmarks: npt.ArrayLike) -> Floats32:
    """Tight boxes of landmarks: [..., K, 2] -> [..., 4] float32 x1, y1, x2, y2."""
    points = np.asarray(landmarks, dtype=np.float32)
    return np.concatenate([points.min(axis=-2), points.max(axis=-2)], axis=-1)


def square_crop(center: npt.ArrayLike, side: float, size: int, angle: float = 0.0) -> Crop:
    """A square around a point, turned clockwise on the screen.

    Args:
        center: [2] pixels; lands in the middle of the crop.
        side: of the square in frame pixels.
        size: of the crop in pixels.
        angle: radians by which the square is turned in the frame.
    """
    cosine, sine = np.cos(angle) * size / side, np.sin(angle) * size / side
    linear = np.array([[cosine, sine], [-sine, cosine]])
    shift = (size - 1) / 2 - linear @ np.asarray(center, dtype=np.float64)
    return Crop(np.concatenate([linear, shift[:, None]], axis=1), (size, size))


def box_landmark_crop(box: npt.ArrayLike, size: int = LANDMARK_SIZE) -> Crop:
    """Upright input of the landmark network around the expected box of the landmarks, [4]."""
    x1, y1, x2, y2 = np.asarray(box, dtype=np.float64)
    side = max(x2 - x1, y2 - y1, 1.0) * _LANDMARK_CROP_FACTOR
    return square_crop([(x1 + x2) / 2, (y1 + y2) / 2], side, size)


def landmark_crop(landmarks: npt.ArrayLike, size: int = LANDMARK_SIZE) -> Crop:
    """Input of the landmark network, turned so that the eyes are level.

    Args:
        landmarks: [68, 2] pixels: labels in training, the previous estimate in tracking.
        size: side of the crop.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    across = points[RIGHT_EYE].mean(axis=0) - points[LEFT_EYE].mean(axis=0)
    angle = float(np.arctan2(across[1], across[0]))
    level = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    x1, y1, x2, y2 = landmarks_box(points @ level.T).astype(np.float64)
    side = max(x2 - x1, y2 - y1, 1.0) * _LANDMARK_CROP_FACTOR
    return square_crop(level.T @ [(x1 + x2) / 2, (y1 + y2) / 2], side, size, angle)


def detector_box(landmarks: npt.ArrayLike) -> Floats32:
    """The box that the S3FD detector would draw around landmarks: [..., 68, 2] -> [..., 4] float32 pixels."""
    box = landmarks_box(landmarks)
    box[..., 1] -= _FOREHEAD_SHARE * (box[..., 3] - box[..., 1])
    return box


def lipsync_box(landmarks: npt.ArrayLike) -> Floats32:
    """The axis-aligned face box whose crop L-Net and E-Net read, made from landmarks.

    The published code cuts the S3FD detector's box, padded by 20 pixels below. Here the box follows from the
    landmarks, so that training and inference agree whichever detector found the face.

    Args:
        landmarks: [..., 68, 2] pixels.

    Returns:
        [..., 4] float32 x1, y1, x2, y2.
    """
    box = detector_box(landmarks)
    box[..., 3] += _PAD_BELOW_SHARE * (box[..., 3] - box[..., 1])
    return box


# ----------------------------------------------------------------------------------------------- pixels


def warp(
    image: npt.NDArray[Sample],
    matrix: Floats64,
    size: tuple[int, int],
    edge: bool = True,
    cubic: bool = False,
) -> npt.NDArray[Sample]:
    """Resample an image under an affine map, low-pass filtered where the map shrinks.

    Args:
        image: [H, W] or [H, W, C], uint8 or float32.
        matrix: [2, 3] image -> output.
        size: (width, height) of the output.
        edge: repeat the border pixels outside the image; False gives black.
        cubic: interpolate with cubic polynomials, which keep fine detail and may leave the range of the image (by a
            tenth of an edge's height), instead of linearly.

    Returns:
        [height, width(, C)] of the type of ``image``.
    """
    if image.ndim == 3 and image.shape[2] > _MAX_CHANNELS:
        return np.dstack([warp(channel, matrix, size, edge, cubic) for channel in np.moveaxis(image, 2, 0)])
    if Crop(matrix, size).scale < MIN_SCALE:
        image, matrix = _shrink(image, matrix, size)
    border = cv2.BORDER_REPLICATE if edge else cv2.BORDER_CONSTANT
    flags = cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR
    warped = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=border, borderValue=0)
    return np.asarray(warped, dtype=image.dtype)


@cache
def rounds_positions() -> bool:
    """Whether ``cv2.warpAffine`` interpolates at multiples of 1/32 pixel, as OpenCV 4 does, and not anywhere.

    OpenCV 5 interpolates images of 1, 3 and 4 channels where float32 positions say. Asked of the function itself,
    as some processors have implementations of their own: a third of the way from 0 to 1 lies 11/32 if it rounds.
    """
    ramp, third = np.array([[0.0, 1.0]], dtype=np.float32), np.array([[1.0, 0.0, 1 / 3], [0.0, 1.0, 0.0]])
    found = cv2.warpAffine(ramp, third, (1, 1), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return float(found[0, 0]) * 32 % 1 == 0


def _shrink(
    image: npt.NDArray[Sample], matrix: Floats64, size: tuple[int, int]
) -> tuple[npt.NDArray[Sample], Floats64]:
    """Cut the part of the image that the output shows and reduce it by pixel areas to the output's scale."""
    parts = reduced_parts(matrix[None], size, (image.shape[1], image.shape[0]))
    left, top, right, bottom = parts.boxes[0]
    reduced = cv2.resize(image[top:bottom, left:right], parts.sizes[0].tolist(), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, dtype=image.dtype), parts.matrices[0]


@dataclass(frozen=True)
class ReducedParts:
    """What :func:`warp` makes of N images that it shrinks, before the interpolation.

    Attributes:
        boxes: [N, 4] left, top, right, bottom of the parts that count.
        sizes: [N, 2] width and height to which pixel areas reduce them.
        matrices: [N, 2, 3] reduced part -> output.
    """

    boxes: Ints64
    sizes: Ints64
    matrices: Floats64


def reduced_parts(matrices: Floats64, size: tuple[int, int], image_size: tuple[int, int]) -> ReducedParts:
    """Which parts of images :func:`warp` reduces, and how far.

    Args:
        matrices: [N, 2, 3] image -> output, of a scale below ``MIN_SCALE``.
        size: (width, height) of the outputs.
        image_size: (width, height) of the images.
    """
    linear, inverses = matrices[:, :, :2], inverse_maps(matrices)
    scales = np.sqrt(np.abs(np.linalg.det(linear)))[:, None]
    corners = np.array([[-1, -1], [size[0], -1], [-1, size[1]], [size[0], size[1]]], dtype=np.float64)
    seen = corners @ inverses[:, :, :2].mT + inverses[:, None, :, 2]
    margin, extent = 2.0 / scales, np.array(image_size)
    low = np.clip(np.floor(seen.min(axis=1) - margin), 0, extent - 1).astype(np.int64)
    high = np.clip(np.ceil(seen.max(axis=1) + margin), low + 1, extent).astype(np.int64)
    spans = high - low
    sizes = np.maximum(np.rint(spans * scales), 1).astype(np.int64)
    # output <- image <- reduced part
    steps = spans / sizes
    shifts = low - 0.5 + 0.5 * steps
    moved = np.concatenate(
        [linear * steps[:, None], matrices[:, :, 2:] + linear @ shifts[:, :, None]], axis=2
    )
    return ReducedParts(np.concatenate([low, high], axis=1), sizes, moved)


def inverse_maps(matrices: Floats64) -> Floats64:
    """[N, 2, 3] the maps back."""
    linear = np.linalg.inv(matrices[:, :, :2])
    return np.concatenate([linear, -linear @ matrices[:, :, 2:]], axis=2)


def extract(image: npt.NDArray[Sample], crop: Crop, edge: bool = True) -> npt.NDArray[Sample]:
    """Cut a crop out of a frame; arguments as in :func:`warp`."""
    return warp(image, crop.matrix, crop.size, edge)


@dataclass(frozen=True)
class Placed:
    """A crop brought back into its frame; touches only ``frame[rows, columns]``.

    Attributes:
        rows: rows of the frame that the crop can touch.
        columns: columns of the frame that the crop can touch.
        pixels: [rows, columns(, C)] the crop's content there.
        coverage: [rows, columns] float32, 1 inside the crop, 0 outside, between on its border pixels.
    """

    rows: slice
    columns: slice
    pixels: npt.NDArray[Any]
    coverage: Floats32


def place(patch: npt.NDArray[Any], crop: Crop, frame_size: tuple[int, int]) -> Placed | None:
    """Bring a crop's pixels back to where :func:`extract` took them from.

    Args:
        patch: [height, width(, C)], uint8 or float32; its size is ``crop.size``.
        crop: the crop.
        frame_size: (width, height) of the frame.

    Returns:
        The placed pixels, or None if the crop lies outside the frame altogether.
    """
    if patch.shape[1::-1] != crop.size:
        raise ValueError(f"patch of size {patch.shape[1::-1]} does not fit a crop of size {crop.size}")
    box = placed_box(crop, frame_size)
    if box is None:
        return None
    left, top, right, bottom = box
    matrix, size = matrix_into(box, crop), (right - left, bottom - top)
    return Placed(
        rows=slice(top, bottom),
        columns=slice(left, right),
        pixels=warp(patch, matrix, size),
        coverage=coverage_of(crop.size, matrix, size),
    )


def placed_box(crop: Crop, frame_size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the frame's pixels that a crop can touch; None if there are none."""
    width, height = crop.size
    corners = crop.to_image([[-1, -1], [width, -1], [-1, height], [width, height]])
    left, top = np.clip(np.floor(corners.min(axis=0)) + 1, 0, frame_size).astype(int).tolist()
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, frame_size).astype(int).tolist()
    return (left, top, right, bottom) if right > left and bottom > top else None


def matrix_from(box: tuple[int, int, int, int], crop: Crop) -> Floats64:
    """[2, 3] map from the pixels of a box of a crop's frame to those of the crop."""
    matrix = crop.matrix.copy()
    matrix[:, 2] += matrix[:, :2] @ box[:2]
    return matrix


def matrix_into(box: tuple[int, int, int, int], crop: Crop) -> Floats64:
    """[2, 3] map from the pixels of a crop to those of a box of its frame."""
    matrix = crop.inverse.copy()
    matrix[:, 2] -= box[:2]
    return matrix


def coverage_of(patch_size: tuple[int, int], matrix: Floats64, size: tuple[int, int]) -> Floats32:
    """How far a warped patch covers each pixel of the output: [height, width] float32 in [0, 1].

    Args:
        patch_size: (width, height) of the patch.
        matrix: [2, 3] patch -> output.
        size: (width, height) of the output.
    """
    ones = np.ones(patch_size[::-1], dtype=np.float32)
    return np.asarray(
        cv2.warpAffine(ones, matrix, size, flags=cv2.INTER_LINEAR, borderValue=0), dtype=np.float32
    )


# ------------------------------------------------------------------------------------- 3DMM regressor


@dataclass(frozen=True)
class ReconAlignment:
    """The published alignment of the 3DMM regressor: resize the frame by ``scale``, cut out 224 x 224.

    Coordinates called "up" have their origin at the lower left pixel: y up = H - 1 - y.

    Attributes:
        frame_size: (width, height) of the frame in pixels.
        scale: crop pixels per frame pixel.
        shift: [2] float64 t_x, t_y: frame position (y up) of the model's origin.
    """

    frame_size: tuple[int, int]
    scale: float
    shift: Floats64

    @property
    def params(self) -> Floats32:
        """[5] width, height, scale, t_x, t_y: what a stored 3DMM row appends to the coefficients."""
        return np.array([*self.frame_size, self.scale, *self.shift], dtype=np.float32)

    @classmethod
    def from_params(cls, params: npt.ArrayLike) -> ReconAlignment:
        """The alignment of a stored row's last five numbers."""
        width, height, scale, x, y = (float(value) for value in np.asarray(params))
        return cls((round(width), round(height)), scale, np.array([x, y]))

    @property
    def resized(self) -> tuple[int, int]:
        """(width, height) of the resized frame, truncated."""
        return int(self.frame_size[0] * self.scale), int(self.frame_size[1] * self.scale)

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, right, bottom of the crop in the resized frame; truncated, may leave the frame."""
        (width, height), (resized_width, resized_height) = self.frame_size, self.resized
        half = RECON_SIZE / 2
        left = int(resized_width / 2 - half + (self.shift[0] - width / 2) * self.scale)
        top = int(resized_height / 2 - half + (height / 2 - self.shift[1]) * self.scale)
        return left, top, left + RECON_SIZE, top + RECON_SIZE

    def to_crop_up(self, points_up: npt.ArrayLike) -> Floats64:
        """Frame points -> crop points, both y up, not rounded as the pixels are: [..., 2] float64."""
        resized, half = np.asarray(self.resized, dtype=np.float64), RECON_SIZE / 2
        centered = np.asarray(points_up, dtype=np.float64) - self.shift + np.asarray(self.frame_size) / 2
        return centered * self.scale - (resized / 2 - half)

    def from_crop_up(self, points: npt.ArrayLike) -> Floats64:
        """Inverse of :meth:`to_crop_up`."""
        resized, half = np.asarray(self.resized, dtype=np.float64), RECON_SIZE / 2
        centered = (np.asarray(points, dtype=np.float64) + (resized / 2 - half)) / self.scale
        return centered + self.shift - np.asarray(self.frame_size) / 2


def flip_y(points: npt.ArrayLike, height: int) -> Floats:
    """Points with y down <-> points with y up, [..., 2]; float32 for float32, else float64.

    The published program turns float32 landmarks in float32, and the crop of a small face enlarges that rounding:
    to 0.003 pixels for a face of 90 pixels in a frame of 1080 rows.
    """
    flipped = _floats(points).copy()
    flipped[..., 1] = height - 1 - flipped[..., 1]
    return flipped


def recon_alignment(landmarks: npt.ArrayLike, frame_size: tuple[int, int]) -> ReconAlignment:
    """Alignment of the 3DMM regressor for one face (Deng et al. 2019, as published with the paper).

    Args:
        landmarks: [68, 2] pixels of the frame, y down; float32 gives the published alignment bit for bit.
        frame_size: (width, height).
    """
    return fit_recon_alignment(five_points(flip_y(landmarks, frame_size[1])), frame_size)


def fit_recon_alignment(points_up: npt.ArrayLike, frame_size: tuple[int, int]) -> ReconAlignment:
    """Least-squares orthographic camera for the [5, 2] anchor points with y up."""
    system = np.concatenate([RECON_TEMPLATE, np.ones((5, 1))], axis=1)
    solution = np.linalg.lstsq(system, np.asarray(points_up, dtype=np.float64), rcond=None)[0]  # [4, 2]
    scale = float(np.linalg.norm(solution[:3], axis=0).mean())
    if not np.isfinite(scale) or scale < _MIN_POSE_SCALE:
        raise ValueError("the landmarks do not span a face")
    return ReconAlignment(frame_size, RECON_SCALE / scale, solution[3])


@dataclass(frozen=True)
class ReconAlignments:
    """:class:`ReconAlignment` of N frames at once, for what is done many times a frame.

    Attributes:
        frame_sizes: [N, 2] float64 (width, height).
        scales: [N] float64.
        shifts: [N, 2] float64.
    """

    frame_sizes: Floats64
    scales: Floats64
    shifts: Floats64

    @classmethod
    def from_params(cls, params: Floats64) -> ReconAlignments:
        """Those of stored rows' last five numbers, [N, 5]."""
        return cls(np.rint(params[:, :2]), params[:, 2], params[:, 3:])

    @classmethod
    def fit(cls, landmarks: Floats64, frame_sizes: Floats64) -> ReconAlignments:
        """As :func:`recon_alignment`, from [N, 68, 2] pixels, y down."""
        up = five_points(landmarks)
        up[..., 1] = frame_sizes[:, 1:] - 1 - up[..., 1]
        system = np.concatenate([RECON_TEMPLATE, np.ones((5, 1))], axis=1)
        columns = np.linalg.lstsq(system, up.transpose(1, 0, 2).reshape(5, -1), rcond=None)[0]
        solution = columns.reshape(4, -1, 2)
        scales = np.linalg.norm(solution[:3], axis=0).mean(axis=1)
        if not (np.isfinite(scales) & (scales >= _MIN_POSE_SCALE)).all():
            raise ValueError("the landmarks do not span a face")
        return cls(frame_sizes, RECON_SCALE / scales, solution[3])

    @property
    def params(self) -> Floats32:
        """[N, 5] width, height, scale, t_x, t_y."""
        return np.column_stack([self.frame_sizes, self.scales, self.shifts]).astype(np.float32)

    def to_crop_up(self, points_up: Floats64) -> Floats64:
        """Frame points -> crop points, both y up: [N, 2]."""
        centered = points_up - self.shifts + self.frame_sizes / 2
        return centered * self.scales[:, None] - self._margins

    def from_crop_up(self, points: Floats64) -> Floats64:
        """Inverse of :meth:`to_crop_up`."""
        centered = (points + self._margins) / self.scales[:, None]
        return centered + self.shifts - self.frame_sizes / 2

    @property
    def _margins(self) -> Floats64:
        """[N, 2] from the resized frame's corner to that of the crop."""
        return np.trunc(self.frame_sizes * self.scales[:, None]) / 2 - RECON_SIZE / 2


def recon_part(alignment: ReconAlignment) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the frame's pixels that :func:`recon_crop` reads; None if there are none."""
    edges = []
    for axis in range(2):
        outputs, size, resized = _recon_axis(alignment, axis)
        if len(outputs) == 0:
            return None
        taps, _ = _bicubic_taps(outputs, size, resized)
        edges.append((int(taps.min()), int(taps.max()) + 1))
    (left, right), (top, bottom) = edges
    return left, top, right, bottom


def _recon_axis(alignment: ReconAlignment, axis: int) -> tuple[Ints64, int, int]:
    """Positions of the crop in the resized frame along x (0) or y (1), and that axis's size before and after."""
    start, resized = alignment.box[axis], alignment.resized[axis]
    outputs = np.arange(max(start, 0), min(start + RECON_SIZE, resized))
    return outputs, alignment.frame_size[axis], resized


def recon_taps(alignment: ReconAlignment, axis: int) -> tuple[int, Ints64, npt.NDArray[np.int32]]:
    """What :func:`recon_crop` sums along an axis.

    Args:
        alignment: of the face.
        axis: 0 for x, 1 for y.

    Returns:
        The first row or column of the crop that lies in the frame, and for the K from there on the [K, taps]
        positions in the frame and their weights in units of 2^-22.
    """
    outputs, size, resized = _recon_axis(alignment, axis)
    if len(outputs) == 0:
        return 0, np.zeros((0, 1), dtype=np.int64), np.zeros((0, 1), dtype=np.int32)
    return int(outputs[0]) - alignment.box[axis], *_bicubic_taps(outputs, size, resized)


def recon_crop(image: Image8, alignment: ReconAlignment, corner: tuple[int, int] = (0, 0)) -> Image8:
    """The 224 x 224 input of the 3DMM regressor.

    Equals resizing the whole frame with an antialiased bicubic filter in Pillow's 8-bit arithmetic and
    cutting the box out of it, bit for bit, but computes only the box. Black outside the frame.

    Args:
        image: [H, W, 3] uint8 RGB frame, or at least its :func:`recon_part`.
        alignment: of that frame's face.
        corner: x, y of the image in the frame.

    Returns:
        [224, 224, 3] uint8 RGB.
    """
    left, top, _, _ = alignment.box
    crop = np.zeros((RECON_SIZE, RECON_SIZE, 3), dtype=np.uint8)
    columns, width, resized_width = _recon_axis(alignment, 0)
    rows, height, resized_height = _recon_axis(alignment, 1)
    if len(columns) == 0 or len(rows) == 0:
        return crop
    column_taps, column_weights = _bicubic_taps(columns, width, resized_width)
    row_taps, row_weights = _bicubic_taps(rows, height, resized_height)
    first, last = row_taps.min(), row_taps.max() + 1
    stripe = image[first - corner[1] : last - corner[1]].swapaxes(0, 1)
    across = _apply_taps(stripe, column_taps - corner[0], column_weights).swapaxes(0, 1)
    inside = _apply_taps(across, row_taps - first, row_weights)
    crop[rows[0] - top : rows[-1] + 1 - top, columns[0] - left : columns[-1] + 1 - left] = inside
    return crop


FIXED_POINT_BITS = 22  # of Pillow's filter weights


def _bicubic_taps(outputs: Ints64, size: int, resized: int) -> tuple[Ints64, npt.NDArray[np.int32]]:
    """Input positions and fixed-point weights, [outputs, taps], of an axis resized to ``resized``."""
    step = size / resized
    width = max(step, 1.0)
    center = (outputs + 0.5) * step
    first = np.maximum((center - 2.0 * width + 0.5).astype(np.int64), 0)
    last = np.minimum((center + 2.0 * width + 0.5).astype(np.int64), size)
    taps = first[:, None] + np.arange((last - first).max())
    x = np.abs((taps - center[:, None] + 0.5) / width)
    # Keys' cubic with a = -0.5
    near, far = (1.5 * x - 2.5) * x * x + 1.0, ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    weights = np.where(taps < last[:, None], np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0)), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    fixed = np.trunc(weights * 2**FIXED_POINT_BITS + np.copysign(0.5, weights)).astype(np.int32)
    return np.minimum(taps, size - 1), fixed


def _apply_taps(image: Image8, taps: Ints64, weights: npt.NDArray[np.int32]) -> Image8:
    """Weighted sums of entries along axis 0, rounded to 8 bit: [N, M, 3] -> [outputs, M, 3]."""
    from scipy import sparse  # its import takes half a second

    count, width = taps.shape
    first, last = int(taps.min()), int(taps.max()) + 1
    starts = np.arange(0, count * width + 1, width)
    filters = sparse.csr_array((weights.ravel(), (taps - first).ravel(), starts), shape=(count, last - first))
    total = filters @ image[first:last].astype(np.int32).reshape(last - first, -1)
    total += 1 << (FIXED_POINT_BITS - 1)
    total >>= FIXED_POINT_BITS
    return np.clip(total, 0, 255).astype(np.uint8).reshape(count, *image.shape[1:])

"""Mouths and poses measured on landmarks: what options of the samplers look at; the paper needs none of this."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.landmarks import (
    INNER_LIP_GAP,
    LEFT_EYE_CORNERS,
    LIPS,
    MIRRORED,
    MOUTH_CORNERS,
    OUTER_EYE_CORNERS,
    OUTER_LIP_GAP,
    RIGHT_EYE_CORNERS,
    STILL,
)
from videoretalking.faces.align import fit_similarity
from videoretalking.faces.types import Crop

# Points that speech moves, and the base of the nose, which holds on to what is above: 34, the lips last.
MOVING = [*range(4, 13), *range(31, 36), *range(LIPS.start, LIPS.stop)]
MOUTH_POINTS = LIPS.stop - LIPS.start
MOUTH_GESTURES = 3  # numbers that :func:`mouth_gestures` gives for a frame
_FAR = 0.75  # quantile of the differences in opening above which a mouth counts as unlike
_LEAST_SPREAD = 0.005  # of a gesture, in distances of the eyes: landmarks tremble that much


def aligned_crop(crop: Crop, landmarks: Floats32, other: Floats32) -> Crop:
    """The view of another frame that shows nose and eyes where a crop shows them: D-Net's job, in the plane.

    Args:
        crop: of a frame.
        landmarks: [68, 2] of that frame, pixels.
        other: [68, 2] of the other frame.

    Returns:
        Crop of the other frame.
    """
    to_frame = Crop(fit_similarity(other[STILL], landmarks[STILL]), crop.size)
    return to_frame.then(crop.matrix)


def pose_distance(landmarks: Floats32, other: Floats32) -> float:
    """How differently two heads of one person are turned out of the plane.

    Args:
        landmarks: [68, 2] pixels.
        other: [68, 2].

    Returns:
        Mean distance of nose and eyes, once brought over each other in the plane, in distances of the outer eye
        corners; 0 for equal turns.
    """
    still = landmarks[STILL]
    to_other = fit_similarity(still, other[STILL])
    left = still @ to_other[:, :2].T + to_other[:, 2] - other[STILL]
    left_eye, right_eye = OUTER_EYE_CORNERS
    eyes = np.linalg.norm(other[left_eye] - other[right_eye])
    return float(np.linalg.norm(left, axis=1).mean() / eyes)


def mouth_points(landmarks: Floats32, crop: Crop, mirrored: bool = False) -> Floats32:
    """The lips as a crop shows them.

    Args:
        landmarks: [68, 2] pixels.
        crop: the view.
        mirrored: the view is a mirror image, so left and right change their names.

    Returns:
        [20, 2] float32, (x, y) in parts of the crop's size, 0 in its middle.
    """
    points = landmarks[MIRRORED] if mirrored else landmarks
    lips = crop.to_crop(points[LIPS])
    return ((lips + 0.5) / crop.size - 0.5).astype(np.float32)


def mouth_shape(landmarks: Floats32) -> Floats32:
    """Lips without the pose of the head in the plane: centered, level, in units of the distance of the eyes.

    Args:
        landmarks: [N, 68, 2] pixels.

    Returns:
        [N, 20, 2] float32, about -0.5 to 0.5.
    """
    across = landmarks[:, RIGHT_EYE_CORNERS].mean(axis=1) - landmarks[:, LEFT_EYE_CORNERS].mean(
        axis=1
    )  # [N, 2]
    mouth = landmarks[:, LIPS]
    mouth = mouth - mouth.mean(axis=1, keepdims=True)
    # a turn by minus the angle of the eyes and division by their distance: conj(across) / |across|^2
    cosine, sine = (across / (across**2).sum(axis=1, keepdims=True)).T[:, :, None]
    x, y = mouth[..., 0], mouth[..., 1]
    return np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1).astype(np.float32)


def mouth_gestures(landmarks: Floats32) -> Floats32:
    """How far the mouth is open and how wide, each measured against the clip's own habit.

    People differ more in the shape of their lips at rest than lips move in speech; what the sound tells is the
    difference from the person's mean, in units of the person's usual movement.

    Args:
        landmarks: [N, 68, 2] pixels, the frames of one clip.

    Returns:
        [N, 3] float32: gap between the inner lips, height of the outer lips and width of the mouth, each with
        mean 0 and a standard deviation of about 1 (less in a clip where nothing moves).
    """
    lips = mouth_shape(landmarks)
    pairs = ((INNER_LIP_GAP, 1), (OUTER_LIP_GAP, 1), (MOUTH_CORNERS, 0))
    sizes = np.stack(
        [
            lips[:, last - LIPS.start, axis] - lips[:, first - LIPS.start, axis]
            for (first, last), axis in pairs
        ],
        axis=1,
    )
    return ((sizes - sizes.mean(axis=0)) / (sizes.std(axis=0) + _LEAST_SPREAD)).astype(np.float32)


def inner_lip_gap(landmarks: Floats32) -> Floats32:
    """Gap between the inner lips in units of the distance of the outer eye corners: [N, 68, 2] -> [N]."""
    upper, lower = INNER_LIP_GAP
    left, right = OUTER_EYE_CORNERS
    gap = np.linalg.norm(landmarks[:, upper] - landmarks[:, lower], axis=1)
    eyes = np.linalg.norm(landmarks[:, left] - landmarks[:, right], axis=1)
    return (gap / eyes).astype(np.float32)


def draw_near(
    frames: Sequence[int],
    count: int,
    gap: tuple[int, int],
    rng: np.random.Generator,
    openings: Floats32 | None = None,
) -> list[int]:
    """For each frame another one of a clip of ``count`` frames, at least ``gap[0]`` and at most ``gap[1]`` away.

    A frame that has none takes any frame of the clip. With ``openings`` [count] (:func:`inner_lip_gap`) only
    the quarter that differs most from the frame in that number is drawn from.
    """
    least, largest = gap
    distances = np.abs(np.arange(count) - np.asarray(frames)[:, None])  # [T, count]
    allowed = (distances >= least) & (distances <= largest)
    if openings is None:
        return [
            int(rng.choice(np.flatnonzero(row))) if row.any() else int(rng.integers(count)) for row in allowed
        ]
    drawn = []
    for frame, row in zip(frames, allowed, strict=True):
        others = np.flatnonzero(row) if row.any() else np.arange(count)
        differences = np.abs(openings[others] - openings[frame])
        far = differences >= np.quantile(differences, _FAR)
        drawn.append(int(rng.choice(others[far])))
    return drawn


def border_points(landmarks: Floats32, crop: Crop) -> Floats32:
    """Landmarks [N, 2] in pixels as a square crop shows them; -1 to 1 is the crop from border to border."""
    return ((2.0 * crop.to_crop(landmarks) + 1.0) / crop.size[0] - 1.0).astype(np.float32)


def replace_lower_half(frame: Image8, other: Image8) -> Image8:
    """A frame with the lower half of another one, faded in over the first twelfth of the height below the middle.

    Args:
        frame: uint8 [S, S, 3].
        other: the same shape.

    Returns:
        uint8 [S, S, 3].
    """
    height = len(frame)
    share = np.clip((np.arange(height) - height // 2 + 1) / (height / 12), 0.0, 1.0)[:, None, None]
    return np.rint(frame + share * (other.astype(np.float32) - frame)).astype(np.uint8)

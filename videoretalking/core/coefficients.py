"""The 3DMM coefficient vector: named slices and the temporal windows that drive D-Net.

Layout of the regressor's output (Deng et al. 2019, as published with the paper): identity 80, expression 64,
texture 80, angles 3, lighting 27, translation 3, together 257. A *stored row* appends the five numbers of the
alignment that cut the regressor's crop out of the frame: width, height, scale, t_x, t_y (pixels of the frame,
y up); together 262. No other module knows these numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from videoretalking.core.arrays import Floats32, Ints64

IDENTITY = slice(0, 80)
EXPRESSION = slice(80, 144)
TEXTURE = slice(144, 224)
ANGLES = slice(224, 227)  # radians: pitch, yaw, roll
LIGHTING = slice(227, 254)
TRANSLATION = slice(254, 257)
NUM_COEFFICIENTS = 257
ALIGNMENT = slice(257, 262)  # width, height, scale, t_x, t_y
CROP = slice(259, 262)  # scale, t_x, t_y: the part of the alignment that D-Net sees
ROW_LENGTH = 262

NUM_EXPRESSION = 64
NUM_MOTION = 73  # expression 64 + angles 3 + translation 3 + crop 3
MOTION_EXPRESSION = slice(0, 64)
MOTION_ANGLES = slice(64, 67)
MOTION_TRANSLATION = slice(67, 70)
MOTION_CROP = slice(70, 73)
MOTION_SCALE = 70

WINDOW_BEFORE = 13
# Differs from paper: the renderer trains on i-13..i+13 (27 frames, as PIRenderer, which section C.1 follows);
# the published inference feeds i-13..i+12 (26). Both are legal inputs of D-Net, whose time axis is averaged.
TRAIN_WINDOW = 27
OFFICIAL_WINDOW = 26

# Weights of the distance that picks the frame whose crop scale is copied (published inference).
_EXPRESSION_WEIGHT = 0.3
_ANGLES_WEIGHT = 0.7


class Drive(NamedTuple):
    """How a D-Net is driven in use, as its checkpoint says (:class:`models.dnet.DNetConfig`).

    Attributes:
        length: frames of the window of coefficients.
        overshoot: how far beyond a template's expression the coefficients go.
        from_rest: whether a face gets the mouth of a frame in which it rests before.
    """

    length: int = TRAIN_WINDOW
    overshoot: float = 0.0
    from_rest: bool = False


def window_indices(center: int, num_frames: int, length: int = TRAIN_WINDOW) -> Ints64:
    """Frame indices of the coefficient window around ``center``, clamped to the clip.

    Args:
        center: index of the frame to render, in [0, num_frames).
        num_frames: frames of the clip (or shot).
        length: 27 for training, 26 for the published inference; always starts 13 frames before.

    Returns:
        int64 array of ``length`` indices.
    """
    return np.clip(np.arange(center - WINDOW_BEFORE, center - WINDOW_BEFORE + length), 0, num_frames - 1)


def motion_rows(rows: Floats32) -> Floats32:
    """The 73 motion numbers of each stored row.

    Args:
        rows: [num_frames, 262] stored rows.

    Returns:
        [num_frames, 73] float32: expression, angles, translation, crop (scale, t_x, t_y).
    """
    return np.concatenate(
        [rows[:, EXPRESSION], rows[:, ANGLES], rows[:, TRANSLATION], rows[:, CROP]], axis=1
    ).astype(np.float32)


def motion_window(rows: Floats32, center: int, length: int = TRAIN_WINDOW) -> Floats32:
    """The coefficient window that drives D-Net for one frame.

    Args:
        rows: [num_frames, 262] stored rows of the clip.
        center: index of the frame to render.
        length: window length in frames.

    Returns:
        [73, length] float32, time last.
    """
    return np.ascontiguousarray(motion_rows(rows[window_indices(center, len(rows), length)]).T)


def crop_ratio(rows: Floats32, source: Floats32) -> float:
    """Factor that brings the clip's crop scale to that of the source frame.

    The frame of ``rows`` nearest to ``source`` in expression (weight 0.3) and angles (0.7) is found, mean
    absolute differences, first minimum; the ratio is the source's crop scale over that frame's (published
    inference). In video-to-video mode the source is a frame of the clip and the ratio is usually 1.

    Args:
        rows: [num_frames, 262] stored rows of the driving clip.
        source: [262] stored row of the frame that will be warped.

    Returns:
        The ratio; multiply row ``MOTION_SCALE`` of the driving window by it unless it is 0.
    """
    expression = np.abs(rows[:, EXPRESSION] - source[EXPRESSION]).mean(axis=1)
    angles = np.abs(rows[:, ANGLES] - source[ANGLES]).mean(axis=1)
    nearest = int(np.argmin(_EXPRESSION_WEIGHT * expression + _ANGLES_WEIGHT * angles))
    return float(source[CROP][0] / rows[nearest, CROP][0])


def driving_window(
    rows: Floats32,
    center: int,
    expression: Floats32 | None = None,
    source: Floats32 | None = None,
    length: int = OFFICIAL_WINDOW,
    overshoot: float = 0.0,
) -> Floats32:
    """Window for frame ``center`` with the expression replaced by a template (paper, section 3.1).

    Pose and crop stay those of the clip, so only the expression is neutralized.

    Args:
        rows: [num_frames, 262] stored rows of the clip.
        center: index of the frame to render.
        expression: [64] template that replaces every column's expression; None keeps the clip's own.
        source: [262] row of the frame to be warped (one-shot mode: row 0); None means the frame itself.
        length: window length in frames.
        overshoot: how far beyond the template the expression goes (:class:`models.dnet.DNetConfig`).

    Returns:
        [73, length] float32.
    """
    window = motion_window(rows, center, length)
    warped = rows[center] if source is None else source
    ratio = crop_ratio(rows, warped)
    if ratio != 0.0:
        window[MOTION_SCALE] *= np.float32(ratio)
    if expression is not None:
        wanted = driving_expression(expression, warped, overshoot)
        window[MOTION_EXPRESSION] = wanted.reshape(NUM_EXPRESSION, 1)
    return window


def driving_expression(template: Floats32, source: Floats32, overshoot: float) -> Floats32:
    """The expression that makes D-Net show a template.

    Args:
        template: [64] what the face shall show.
        source: [262] row of the frame to be warped.
        overshoot: how far to go on beyond the template, in parts of the way from the source's expression to it.

    Returns:
        [64] float32; the template where ``overshoot`` is 0.
    """
    wanted = np.asarray(template, dtype=np.float32).reshape(NUM_EXPRESSION)
    return (wanted + np.float32(overshoot) * (wanted - source[EXPRESSION])).astype(np.float32)

"""The layout of coefficients, the windows that drive D-Net, and the frame whose crop scale is copied."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core import coefficients


def rows(count: int) -> np.ndarray:
    """Stored rows that hold their own frame number in every place."""
    return np.repeat(np.arange(count, dtype=np.float32)[:, None], coefficients.ROW_LENGTH, axis=1)


def test_the_nearest_frame_counts_angles_more_than_expression() -> None:
    clip, source = np.zeros((2, 262), np.float32), np.zeros(262, np.float32)
    clip[0, coefficients.EXPRESSION] = 1.0  # 0.3 away
    clip[1, coefficients.ANGLES] = 0.5  # 0.35 away
    clip[:, coefficients.CROP.start] = [2.0, 4.0]
    source[coefficients.CROP.start] = 1.0
    assert coefficients.crop_ratio(clip, source) == pytest.approx(1 / 2)
    clip[1, coefficients.ANGLES] = 0.4  # 0.28 away
    assert coefficients.crop_ratio(clip, source) == pytest.approx(1 / 4)


def test_windows_start_13_frames_before_and_stay_within_the_clip() -> None:
    assert coefficients.window_indices(20, 100).tolist() == list(range(7, 34))
    assert coefficients.window_indices(20, 100, coefficients.OFFICIAL_WINDOW).tolist() == list(range(7, 33))
    assert coefficients.window_indices(1, 3).tolist() == [0] * 13 + [1] + [2] * 13


def test_a_driving_window_takes_the_template_s_expression_and_the_clip_s_pose() -> None:
    clip = rows(5) + 1.0
    template = np.linspace(0, 1, coefficients.NUM_EXPRESSION, dtype=np.float32)
    window = coefficients.driving_window(clip, 2, template)
    assert window.shape == (73, 26)
    assert np.array_equal(window[coefficients.MOTION_EXPRESSION], np.repeat(template[:, None], 26, axis=1))
    assert np.array_equal(
        window[coefficients.MOTION_ANGLES][0], clip[coefficients.window_indices(2, 5, 26), 0]
    )


def test_the_crop_scale_is_multiplied_by_the_ratio_unless_that_is_zero() -> None:
    clip, source = rows(3) + 1.0, np.ones(262, np.float32)
    source[coefficients.CROP.start] = 3.0  # nearest is row 0, whose scale is 1
    window = coefficients.driving_window(clip, 0, source=source)
    assert window[coefficients.MOTION_SCALE, 0] == 3.0
    source[coefficients.CROP.start] = 0.0
    assert coefficients.driving_window(clip, 0, source=source)[coefficients.MOTION_SCALE, 0] == 1.0


def test_the_expression_goes_beyond_the_template_as_far_as_the_face_was_from_it() -> None:
    clip = rows(5)
    template = np.ones(coefficients.NUM_EXPRESSION, dtype=np.float32)
    window = coefficients.driving_window(clip, 3, template, overshoot=0.5)
    assert (
        window[coefficients.MOTION_EXPRESSION] == 0.0
    ).all()  # 1 + 0.5 (1 - 3), whatever its neighbors show
    there = coefficients.driving_window(clip, 1, template, overshoot=0.5)
    assert (there[coefficients.MOTION_EXPRESSION] == 1.0).all()

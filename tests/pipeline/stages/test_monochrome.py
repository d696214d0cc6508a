"""Pictures of one color stay so, whatever the networks paint."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from videoretalking.pipeline.stages.composite import keep_monochrome

SEPIA = np.array([1.0, 0.8, 0.55], np.float32)


def scene(seed: int) -> np.ndarray:
    """[1, 48, 64, 3] colored noise of some size."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.1, 0.9, (1, 6, 8, 3)).astype(np.float32)
    return np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2)


def luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114], np.float32)


@pytest.mark.parametrize("tint", [np.ones(3, np.float32), SEPIA])
def test_colors_follow_the_brightness_of_a_picture_of_one_color(tint: np.ndarray) -> None:
    frame = luma(scene(0))[..., None] * tint
    painted = scene(1)
    kept = keep_monochrome(frame, painted, np.ones((1, 48, 64), np.float32))
    np.testing.assert_allclose(luma(kept), luma(painted), atol=1e-5)
    wanted = luma(painted)[..., None] * tint / luma(tint[None, None])[..., None]
    np.testing.assert_allclose(kept, wanted, atol=2e-3)


def test_colored_pictures_keep_what_was_painted() -> None:
    painted = scene(1)
    assert keep_monochrome(scene(0), painted, np.ones((1, 48, 64), np.float32)) is painted


def test_what_is_not_covered_does_not_count() -> None:
    frame = np.repeat(luma(scene(0))[..., None], 3, axis=-1)
    frame[:, :24] = scene(2)[:, :24]
    weights = np.ones((1, 48, 64), np.float32)
    weights[:, :24] = 0.0
    kept = keep_monochrome(frame, scene(1), weights)
    np.testing.assert_allclose(kept, np.repeat(luma(scene(1))[..., None], 3, axis=-1), atol=2e-3)


def test_tensors_give_the_same_as_arrays() -> None:
    frame, painted = luma(scene(0))[..., None] * SEPIA, scene(1)
    weights = np.ones((1, 48, 64), np.float32)
    tensors = keep_monochrome(*(torch.from_numpy(item) for item in (frame, painted, weights)))
    np.testing.assert_allclose(tensors.numpy(), keep_monochrome(frame, painted, weights), atol=1e-5)


def test_nothing_covered_stays_finite() -> None:
    empty = np.zeros((1, 48, 64), np.float32)
    assert np.isfinite(keep_monochrome(scene(0), scene(1), empty)).all()

from __future__ import annotations

import numpy as np
import pytest
import torch

from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages import blend
from videoretalking.scripts.parity.published import blend as published

ARRAYS = ArrayRaster(torch.device("cpu"))


def _frame(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _disc(height: int, width: int, radius: float) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return (np.hypot(y - height / 2, x - width / 2) < radius).astype(np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (97, 131), (5, 200)])
def test_pyramid_restores_any_size(shape: tuple[int, int]) -> None:
    image = _frame(*shape)[None].astype(np.float32)
    for bands in range(5):
        pyramids = blend.Pyramids([shape[::-1]], bands, ARRAYS)
        restored = pyramids.collapse(pyramids.laplacian(image))
        np.testing.assert_allclose(restored, image, atol=1e-3)


def test_pyramid_has_the_named_number_of_bands() -> None:
    assert len(blend.Pyramids([(64, 64)], 4, ARRAYS).laplacian(_frame(64, 64)[None].astype(np.float32))) == 5
    assert blend.num_bands(384, 384) == 5
    assert blend.num_bands(24, 100) == 1
    assert blend.num_bands(3, 3) == 0


def _blend(inside: np.ndarray, outside: np.ndarray, mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    pyramids = blend.Pyramids([(width, height)], blend.num_bands(height, width), ARRAYS)
    (mixed,) = blend.blend(inside[None], outside[None], mask[None], pyramids)
    return np.asarray(mixed)


def _blend_into(frame: np.ndarray, patch: np.ndarray, mask: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """The frame with the patch in it."""
    batches = [image[None] for image in (frame, patch, mask, coverage)]
    (edited,), _ = blend.blend_into(*batches, [mask.shape[::-1]], ARRAYS)
    return np.asarray(edited)


def test_extreme_masks_give_either_image() -> None:
    inside, outside = (_frame(80, 90, seed).astype(np.float32) / 255 for seed in (1, 2))
    np.testing.assert_allclose(_blend(inside, outside, np.ones((80, 90), np.float32)), inside, atol=1e-5)
    np.testing.assert_allclose(_blend(inside, outside, np.zeros((80, 90), np.float32)), outside, atol=1e-5)


def test_color_step_becomes_a_ramp_while_texture_stays_sharp() -> None:
    """What multi-band blending is for: no edge between two flat colors, full contrast on each side."""
    texture = (np.indices((128, 128)).sum(0) % 2).astype(np.float32)[..., None] * 0.1
    inside, outside = 0.7 + texture + np.zeros(3, np.float32), 0.4 + texture + np.zeros(3, np.float32)
    mask = np.zeros((128, 128), np.float32)
    mask[:, 64:] = 1
    mixed = _blend(inside, outside, mask)
    smooth = mixed.mean(axis=2).reshape(64, 2, 64, 2).mean(axis=(1, 3))[32]
    assert np.abs(np.diff(smooth)).max() < 0.05  # the step of 0.3 is spread over many pixels
    contrast = mixed[..., 0].reshape(64, 2, 64, 2).max(axis=(1, 3)) - mixed[..., 0].reshape(64, 2, 64, 2).min(
        axis=(1, 3)
    )
    assert contrast.min() > 0.08


def _margin(height: int, width: int) -> np.ndarray:
    coverage = np.ones((height, width), np.float32)
    coverage[0] = coverage[-1] = coverage[:, 0] = coverage[:, -1] = 0.4
    return coverage


def test_background_beside_the_mask_keeps_its_bytes() -> None:
    frame = _frame(200, 200)
    edited = _blend_into(frame, np.ones((200, 200, 3), np.float32), _disc(200, 200, 50), _margin(200, 200))
    y, x = np.mgrid[:200, :200]
    distance = np.hypot(y - 100, x - 100)
    far = distance > 50 + blend.SPREAD * 200 + 2
    assert np.array_equal(edited[far], frame[far])
    assert (edited[distance < 25] > 215).all()


def test_the_end_of_the_patch_keeps_its_bytes_even_under_a_full_mask() -> None:
    frame = _frame(100, 120)
    ones = np.ones((100, 120), np.float32)
    edited = _blend_into(frame, np.ones((100, 120, 3), np.float32), ones, _margin(100, 120))
    for edge in (np.s_[:2], np.s_[-2:], np.s_[:, :2], np.s_[:, -2:]):
        assert np.array_equal(edited[edge], frame[edge])
    assert (edited[45:55, 55:65] == 255).all()


def test_the_border_of_the_frame_is_no_end_of_the_patch() -> None:
    frame = _frame(60, 60)
    ones = np.ones((60, 60), np.float32)
    assert (_blend_into(frame, np.ones((60, 60, 3), np.float32), ones, ones) == 255).all()


def test_an_empty_mask_changes_nothing() -> None:
    frame = _frame(90, 90)
    zeros = np.zeros((90, 90), np.float32)
    edited = _blend_into(frame, np.ones((90, 90, 3), np.float32), zeros, zeros + 1)
    assert np.array_equal(edited, frame)


def test_published_paste_changes_pixels_that_ours_keeps() -> None:
    """The deviation of docs/deviations.md: the published paste-back softens the whole frame."""
    frame = _frame(240, 320)
    mask = np.zeros((240, 320), np.float32)
    mask[100:140, 140:180] = 1
    pasted = published.paste(frame, frame, mask, levels=6)
    far = np.s_[:40, :60]
    assert np.abs(pasted[far].astype(int) - frame[far]).mean() > 5
    ours = frame.copy()
    ours[80:160, 120:200] = _blend_into(
        ours[80:160, 120:200], np.zeros((80, 80, 3), np.float32), _disc(80, 80, 30), _margin(80, 80)
    )
    assert np.array_equal(ours[far], frame[far])
    assert not np.array_equal(ours, frame)

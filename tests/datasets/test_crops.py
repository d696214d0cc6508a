"""Geometry of crops."""

from __future__ import annotations

import numpy as np
import pytest

from videoretalking.core.landmarks import MIRRORED
from videoretalking.datasets.collection import ClipCollection, DataConfig
from videoretalking.datasets.crops import Jitter, cut, face_crop, mirror
from videoretalking.faces.align import box_crop
from videoretalking.faces.types import Crop

BOX = box_crop([10.0, 20.0, 50.0, 60.0], (20, 20))  # half size


def test_jitter_moves_the_view() -> None:
    center = np.array([29.5, 39.5])  # of the box, pixel centres at integers
    np.testing.assert_allclose(Jitter().apply(BOX).matrix, BOX.matrix, atol=1e-12)
    moved = Jitter(shift_x=0.25, shift_y=-0.5).apply(BOX)
    np.testing.assert_allclose(moved.to_image([9.5, 9.5]), center + np.array([10.0, -20.0]))
    grown = Jitter(scale=2.0).apply(BOX)
    np.testing.assert_allclose(grown.to_image([9.5, 9.5]), center)
    np.testing.assert_allclose(grown.scale, BOX.scale / 2)
    turned = Jitter(angle=np.pi / 2).apply(BOX)  # what the view's right edge shows lies below in the frame
    np.testing.assert_allclose(turned.to_image([19.0, 9.5]), center + np.array([0.0, 19.0]), atol=1e-9)


def test_mirror_swaps_left_and_right() -> None:
    np.testing.assert_allclose(
        mirror(BOX).to_crop([[10.0, 20.0]]), 19.0 * np.array([[1, 0]]) - BOX.to_crop([[10.0, 20.0]]) * [1, -1]
    )
    assert MIRRORED[MIRRORED].tolist() == list(range(68))


@pytest.mark.parametrize("size", [16, 40, 96])  # 16 and 40 are decoded at a reduced size
def test_crops_show_the_same_place_at_every_size(data: DataConfig, size: int) -> None:
    clips = ClipCollection(data, "train", ["boxes"], 2)
    clip = clips.clip(0)
    reference = cut(clip, 3, face_crop(clip, 3, 192)).astype(float)
    shown = cut(clip, 3, face_crop(clip, 3, size)).astype(float)
    if 192 % size == 0:
        step = 192 // size
        reference = reference.reshape(size, step, size, step, 3).mean(axis=(1, 3))
        assert np.abs(shown - reference).mean() < 4.0
    assert shown.shape == (size, size, 3)


def test_restored_frames_show_the_same_view(data: DataConfig) -> None:
    clip = ClipCollection(data, "train", ["boxes"], 2).clip(0)
    crop = face_crop(clip, 5, 64)
    difference = cut(clip, 5, crop).astype(float) - cut(clip, 5, crop, version="restored")
    assert np.abs(difference).mean() < 4.0
    shifted = Crop(crop.matrix + np.array([[0, 0, 3.0], [0, 0, 0]]), crop.size)
    moved = cut(clip, 5, crop).astype(float) - cut(clip, 5, shifted, version="restored")
    assert np.abs(moved).mean() > 1.5 * np.abs(difference).mean()  # the comparison would notice 3 pixels

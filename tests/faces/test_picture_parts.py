from __future__ import annotations

import numpy as np
import pytest

from videoretalking.faces import align
from videoretalking.faces.align import extract, recon_alignment, recon_crop, recon_part, square_crop
from videoretalking.faces.parts import extract_part
from videoretalking.media.picture import Picture


class Narrow(Picture):
    """Notes which part was looked at, and hides the rest."""

    def part(self, box: tuple[int, int, int, int]) -> np.ndarray:
        left, top, right, bottom = box
        assert 0 <= left < right <= self.size[0] and 0 <= top < bottom <= self.size[1]
        self.share = (right - left) * (bottom - top) / (self.size[0] * self.size[1])
        return self.image[top:bottom, left:right].copy()


def noise(width: int, height: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("side", [60.0, 128.0, 400.0])
@pytest.mark.parametrize("center", [(300.0, 200.0), (5.3, 7.1), (-400.0, 100.0), (640.0, 900.0)])
def test_a_crop_needs_only_the_part_that_it_shows(side: float, center: tuple[float, float]) -> None:
    picture, crop = Narrow(noise(640, 480)), square_crop(center, side, 128, 0.3)
    difference = np.abs(extract_part(picture, crop).astype(int) - extract(picture.image, crop))
    # float32 positions in a frame of 640 pixels are off by 1/16,000 pixel, which few values of noise show
    most, mean = (0, 0.0) if align.rounds_positions() else (1, 0.005)
    assert difference.max() <= most and difference.mean() <= mean
    assert picture.share < (0.8 if side == 400.0 else 0.1)


@pytest.mark.parametrize("shift", [0.0, -150.0, 250.0])
def test_the_regressor_reads_only_its_part(frontal: np.ndarray, shift: float) -> None:
    image = noise(640, 480)
    landmarks = frontal - frontal.mean(axis=0) + [320 + shift, 240]
    alignment = recon_alignment(landmarks, (640, 480))
    box = recon_part(alignment)
    assert box is not None
    left, top, right, bottom = box
    assert (right - left) * (bottom - top) < image[..., 0].size
    crop = recon_crop(image[top:bottom, left:right], alignment, (left, top))
    assert np.array_equal(crop, recon_crop(image, alignment))
    image[:top], image[bottom:], image[:, :left], image[:, right:] = 0, 0, 0, 0
    assert np.array_equal(crop, recon_crop(image, alignment))
    assert recon_part(recon_alignment(landmarks + np.array([9000.0, 0.0]), (640, 480))) is None

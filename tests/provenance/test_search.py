"""The shares of the search, the shifts that are likely, and what whitening leaves."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from media_clips import picture

from videoretalking.core.arrays import Floats32
from videoretalking.provenance import search
from videoretalking.provenance.carriers import carriers_of, draw_tile
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload, encode
from videoretalking.provenance.pieces import PieceSum, Planes
from videoretalking.provenance.placements import USUAL, Placement
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.whitening import level, whiten

PAYLOAD = Payload(4711)


def total_share(priors: list[search._Prior]) -> float:
    return sum(
        prior.anywhere + sum(len(shifts) * share for shifts, share in prior.likely) for prior in priors
    )


@pytest.mark.parametrize(("height", "width"), [(144, 144), (288, 360), (448, 796), (600, 448)])
def test_shares_of_all_hypotheses_are_at_most_one(height: int, width: int) -> None:
    white = whiten(picture(width, height, grain=6.0)[..., 1])
    carriers = carriers_of(PUBLIC_KEY)
    assert 0.95 < total_share(search._priors(white, carriers)) <= 1.0
    places = [Placement(1.0), Placement(0.8, 1.1, 2.0)]
    assert total_share(list(search._given(white, places, (3.0, 4.0)))) == pytest.approx(1.0)
    assert len(search._WHOLE) == len(search._ANYWHERE) == len(USUAL)


@pytest.mark.parametrize(
    ("cut", "size"), [((0, 0), 1.0), ((0, 0), 0.5), ((0, 0), 0.75), ((31, 12), 1.0), ((60, 80), 1.0)]
)
def test_the_shift_of_a_cut_is_where_the_waves_agree(cut: tuple[int, int], size: float) -> None:
    carriers = carriers_of(PUBLIC_KEY)
    tile = draw_tile(carriers, encode(PAYLOAD), 140)
    marked = np.tile(tile, (3, 3))[:320, :400]
    marked = marked[cut[1] : len(marked) - cut[1], cut[0] : marked.shape[1] - cut[0]]
    shape = (round(marked.shape[1] * size), round(marked.shape[0] * size))
    small: Floats32 = cv2.resize(marked, shape, interpolation=cv2.INTER_AREA)
    place = Placement(size)
    expected = search.shift_of_cut(*small.shape, place, [cut], size)
    spectrum = search.fold(small, place)
    near = expected + np.stack(np.meshgrid(np.arange(-2, 2.1, 0.5), np.arange(-2, 2.1, 0.5)), -1).reshape(
        -1, 2
    )
    scores, sync = search.agreements(spectrum, carriers, near)
    assert np.abs(near[int(scores.argmax())] - expected).max() <= 0.51
    at, _ = search.agreements(spectrum, carriers, expected)
    assert at[0] > 0.93 * scores.max() and sync.max() > 0


def test_a_picture_that_was_only_weakened_needs_less_evidence() -> None:
    frame = picture(260, 200, seed=3, grain=5.0)
    marked = VideoMark(PUBLIC_KEY, PAYLOAD).apply(frame)
    noisy = marked + np.random.default_rng(0).normal(0, 9.0, marked.shape)
    gray = cv2.cvtColor(np.clip(noisy, 0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
    carriers = carriers_of(PUBLIC_KEY)
    whole = search.find(whiten(gray), carriers)
    moved = search.find(whiten(gray[5:, 3:]), carriers)
    assert whole.payload == moved.payload == PAYLOAD
    assert whole.log_p < moved.log_p - 4.0
    assert search.find(whiten(gray[20:-20, 26:-26]), carriers).payload == PAYLOAD


def test_whitening_leaves_the_mark_and_takes_edges() -> None:
    carriers = carriers_of(PUBLIC_KEY)
    tile = np.tile(draw_tile(carriers, encode(PAYLOAD), 140), (2, 2))[:224, :256]
    edges = np.zeros((224, 256), np.float32)
    edges[60:170, 40:200] = 120.0
    edges[100:140, 90:150] = 30.0
    both = whiten(edges + tile)
    kept = np.corrcoef(both.ravel(), tile.ravel())[0, 1]
    before = np.corrcoef((edges + tile - cv2.GaussianBlur(edges + tile, (0, 0), 3)).ravel(), tile.ravel())[
        0, 1
    ]
    assert kept > 0.6 > before + 0.3
    assert whiten(np.full((90, 70), 128, np.uint8)).shape == (90, 70)
    assert np.abs(whiten(np.full((90, 70), 128, np.uint8))).max() < 1e-3
    colors = whiten(edges, -0.8 * cv2.resize(tile, (128, 112), interpolation=cv2.INTER_AREA))
    assert np.corrcoef(colors.ravel(), tile.ravel())[0, 1] > 0.3


def test_noisy_regions_count_less_and_the_rim_is_soft() -> None:
    rng = np.random.default_rng(1)
    white = rng.normal(0, 1.0, (200, 300)).astype(np.float32)
    white[:, 150:] *= 10.0
    leveled = level(white)
    quiet, loud = leveled[50:150, 20:100].std(), leveled[50:150, 200:280].std()
    assert 0.2 < quiet / loud < 0.5  # before, the loud half was ten times as strong
    assert np.abs(leveled[0]).max() < 0.5 * np.abs(leveled[10]).max()


def test_colors_add_to_what_is_known() -> None:
    rough = cv2.GaussianBlur(np.random.default_rng(2).normal(128, 160, (160, 200)), (0, 0), 2.0)
    frame = np.repeat(np.clip(rough, 0, 255).astype(np.uint8)[..., None], 3, axis=2)  # busy and without color
    planes = Planes.from_image(VideoMark(PUBLIC_KEY, PAYLOAD).apply(frame))
    scores = []
    for color in (planes.color, None):
        total = PieceSum(0.0, 0.0)
        total.add(Planes(planes.gray, color))
        scores.append(search.find(total.piece().white, carriers_of(PUBLIC_KEY)).log_p)
    assert scores[0] < scores[1] - 10.0

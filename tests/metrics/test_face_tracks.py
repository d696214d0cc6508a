from __future__ import annotations

import numpy as np
import pytest

from videoretalking.metrics.face_tracks import TrackingConfig, crop_face, link_faces

CONFIG = TrackingConfig(min_detections=10, max_gap=3)


def _box(x: float, y: float = 50.0, size: float = 120.0) -> list[float]:
    return [x, y, x + size, y + size]


def test_two_people_give_two_tracks() -> None:
    tracks = link_faces([[_box(0 + t), _box(300 - t)] for t in range(20)], CONFIG)
    assert [len(track) for track in tracks] == [20, 20]
    assert tracks[0].boxes[:, 0].tolist() == list(range(20))
    assert tracks[1].boxes[:, 0].tolist() == list(range(300, 280, -1))


def test_gaps_are_filled_and_long_gaps_end_a_track() -> None:
    frames = [[_box(2.0 * t)] for t in range(30)]
    frames[5] = frames[6] = []
    (track,) = link_faces(frames, CONFIG)
    assert (track.start, len(track)) == (0, 30)
    assert track.boxes[5, 0] == pytest.approx(10.0)
    frames[5:10] = [[] for _ in range(5)]
    (track,) = link_faces(frames, CONFIG)  # the first five detections are too few
    assert (track.start, len(track)) == (10, 20)


def test_short_and_small_tracks_are_dropped() -> None:
    assert link_faces([[_box(0)]] * 10, CONFIG) == []
    assert link_faces([[_box(0, size=100.0)]] * 20, CONFIG) == []
    assert len(link_faces([[_box(0, size=100.5)]] * 11, CONFIG)) == 1


def test_crop_shows_the_face_where_the_protocol_puts_it() -> None:
    frame = np.zeros((400, 400, 3), dtype=np.uint8)
    frame[160:240, 160:240] = 255  # a face of half size 40 around (200, 200)
    crop = crop_face(frame, (200.0, 200.0), 40.0)
    assert crop.shape == (224, 224, 3)
    rows, columns = np.nonzero(crop[..., 0] > 127)
    # rows reach from -1 to +1.8 half sizes, columns from -1.4 to +1.4
    assert (rows.min(), rows.max() + 1) == (0, round(224 * 2 / 2.8))
    assert (columns.min(), columns.max() + 1) == (round(224 * 0.4 / 2.8), round(224 * 2.4 / 2.8))


def test_crop_is_gray_beyond_the_frame() -> None:
    crop = crop_face(np.zeros((100, 100, 3), dtype=np.uint8), (0.0, 50.0), 40.0)
    assert (crop[:, 0] == 110).all()
    assert (crop[:100, -1] == 0).all()

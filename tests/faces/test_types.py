"""Face types: exact inverses, ranges of shots and presence, and strict storage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.faces.types import Crop, FaceTrack, runs


def make_track() -> FaceTrack:
    rng = np.random.default_rng(0)
    count = 9
    return FaceTrack(
        times=np.arange(count) / 25,
        present=np.array([1, 1, 0, 1, 1, 1, 0, 0, 1], dtype=bool),
        scores=rng.random(count).astype(np.float32),
        landmarks=rng.random((count, 68, 2)).astype(np.float32),
        landmarks_raw=rng.random((count, 68, 2)).astype(np.float32),
        boxes=rng.random((count, 4)).astype(np.float32),
        rows=rng.random((count, 262)).astype(np.float32),
        shots=np.array([0, 0, 0, 0, 1, 1, 1, 1, 1], dtype=np.int64),
        frame_size=(640, 360),
        backend="bundled",
        settings="abc",
    )


def test_crop_inverse_is_exact() -> None:
    crop = Crop(np.array([[0.3, -0.2, 40.0], [0.2, 0.3, -7.0]]), (96, 96))
    points = np.random.default_rng(1).uniform(0, 500, (5, 2))
    assert np.allclose(crop.to_image(crop.to_crop(points)), points, atol=1e-10)
    assert crop.scale == pytest.approx(np.hypot(0.3, 0.2))
    assert crop.to_crop([0.0, 0.0]).tolist() == [40.0, -7.0]


def test_runs_cover_the_labels() -> None:
    assert list(runs(np.array([3, 3, 1, 1, 1, 3]))) == [slice(0, 2), slice(2, 5), slice(5, 6)]
    assert list(runs(np.array([], dtype=np.int64))) == []


def test_ranges_respect_shots_and_absence() -> None:
    track = make_track()
    assert list(track.shot_slices()) == [slice(0, 4), slice(4, 9)]
    assert list(track.present_slices()) == [slice(0, 2), slice(3, 4), slice(4, 6), slice(8, 9)]


def test_save_and_load_are_bit_exact(tmp_path: Path) -> None:
    track = make_track()
    track.save(tmp_path / "track.npz")
    again = FaceTrack.load(tmp_path / "track.npz")
    for name in (
        "times",
        "present",
        "scores",
        "landmarks",
        "landmarks_raw",
        "boxes",
        "rows",
        "shots",
    ):
        stored = getattr(track, name)
        assert getattr(again, name).dtype == stored.dtype
        assert np.array_equal(getattr(again, name), stored)
    assert (again.frame_size, again.backend, again.settings) == ((640, 360), "bundled", "abc")
    assert [item.name for item in tmp_path.iterdir()] == ["track.npz"]


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "track.npz"
    with pytest.raises(UserError, match="does not exist"):
        FaceTrack.load(path)
    make_track().save(path)
    whole = path.read_bytes()
    for damaged in (whole[:100], whole[: len(whole) // 2], b"not a track", b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="damaged"):
            FaceTrack.load(path)
    broken = bytearray(whole)
    broken[len(whole) // 2] ^= 0xFF
    path.write_bytes(bytes(broken))
    with pytest.raises(UserError):
        FaceTrack.load(path)
    np.savez(path, times=np.zeros(3))
    with pytest.raises(UserError, match="not a face track"):
        FaceTrack.load(path)


def test_wrong_shapes_are_refused() -> None:
    track = FaceTrack.empty(np.arange(3), (64, 48))
    assert not track.present.any()
    with pytest.raises(ValueError, match="rows"):
        track.with_rows(np.zeros((3, 257), dtype=np.float32))

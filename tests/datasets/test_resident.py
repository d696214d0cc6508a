"""Pictures from frames in memory are those from files, up to rounding."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import MEL_BANDS
from videoretalking.core.distributed import World
from videoretalking.core.errors import UserError
from videoretalking.datasets import resident
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.base import ClipDataset, SampleSource
from videoretalking.datasets.clips import RESTORED_SIZE, ClipMeta, ClipWriter, PreparedClip
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.datasets.enet import ENetClips
from videoretalking.datasets.expert import SyncWindows
from videoretalking.datasets.landmarks import LandmarkCrops
from videoretalking.datasets.lnet import LNetClips
from videoretalking.datasets.manifest import ManifestEntry, write_manifest
from videoretalking.datasets.resident import Resident, load_resident, stay_resident
from videoretalking.datasets.small_data import MouthWindows, NearLNetClips
from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.faces.align import box_crop, extract
from videoretalking.scripts.preprocess.restore import restored_windows

CPU = torch.device("cpu")
ONE = World(0, 1, CPU)
PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "portrait.jpg"
VIEWS = AugmentConfig(flip=0.5, color=1.0, crop_jitter=0.1)
KEYS = [(epoch, index) for epoch in range(3) for index in range(3)]

MakeData = Callable[[SampleSource], ClipDataset]


def both(make: MakeData, data: DataConfig, augment: AugmentConfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same batch from files and from memory."""
    files, memory = (make(SampleSource(data, augment)) for _ in range(2))
    keys = [(epoch, index % len(files)) for epoch, index in KEYS]
    room = load_resident(memory, CPU)
    return default_collate([files[key] for key in keys]), room.render(
        default_collate([memory[key] for key in keys])
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda source: LNetClips(source, antialias=True),
        lambda source: LNetClips(source, antialias=False),
        lambda source: SyncWindows(source, antialias=True),
        lambda source: MouthWindows(source, num_windows=3, antialias=True),
        lambda source: NearLNetClips(source, antialias=True, far_references=0.5, with_points=True),
        lambda source: ENetClips(source, num_frames=2, size=192),
        lambda source: ENetClips(source, targets="original", num_frames=2, size=96),
        lambda source: DNetPairs(source, size=64),
    ],
)
def test_samples_from_memory_are_those_from_files(data: DataConfig, make: MakeData) -> None:
    wanted, found = both(make, data, VIEWS)
    assert wanted.keys() == found.keys()
    for name, value in wanted.items():
        if not isinstance(value, torch.Tensor):
            assert found[name] == value
            continue
        assert found[name].shape == value.shape and found[name].dtype == value.dtype, name
        assert found[name].is_contiguous(), name  # as the loader leaves them
        difference = 255.0 * (found[name] - value).abs()
        if name in make(SampleSource(data)).layouts:
            assert 0.0 < difference.mean() < 0.5 and difference.max() < 6.0, name
        else:
            assert torch.equal(found[name], value), name


def test_restored_faces_come_from_where_they_lie(tmp_path: Path) -> None:
    """What preprocessing stores of a restored frame is a window around the face, another one in each frame."""
    write_synthetic(tmp_path, num_train=2, num_val=0, num_frames=6)
    for name in ("train/face0", "train/face1"):
        clip, writer = PreparedClip(tmp_path / name), ClipWriter(tmp_path / name)
        windows = restored_windows(clip.boxes)
        size = (RESTORED_SIZE, RESTORED_SIZE)
        writer.write_per_frame("restored_windows", windows)
        enlarged = [extract(clip.frame(frame), box_crop(windows[frame], size)) for frame in range(len(clip))]
        writer.write_frames(enlarged, "restored")
    for size in (96, 384):
        wanted, found = both(
            lambda source, size=size: ENetClips(source, num_frames=2, size=size),
            DataConfig(str(tmp_path)),
            VIEWS,
        )
        for name in ("target", "reference"):
            difference = 255.0 * (found[name] - wanted[name]).abs()
            assert difference.mean() < 0.7 and difference.quantile(0.999) < 8.0


def test_degraded_inputs_are_near_those_from_files(data: DataConfig) -> None:
    for name, most in (("blur", 0.5), ("occlusion", 0.5), ("jpeg", 2.0)):
        augment = dataclasses.replace(AugmentConfig(), **{name: 1.0})
        wanted, found = both(LNetClips, data, augment)
        assert 255.0 * (found["frame"] - wanted["frame"]).abs().mean() < most
        assert 255.0 * (found["frame"] - wanted["target"]).abs().mean() > 2.0 * most / (1 + (name == "jpeg"))


def test_small_faces_are_near_those_from_files(data: DataConfig) -> None:
    augment = AugmentConfig(gray=0.5, tint=0.5, small=1.0)
    wanted, found = both(lambda source: LNetClips(source, antialias=True), data, augment)
    plain, _ = both(lambda source: LNetClips(source, antialias=True), data, AugmentConfig(gray=1e-9))
    for name in ("frame", "target", "reference"):
        assert 255.0 * (found[name] - wanted[name]).abs().mean() < 0.5
        assert (255.0 * (found[name] - wanted[name]).abs()).max() < 6.0
        assert 255.0 * (plain[name] - wanted[name]).abs().mean() > 2.0


def photo(side: int) -> Image8:
    return np.asarray(
        cv2.resize(cv2.imread(str(PORTRAIT)), (side, side), interpolation=cv2.INTER_AREA)[..., ::-1]
    )


@pytest.mark.parametrize(("side", "size"), [(301, 192), (301, 128), (450, 96), (450, 48)])
def test_large_frames_shrink_as_in_files(tmp_path: Path, side: int, size: int) -> None:
    """Through every way of making a frame smaller: by areas, while decoding, and both."""
    writer = ClipWriter(tmp_path / "a")
    writer.write_frames([np.ascontiguousarray(np.roll(photo(side), shift, axis=1)) for shift in range(6)])
    writer.write_per_frame("boxes", np.tile(np.float32([-9.3, 4.2, side - 20.0, side + 7.0]), (6, 1)))
    writer.write_per_frame("landmarks", np.float32(side * np.random.default_rng(0).random((6, 68, 2))))
    writer.write_audio(np.zeros(640 * 6, np.float32), np.zeros((MEL_BANDS, 60), np.float32))
    window = (0.0, 0.0, float(side), float(side))
    writer.finish(ClipMeta("a", 6, side, side, window, "portrait", "none", release_training=True))
    write_manifest(tmp_path, [ManifestEntry("a", "train", "a", 6, True)])
    wanted, found = both(
        lambda source: ENetClips(source, targets="original", num_frames=2, size=size),
        DataConfig(str(tmp_path)),
        VIEWS,
    )
    difference = 255.0 * (found["target"] - wanted["target"]).abs()
    assert difference.mean() < 0.7 and difference.quantile(0.999) < 8.0


def test_auto_leaves_cpus_and_turned_pictures_to_the_files(data: DataConfig) -> None:
    assert stay_resident(LNetClips(SampleSource(data)), "auto", ONE) is None
    assert stay_resident(LNetClips(SampleSource(data)), False, ONE) is None
    for turned in (
        LandmarkCrops(SampleSource(data)),
        NearLNetClips(SampleSource(data), align_references=True),
    ):
        with pytest.raises(UserError, match=r"^data.resident=on is not possible: .* set data.resident=off$"):
            stay_resident(turned, True, ONE)
    dataset = LNetClips(SampleSource(data))
    assert isinstance(stay_resident(dataset, True, ONE), Resident) and dataset.planner is not None


def test_what_does_not_fit_stays_in_files(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "_free_memory", lambda world: 2 * 24 * 128 * 128 * 3 * 3 - 2)
    with pytest.raises(UserError, match=r"need more than the 0\.0 GiB"):
        stay_resident(LNetClips(SampleSource(data)), True, ONE)
    monkeypatch.setattr(resident, "_free_memory", lambda world: 2 * 24 * 128 * 128 * 3 * 3)
    assert stay_resident(LNetClips(SampleSource(data)), True, ONE) is not None

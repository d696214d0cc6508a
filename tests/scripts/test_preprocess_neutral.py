"""Frames as D-Net renders them, and L-Net's samples that take them as references."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.clips import PreparedClip, Version
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.crops import Jitter, cut_low, face_views
from videoretalking.datasets.manifest import read_manifest
from videoretalking.datasets.small_data import NearLNetClips
from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.pipeline.raster_torch import FORCE_VARIABLE
from videoretalking.scripts.preprocess import neutral


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip for training and one for validation, rendered by the bundled D-Net."""
    folder = write_synthetic(tmp_path_factory.mktemp("neutral"), num_train=1, num_val=1, num_frames=8)
    assert neutral.run(folder, neutral.choose_renderer("demo", "cpu")) == 1
    return folder


def clips(root: Path, split: str) -> list[PreparedClip]:
    return [PreparedClip(root / entry.clip) for entry in read_manifest(root) if entry.split == split]


def test_training_clips_get_frames_of_their_size_and_landmarks_near_their_own(root: Path) -> None:
    (clip,) = clips(root, "train")
    frame, rendered = clip.frame(3), clip.frame(3, version="neutral")
    assert rendered.shape == frame.shape and (rendered != frame).any()
    face = np.ptp(clip.landmarks[3], axis=0).mean()
    distance = np.linalg.norm(clip.neutral_landmarks[3] - clip.landmarks[3], axis=1).mean()
    assert clip.neutral_landmarks.shape == clip.landmarks.shape and distance < 0.25 * face
    assert not any(clip.has("neutral_index") for clip in clips(root, "val"))


def test_tensors_give_the_same_frames(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, where frames are tensors."""
    other = write_synthetic(tmp_path_factory.mktemp("tensors"), num_train=1, num_val=1, num_frames=8)
    monkeypatch.setenv(FORCE_VARIABLE, "torch")
    assert neutral.run(other, neutral.choose_renderer("demo", "cpu")) == 1
    for mine, theirs in zip(clips(other, "train"), clips(root, "train"), strict=True):
        difference = mine.frame(3, version="neutral").astype(int) - theirs.frame(3, version="neutral")
        assert np.abs(difference).mean() < 0.5


def test_what_d_net_does_not_see_stays(root: Path) -> None:
    (clip,) = clips(root, "train")
    x0, y0, x1, y1 = (round(float(number)) for number in clip.meta.dnet_window)
    outside = np.ones(clip.frame(0).shape[:2], bool)
    outside[max(0, y0) : y1, max(0, x0) : x1] = False
    difference = np.abs(clip.frame(0, version="neutral").astype(int) - clip.frame(0)).max(axis=2)
    corners = difference[:4, :4]  # the window of a small clip may be all of it, faded at the border
    assert (difference[outside] <= 8).all() and corners.max() <= 8  # JPEG twice


def test_only_another_d_net_renders_again(root: Path) -> None:
    renderer = neutral.choose_renderer("demo", "cpu")
    assert neutral.run(root, renderer) == 0
    (clip,) = clips(root, "train")
    (clip.folder / "neutral_dnet.txt").write_text("another file")
    assert neutral.run(root, renderer) == 1 and neutral.run(root, renderer) == 0


def test_samples_see_rendered_frames_of_another_time(root: Path) -> None:
    data = NearLNetClips(
        SampleSource(DataConfig(str(root))), reference_gap=(2, 4), neutral_references=1.0, with_points=True
    )
    (clip,) = clips(root, "train")
    sample = data[0, 0]

    def nearest(name: str, version: Version) -> tuple[int, float]:
        """The frame that a picture of the sample shows, and how far it is from it in gray levels."""
        shown = np.rint(255.0 * sample[name][:, 0]).transpose(1, 2, 0)
        views = [face_views(clip, [frame], Jitter(), mirrored=False)[0] for frame in range(len(clip))]
        errors = [
            np.abs(shown - cut_low(clip, frame, view, False, version)).mean()
            for frame, view in enumerate(views)
        ]
        return int(np.argmin(errors)), float(min(errors))

    rendered, error = nearest("reference", "neutral")
    frame, _ = nearest("target", "frames")
    assert error < 0.5 and 2 <= abs(rendered - frame) <= 4
    assert not data.is_upright() and np.isfinite(sample["reference_points"]).all()


def test_validation_sees_real_frames(root: Path) -> None:
    source = SampleSource(DataConfig(str(root)), training=False)
    assert NearLNetClips(source, neutral_references=1.0).neutral_references == 0.0


def test_data_without_training_clips_are_refused(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path, num_train=0, num_val=1, num_frames=6)
    with pytest.raises(UserError, match="no clips for training"):
        neutral.run(folder, neutral.choose_renderer("demo", "cpu"))


def test_a_version_that_was_never_written_is_named(tmp_path: Path) -> None:
    folder = write_synthetic(tmp_path / "data", num_train=1, num_val=0, num_frames=6)
    (clip,) = clips(folder, "train")
    with pytest.raises(UserError, match="neutral"):
        clip.frame(0, version="neutral")

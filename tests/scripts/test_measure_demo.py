from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import UserError
from datasets.clips import PreparedClip
from datasets.synthetic import write_synthetic_clip
from scripts import measure_demo as figures


def _unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_sync_accuracy_is_one_for_matching_and_half_for_unrelated_embeddings() -> None:
    rng = np.random.default_rng(0)
    video = _unit(rng.normal(size=(200, 16)))
    assert figures.sync_accuracy(video, video) == 1.0
    assert figures.sync_accuracy(video, _unit(rng.normal(size=(200, 16)))) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("late", [0, 4])
def test_offsets_of_windows_see_late_sound(late: int) -> None:
    video = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    offsets = figures.offsets_of_windows(video, np.roll(video, late, axis=0))
    assert len(offsets) == 3
    assert offsets == [-late] * 3


def test_redub_shows_the_painter_masked_frames_one_reference_and_the_new_speech(tmp_path: Path) -> None:
    write_synthetic_clip(tmp_path / "clip", seed=0, num_frames=20)
    clip = PreparedClip(tmp_path / "clip")
    heard, references = [], []

    def painter(audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        assert (faces[:, :3, 48:] == 0).all() and faces[:, :3, :48].mean() > 0.1
        heard.append(audio)
        references.append(faces[:, 3:])
        return faces[:, 3:] + 0.0

    mel = np.random.default_rng(1).normal(size=(80, 62)).astype(np.float32)
    painted = figures.redub(clip, mel, painter)
    # (62 - 16) / 3.2 + 1 whole windows
    assert painted.shape == (15, 3, 96, 96)
    assert np.array_equal(torch.cat(heard)[10, 0].numpy(), mel[:, 32:48])
    assert (torch.cat(references) == references[0][0]).all()


def test_measure_needs_prepared_clips(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("clip,split,identity,num_frames,release_training\n")
    with pytest.raises(UserError, match="no validation clips"):
        figures.measure(tmp_path, tmp_path)

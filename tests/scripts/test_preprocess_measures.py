"""Steps that measure or restore finished clips: 3DMM rows, offset filter, restored targets."""

from __future__ import annotations

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from face_rows import described_landmarks
from torch import nn

from videoretalking.core.coefficients import ANGLES, ROW_LENGTH
from videoretalking.core.errors import UserError
from videoretalking.core.locations import HOME_VARIABLE
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.crops import cut, face_crop
from videoretalking.datasets.synthetic import write_synthetic_clip
from videoretalking.faces.reconstruct import FitReconstructor, load_face_model
from videoretalking.media.audio import load_waveform
from videoretalking.metrics.offset import SyncScore, sync_score
from videoretalking.models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig
from videoretalking.scripts.preprocess import offsets
from videoretalking.scripts.preprocess.audio import cut_sound
from videoretalking.scripts.preprocess.clips import ClippedSource, ClipPlan
from videoretalking.scripts.preprocess.coefficients import clip_rows, hold_reconstructor
from videoretalking.scripts.preprocess.offsets import (
    OffsetConfig,
    embed_clip,
    judge,
    mend_source,
    move_sound,
)
from videoretalking.scripts.preprocess.restore import restore_clip, restore_frames
from videoretalking.scripts.preprocess.runner import Rejected
from videoretalking.scripts.preprocess.sources import Source


@pytest.fixture
def clip(tmp_path: Path) -> PreparedClip:
    write_synthetic_clip(tmp_path / "clip", seed=1, num_frames=12)
    return PreparedClip(tmp_path / "clip")


def test_rows_describe_the_face_in_dnets_view(clip: PreparedClip) -> None:
    fit = FitReconstructor(load_face_model())
    rows = clip_rows(clip, fit)
    assert rows.shape == (12, ROW_LENGTH) and np.isfinite(rows).all()
    # the drawn view is the whole frame of 128 pixels, shown at 256: the rows' landmarks are twice as far
    found = described_landmarks(fit.model, rows)
    assert np.abs(found.mean(axis=1) - (clip.landmarks.mean(axis=1) * 2 + 0.5)).max() < 12.0
    assert np.abs(rows[:, ANGLES][:, 2]).max() < 0.05  # upright
    # a view turned into half the size gives the same coefficients
    clip.meta = replace(clip.meta, dnet_window=(-64.0, -64.0, 192.0, 192.0))
    assert np.abs(clip_rows(clip, fit)[:, :144] - rows[:, :144]).max() < 1e-3


def test_rows_of_two_reconstructors_are_not_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    hold_reconstructor(tmp_path, "auto")  # no regressor here: the fit
    hold_reconstructor(tmp_path, "fit")
    weights = tmp_path / "home" / "checkpoints" / "official" / "reconnet.safetensors"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    hold_reconstructor(tmp_path, "fit")
    for name in ("auto", "reconnet"):
        with pytest.raises(UserError, match=r"measured by fit \w+, this run would take reconnet \w+: give"):
            hold_reconstructor(tmp_path, name)
    hold_reconstructor(tmp_path / "other", "auto")
    weights.write_bytes(b"others")
    with pytest.raises(UserError, match="measured by reconnet"):
        hold_reconstructor(tmp_path / "other", "auto")


def _embeddings(shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Random picture embeddings, and sound that comes ``shift`` windows later."""
    video = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    return video, np.roll(video, shift, axis=0)


@pytest.mark.parametrize("late", [-3, 0, 2])
def test_late_sound_has_to_move_earlier(late: int) -> None:
    config = OffsetConfig(max_shift=6, min_confidence=0.5)
    assert judge(sync_score(*_embeddings(late), max_shift=6), config) == -late


def test_unclear_and_far_offsets_are_rejected() -> None:
    config = OffsetConfig(max_shift=6, min_confidence=0.5)
    noise = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
    with pytest.raises(Rejected, match="no clear offset"):
        judge(sync_score(_embeddings(0)[0], noise, 6), config)
    with pytest.raises(Rejected, match="6 frames apart or more"):
        judge(sync_score(*_embeddings(6), max_shift=6), config)
    score = SyncScore(1.0, 2.0, 1, np.zeros(13, np.float32), np.zeros(60, np.float32))
    assert judge(score, replace(config, tolerance=1)) == 0


def test_sound_is_moved_from_where_the_source_has_it(
    clip: PreparedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, root = clip.folder.parent / "work", clip.folder.parent
    path = root / "sound.wav"
    recording = np.random.default_rng(0).uniform(-0.5, 0.5, 16000 * 3)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((recording * 32767).astype("<i2").tobytes())
    job = ClippedSource(Source("speaker", path, "speaker"), [ClipPlan("clip", 1.0, list(range(12)))])

    def sound(shift: int) -> npt.NDArray[np.float32]:
        return cut_sound(load_waveform(path), 1.0 - shift / 25, 12)[0]

    def measure(true_offset: int) -> SyncScore:
        heard = PreparedClip(clip.folder).wave
        moved = [shift for shift in range(-5, 6) if np.abs(heard - sound(shift)).max() < 1e-3]
        return SyncScore(1.0, 2.0, true_offset - moved[0], np.zeros(31), np.zeros(60))

    move_sound(root, job, 0)
    monkeypatch.setattr(offsets, "embed_clip", lambda *_: (np.ones((3, 8)), np.ones((3, 8))))
    for offset in (2, 3, 3, 0):  # what one expert after the other says of the source
        monkeypatch.setattr(offsets, "sync_score", lambda *_, offset=offset: measure(offset))
        mend_source(work, root, OffsetConfig(), LipSyncExpert(), job)
        mended = PreparedClip(clip.folder)
        assert np.abs(mended.wave - sound(offset)).max() < 1e-3
        assert mended.meta.sync_offset == -offset


def test_embeddings_are_those_of_the_networks_own_windows(clip: PreparedClip) -> None:
    expert = LipSyncExpert(
        LipSyncExpertConfig(
            audio_widths=(4, 4, 4, 4, 8),
            audio_residual=(0, 0, 0, 0),
            face_widths=(4, 4, 4, 4, 8),
            face_residual=(0, 0, 0, 0, 0),
        )
    ).eval()
    video, audio = embed_clip(clip, expert)
    assert video.shape == audio.shape == (8, 8)
    with torch.inference_mode():
        window = torch.from_numpy(clip.mel[None, None, :, 9:25].copy())  # frame 3 starts at column 9.6
        assert np.abs(expert.embed_audio(window)[0].numpy() - audio[3]).max() < 1e-5


class _Brighten(nn.Module):
    """A restorer whose work is easy to see."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(1.5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * self.gain


def test_restored_frames_are_enlarged_and_changed_around_the_face_only(clip: PreparedClip) -> None:
    frame = clip.frame(0)
    landmarks = 64.0 + 0.4 * (clip.landmarks[0] - 64.0)  # a small face: the restored square lies inside
    window = np.array([[0, 0, 128, 128]], np.float32)
    (restored,) = restore_frames([frame], [landmarks], window, _Brighten())
    assert restored.shape == (576, 576, 3)
    x, y = ((landmarks[30] + 0.5) * 4.5 - 0.5).round().astype(int)
    brighter = np.minimum(1.5 * frame[round(float(landmarks[30][1])), round(float(landmarks[30][0]))], 255.0)
    assert np.abs(restored[y, x] - brighter).max() < 6
    assert (
        np.abs(restored[4::9, 4].astype(int) - frame[::2, 0]).max() < 12
    )  # the left border is only enlarged


def test_training_reads_restored_faces_as_they_are_stored(clip: PreparedClip) -> None:
    original = cut(clip, 3, face_crop(clip, 3)).astype(float)
    plan = ClipPlan(".", 0.0, list(range(12)))
    restore_clip(clip.folder, _Brighten(), plan)
    restored = PreparedClip(clip.folder)
    stored = restored.frame(3, version="restored")
    assert stored.shape == (576, 576, 3)
    # the crop without jitter is the middle of it: no pixel is interpolated
    assert np.array_equal(
        cut(restored, 3, face_crop(restored, 3), version="restored"), stored[96:480, 96:480]
    )
    shift = np.array([[1.0, 0.0, 30.0], [0.0, 1.0, -20.0]])
    moved = cut(restored, 3, face_crop(restored, 3).then(shift), version="restored")
    assert np.array_equal(moved, stored[116:500, 66:450])
    # small crops are decoded small, and show the same
    small = cut(restored, 3, face_crop(restored, 3, 96), version="restored").astype(float)
    mean = stored[96:480, 96:480].reshape(96, 4, 96, 4, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).mean() < 3.0
    # the same place as in the stored frame, but brighter
    center = slice(150, 234)
    assert np.abs(np.minimum(1.5 * original, 255.0) - stored[96:480, 96:480])[center, center].mean() < 6.0

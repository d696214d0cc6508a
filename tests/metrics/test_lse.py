from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from metric_samples import make_face, smooth_frame

from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.types import Face
from videoretalking.media.mel import mel_spectrogram
from videoretalking.metrics.base import Chunk, Clip
from videoretalking.metrics.face_tracks import SyncTrack, crop_face
from videoretalking.metrics.lse import ExpertScore, LipSync, SyncNetScore, num_windows, sync_values
from videoretalking.metrics.mfcc import mfcc
from videoretalking.metrics.offset import sync_score
from videoretalking.models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig, stack_lower_half
from videoretalking.models.syncnet import SyncNet, SyncNetConfig

TINY_SYNCNET = SyncNetConfig((4, 4, 4, 4, 4, 4), (4, 4, 4, 4, 4, 4), embedding_size=6)
TINY_EXPERT = LipSyncExpertConfig(
    audio_widths=(2, 2, 2, 2, 4),
    audio_residual=(0, 0, 0, 0),
    face_widths=(2, 2, 2, 2, 4),
    face_residual=(0, 0, 0, 0, 0),
)


class _Brightness(LipSync):
    """Picture and sound of window k are the five levels of its frames."""

    def _crops(self, step: int, frame: np.ndarray, face: Face | None) -> Iterator[tuple[int, np.ndarray]]:
        yield 0, frame

    def _embed_video(self, crops: np.ndarray) -> np.ndarray:
        levels = crops[:, 0, 0, 0].astype(np.float32)
        return np.lib.stride_tricks.sliding_window_view(levels, 5)

    def _embed_audio(self, speech: np.ndarray, num_frames: int) -> np.ndarray:
        levels = speech[: num_frames * 640].reshape(-1, 640).mean(axis=1).astype(np.float32)
        return np.lib.stride_tricks.sliding_window_view(levels, 5)


def _frames(levels: np.ndarray) -> np.ndarray:
    return np.broadcast_to(levels[:, None, None, None], (len(levels), 1, 1, 3)).astype(np.uint8)


def _feed(metric: LipSync, frames: np.ndarray, faces: list[Face | None], sizes: list[int]) -> None:
    start = 0
    for size in sizes:
        metric.update(Chunk(start, frames[start : start + size], faces=faces[start : start + size]))
        start += size
    assert start == len(frames)


@pytest.mark.parametrize("shift", [0, 3, -6])
@pytest.mark.parametrize("sizes", [[90], [1, 2, 30, 57]])
def test_offset_of_late_sound_through_the_whole_stream(shift: int, sizes: list[int]) -> None:
    levels = np.random.default_rng(0).integers(0, 256, 90)
    speech = np.repeat(np.roll(levels, shift), 640).astype(np.int16)
    metric = _Brightness()
    metric.reset(Clip(times=np.arange(90) / 25, speech=speech))
    _feed(metric, _frames(levels), [], sizes)
    values = metric.compute()
    assert values["av_offset"] == -shift
    assert values["av_in_sync"] == float(abs(shift) <= 1)
    video, audio = (
        np.lib.stride_tricks.sliding_window_view(track.astype(np.float32), 5)
        for track in (levels, np.roll(levels, shift))
    )
    direct = sync_score(video, audio)
    assert values["lse_d"] == pytest.approx(direct.min_distance, abs=1e-4)
    assert values["lse_c"] == pytest.approx(direct.confidence, abs=1e-4)


def test_other_frame_rates_are_scored_at_25() -> None:
    levels = np.random.default_rng(0).integers(0, 256, 60)
    speech = np.repeat(levels, 640).astype(np.int16)
    metric = _Brightness()
    metric.reset(Clip(times=np.arange(120) / 50, speech=speech))
    _feed(metric, _frames(np.repeat(levels, 2)), [], [17, 103])
    (score,) = metric.scores()
    assert (score.num_windows, score.offset, score.min_distance) == (56, 0, pytest.approx(0, abs=1e-4))


def test_videos_without_sound_or_faces_have_no_score() -> None:
    metric = _Brightness()
    metric.reset(Clip(times=np.arange(9) / 25))
    _feed(metric, _frames(np.arange(9)), [], [9])
    assert metric.compute() == {}
    assert sync_values([]) == {"sync_tracks": 0.0}


def test_windows_of_the_published_protocol() -> None:
    assert num_windows(80, 80 * 640) == 75
    assert num_windows(80, 60 * 640 + 639) == 55
    assert num_windows(5, 10**6) == num_windows(2, 10**6) == 0


def test_frame_view_is_the_direct_computation() -> None:
    torch.manual_seed(0)
    network = SyncNet(TINY_SYNCNET).eval()
    frames = np.stack([smooth_frame(64, 80, seed) for seed in range(24)])
    speech = (np.random.default_rng(0).normal(size=24 * 640) * 3000).astype(np.int16)
    metric = SyncNetScore(network, view="frame", jpeg=False)
    metric.reset(Clip(times=np.arange(24) / 25, speech=speech))
    _feed(metric, frames, [], [10, 14])
    (score,) = metric.scores()

    squeezed = np.stack([cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in frames])
    images = torch.from_numpy(squeezed).permute(3, 0, 1, 2).float() / 255
    cepstra = torch.from_numpy(mfcc(speech)).float()
    with torch.inference_mode():
        video = torch.cat([network.embed_lips(images[None, :, k : k + 5]) for k in range(19)])
        audio = torch.cat(
            [network.embed_audio(cepstra[None, None, :, 4 * k : 4 * k + 20]) for k in range(19)]
        )
    expected = sync_score(video.numpy(), audio.numpy())
    assert score.num_windows == 19
    assert score.mean_distance == pytest.approx(expected.mean_distance, rel=1e-4)


def test_each_track_is_cropped_and_scored_with_its_own_sound() -> None:
    torch.manual_seed(0)
    network = SyncNet(TINY_SYNCNET).eval()
    frames = np.stack([smooth_frame(120, 160, seed) for seed in range(20)])
    speech = (np.random.default_rng(0).normal(size=20 * 640) * 3000).astype(np.int16)
    tracks = [_still_track(0, 20, (50.0, 50.0)), _still_track(8, 10, (110.0, 60.0))]
    metric = SyncNetScore(network, view="tracks", jpeg=False)
    metric.reset(Clip(times=np.arange(20) / 25, speech=speech, tracks=tracks))
    _feed(metric, frames, [], [7, 13])
    scores = metric.scores()
    assert [score.num_windows for score in scores] == [15, 5]

    alone = SyncNetScore(network, view="frame", jpeg=False)
    alone.reset(Clip(times=np.arange(10) / 25, speech=speech[8 * 640 : 18 * 640]))
    crops = np.stack([crop_face(frame, (110.0, 60.0), 30.0) for frame in frames[8:18]])
    _feed(alone, crops, [], [10])
    assert scores[1].mean_distance == pytest.approx(alone.scores()[0].mean_distance, rel=1e-4)
    assert metric.compute()["lse_d"] == pytest.approx(np.mean([score.min_distance for score in scores]))


def _still_track(start: int, length: int, center: tuple[float, float]) -> SyncTrack:
    x, y = center
    return SyncTrack(
        start=start,
        boxes=np.tile([x - 30, y - 30, x + 30, y + 30], (length, 1)),
        half_size=np.full(length, 30.0),
        centers=np.tile([x, y], (length, 1)),
    )


def test_jpeg_detour_changes_the_score_a_little() -> None:
    network = SyncNet(TINY_SYNCNET).eval()
    frames = np.stack([smooth_frame(64, 64, seed) for seed in range(12)])
    speech = (np.random.default_rng(0).normal(size=12 * 640) * 3000).astype(np.int16)
    distances = []
    for jpeg in (False, True):
        metric = SyncNetScore(network, view="frame", jpeg=jpeg)
        metric.reset(Clip(times=np.arange(12) / 25, speech=speech))
        _feed(metric, frames, [], [12])
        distances.append(metric.compute()["lse_d"])
    assert distances[0] != distances[1]
    assert distances[0] == pytest.approx(distances[1], rel=0.1)


@pytest.mark.parametrize("antialias", [True, False])
def test_the_expert_sees_faces_as_its_training_cuts_them(antialias: bool) -> None:
    network = LipSyncExpert(replace(TINY_EXPERT, antialias=antialias)).eval()
    frame = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    box, seen = [20.0, 30.0, 260.0, 270.0], []
    network.embed_faces = lambda faces: seen.append(faces) or torch.ones(1, 4)  # type: ignore[method-assign]
    metric = ExpertScore(network)
    metric.reset(Clip(times=np.arange(5) / 25))
    ((_, crop),) = metric._crops(0, frame, Face(np.float32(box), 1.0))
    metric._embed_video(np.stack([crop] * 5))
    # at 384 pixels, then reduced (datasets.crops.cut_low)
    method = cv2.INTER_AREA if antialias else cv2.INTER_LINEAR
    whole = extract(frame, box_crop(box, (384, 384)))
    wanted = cv2.resize(whole, (96, 96), interpolation=method)[48:].transpose(2, 0, 1)
    assert np.abs(255.0 * seen[0][0, :3].numpy() - wanted).max() < 1.0
    assert (
        np.abs(extract(frame, box_crop(box, (96, 96)))[48:].transpose(2, 0, 1) - wanted.astype(float)).max()
        > 9
    )


def test_expert_scores_runs_of_faces() -> None:
    torch.manual_seed(0)
    network = LipSyncExpert(TINY_EXPERT).eval()
    frames = np.stack([smooth_frame(192, 192, seed % 5) for seed in range(30)])
    faces: list[Face | None] = [make_face(size=40.0)] * 30
    faces[12] = None
    speech = (np.random.default_rng(0).normal(size=30 * 640) * 3000).astype(np.int16)
    metric = ExpertScore(network)
    metric.reset(Clip(times=np.arange(30) / 25, speech=speech))
    _feed(metric, frames, faces, [9, 21])
    scores = metric.scores()
    # The sound of a window of five frames is 16 columns, so every window has its sound.
    assert [score.num_windows for score in scores] == [12 - 4, 17 - 4]
    assert all(0 <= score.min_distance <= np.sqrt(2) for score in scores)

    face = faces[0]
    assert face is not None
    crops = np.stack([extract(frame, box_crop(face.box, (96, 96))) for frame in frames[13:]])
    images = torch.from_numpy(crops).permute(3, 0, 1, 2).float() / 255
    mel = torch.from_numpy(mel_spectrogram(speech[13 * 640 :] / 32768))
    with torch.inference_mode():
        video = torch.cat(
            [network.embed_faces(stack_lower_half(images[None, :, k : k + 5])) for k in range(13)]
        )
        starts = [int(k * 3.2) for k in range(13)]
        audio = torch.cat([network.embed_audio(mel[None, None, :, start : start + 16]) for start in starts])
    expected = sync_score(video.numpy(), audio.numpy())
    assert scores[1].mean_distance == pytest.approx(expected.mean_distance, abs=2e-3)

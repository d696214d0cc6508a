"""One sample type per trained network."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from videoretalking.core.arrays import Image8
from videoretalking.core.coefficients import IDENTITY, NUM_EXPRESSION, motion_window
from videoretalking.core.landmarks import MIRRORED
from videoretalking.core.locations import checkpoint_folder
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.crops import Jitter, cut, cut_low, face_crop, mirror
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.datasets.enet import ENetClips, from_recognition
from videoretalking.datasets.expert import SyncWindows
from videoretalking.datasets.landmarks import LandmarkCrops
from videoretalking.datasets.lnet import LNetClips
from videoretalking.datasets.mouths import inner_lip_gap, mouth_points, replace_lower_half
from videoretalking.datasets.small_data import (
    BlurredENetClips,
    MouthWindows,
    NearDNetPairs,
    NearLNetClips,
    draw_near,
)
from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.faces.align import RECOGNITION_TEMPLATE, box_crop, five_points, lipsync_box
from videoretalking.faces.face_model import FaceModel, rotation_matrices
from videoretalking.faces.types import Crop

NONE = AugmentConfig()
HARD = AugmentConfig(
    flip=0.5, color=1.0, crop_jitter=0.1, rotation=30.0, blur=0.5, jpeg=0.5, occlusion=0.5, voice=1.0,
    speaker_mix=0.5,
)  # fmt: skip


def build(kind: str, data: DataConfig, augment: AugmentConfig = NONE, seed: int = 0) -> Any:
    source = SampleSource(data, augment, seed)
    if kind == "dnet":
        return DNetPairs(source, size=64)
    if kind == "near dnet":
        return NearDNetPairs(source, size=64, max_gap=3, align_source=True)
    if kind == "expert":
        return SyncWindows(source, num_windows=3)
    if kind == "mouths":
        return MouthWindows(source, num_windows=3)
    if kind == "enet":
        return ENetClips(source, num_frames=2, size=96)
    if kind == "blurred enet":
        return BlurredENetClips(source, num_frames=2, size=96, blur=1.5, cast=0.5)
    if kind == "landmarks":
        return LandmarkCrops(source, negatives=0.3)
    if kind == "near lnet":
        return NearLNetClips(source, reference_gap=(2, 9), align_references=True, silence=0.3)
    return LNetClips(source)


def build_silent(data: DataConfig) -> NearLNetClips:
    return NearLNetClips(SampleSource(data), silence=1.0)


def same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "kind",
    ["dnet", "lnet", "enet", "expert", "landmarks", "near dnet", "near lnet", "mouths", "blurred enet"],
)
def test_samples_depend_on_seed_epoch_and_index_only(data: DataConfig, kind: str) -> None:
    first, second = build(kind, data, HARD), build(kind, data, HARD)
    sample = first[(3, 1)]
    _ = second[(0, 0)], second[(7, 2)]  # what was read before must not matter
    assert same(sample, second[(3, 1)])
    assert not same(sample, first[(4, 1)])
    assert not same(sample, build(kind, data, HARD, seed=1)[(3, 1)])
    assert [first[(0, index)]["clip"] for index in range(3)] == [f"train/face{index}" for index in range(3)]
    for name, value in sample.items():
        if not isinstance(value, str):
            wanted = np.int64 if name == "noise_seeds" else np.float32
            assert np.asarray(value).dtype == wanted and np.isfinite(value).all()


def test_dnet_pairs(data: DataConfig) -> None:
    dataset = build("dnet", data)
    clip = dataset.clips.clip(0)
    sample = dataset[(0, 0)]
    assert sample["source"].shape == sample["target"].shape == (3, 64, 64)
    windows = np.stack([motion_window(clip.rows, frame) for frame in range(len(clip))])
    (frame,) = np.flatnonzero((windows == sample["coefficients"]).all(axis=(1, 2)))
    preview = dataset.preview(0, 24)
    np.testing.assert_array_equal(preview["target"][frame], sample["target"])  # coefficients of the target
    assert (sample["source"] != sample["target"]).any()


def test_dnet_pairs_keep_to_the_gap(data: DataConfig) -> None:
    dataset = NearDNetPairs(SampleSource(data), size=64, max_gap=2)
    pairs = [dataset.draw_pair(0, np.random.default_rng(seed)) for seed in range(200)]
    assert {abs(source - target) for source, target in pairs} == {1, 2}
    assert {target for _, target in pairs} == set(range(24))


def test_dnet_pairs_can_be_drawn_with_mouths_far_apart(data: DataConfig) -> None:
    dataset = DNetPairs(SampleSource(data), size=64, far_mouths=0.5)
    for options in ({}, {"far_mouths": 0.0}):
        plain = DNetPairs(SampleSource(data), size=64, **options)
        rng, again = np.random.default_rng(3), np.random.default_rng(3)
        source, target = plain.draw_pair(0, rng)
        assert (source, target) == (again.integers(24), (drawn := again.integers(23)) + (drawn >= source))
    landmarks = dataset.clips.clip(0).landmarks
    openings = inner_lip_gap(landmarks)
    far = []
    for seed in range(400):
        source, target = dataset.draw_pair(0, np.random.default_rng(seed))
        assert source != target
        differences = np.abs(np.delete(openings, source) - openings[source])
        far.append(abs(openings[target] - openings[source]) >= np.quantile(differences, 0.75))
    assert np.mean(far) == pytest.approx(0.5 + 0.5 * 0.26, abs=0.08)  # a quarter of the others is far as well
    calm = DNetPairs(SampleSource(data, training=False), size=64, far_mouths=0.5)
    assert calm.far_mouths == 0.0  # figures stay comparable
    near = NearDNetPairs(SampleSource(data), size=64, max_gap=2, far_mouths=1.0)
    pairs = [near.draw_pair(0, np.random.default_rng(seed)) for seed in range(50)]
    assert all(0 < abs(target - source) <= 2 for source, target in pairs)


def test_dnet_sources_can_be_aligned_with_their_targets(data: DataConfig) -> None:
    free = NearDNetPairs(SampleSource(data), size=64)
    aligned = NearDNetPairs(SampleSource(data), size=64, align_source=True)
    still = slice(27, 48)  # nose and eyes
    moved = []
    for index in range(len(free)):
        before, after = free[(0, index)], aligned[(0, index)]
        np.testing.assert_array_equal(before["target"], after["target"])
        np.testing.assert_array_equal(before["target_points"], after["target_points"])
        np.testing.assert_allclose(after["source_points"][still], after["target_points"][still], atol=1e-4)
        moved.append(np.abs(before["source_points"] - before["target_points"])[still].max())
        if moved[-1] > 0.01:
            assert not np.array_equal(before["source"], after["source"])
    assert max(moved) > 0.01


def test_lnet_clips(data: DataConfig) -> None:
    sample = build("lnet", data)[(0, 0)]
    assert sample["audio"].shape == (5, 1, 80, 16)
    assert sample["target"].shape == sample["reference"].shape == (3, 5, 96, 96)
    np.testing.assert_array_equal(sample["frame"], sample["target"])
    assert (sample["reference"] != sample["target"]).any()
    # the expert hears the window of the first frame, which spans the five frames
    np.testing.assert_array_equal(sample["sync_audio"], sample["audio"][0])


def test_lnet_silence_closes_the_mouth(data: DataConfig) -> None:
    silent = build_silent(data)
    spoken = build("lnet", data)
    clip = silent.clips.clip(0)
    assert (inner_lip_gap(clip.landmarks) < 0.06).any() and (inner_lip_gap(clip.landmarks) > 0.1).any()

    def darkness(sample: dict[str, Any]) -> float:  # the inside of the open mouth is nearly black
        return float((sample["target"][:, :, 48:].max(axis=0) < 0.25).mean())

    quiet = [silent[(epoch, 0)] for epoch in range(8)]
    assert all(sample["speech"] == 0.0 and sample["audio"].mean() < -1.0 for sample in quiet)
    assert np.mean([darkness(s) for s in quiet]) < 0.5 * np.mean([darkness(spoken[(e, 0)]) for e in range(8)])


def test_lnet_silence_leaves_the_upper_half_as_it_is(data: DataConfig) -> None:
    silent = build_silent(data)
    clip = silent.clips.clip(0)
    eyes = [cut_low(clip, frame, face_crop(clip, frame), antialias=False)[:48] for frame in range(len(clip))]
    upper = np.rint(255 * silent[(0, 0)]["target"][:, :, :48].transpose(1, 2, 3, 0))
    shown = [next(frame for frame, half in enumerate(eyes) if np.array_equal(half, seen)) for seen in upper]
    assert shown == list(range(shown[0], shown[0] + 5))  # consecutive
    halves = replace_lower_half(np.zeros((96, 96, 3), np.uint8), np.full((96, 96, 3), 200, np.uint8))[:, 0, 0]
    assert (
        (halves[:48] == 0).all() and (halves[56:] == 200).all() and (np.diff(halves.astype(int)) >= 0).all()
    )


def test_lnet_references_keep_their_distance(data: DataConfig) -> None:
    dataset = NearLNetClips(SampleSource(data), reference_gap=(3, 6))
    frames = [4, 5, 20]
    drawn = np.array([dataset.draw_references(0, frames, np.random.default_rng(i))[0] for i in range(200)])
    distances = np.abs(drawn - np.array(frames))
    assert distances.min() == 3 and distances.max() == 6 and drawn.min() == 0 and drawn.max() == 23
    assert set(draw_near([1, 1, 1, 1, 1, 1], 3, (3, 6), np.random.default_rng(0))) <= {0, 1, 2}


def mouth_differences(
    data: DataConfig, far: float, gap: tuple[int, int] | None, training: bool = True
) -> Any:
    """Distances [200, 3] in frames of drawn references, and their mean difference in how far the mouth is open."""
    dataset = NearLNetClips(SampleSource(data, training=training), reference_gap=gap, far_references=far)
    gaps, frames = inner_lip_gap(dataset.clips.clip(0).landmarks), [4, 11, 20]
    drawn = np.array([dataset.draw_references(0, frames, np.random.default_rng(i))[0] for i in range(200)])
    return np.abs(drawn - frames), float(np.abs(gaps[drawn] - gaps[frames]).mean())


@pytest.mark.parametrize("gap", [None, (3, 9)])
def test_far_references_have_mouths_unlike_their_frames(
    data: DataConfig, gap: tuple[int, int] | None
) -> None:
    (_, any_mouth), (_, some), (distances, far) = (
        mouth_differences(data, part, gap) for part in (0.0, 0.6, 1.0)
    )
    assert any_mouth < some < far and far > 1.25 * any_mouth
    if gap is not None:
        assert distances.min() >= 3 and distances.max() <= 9
    # validation is left as it is
    unchanged, _ = mouth_differences(data, 1.0, gap, training=False)
    np.testing.assert_array_equal(unchanged, mouth_differences(data, 0.0, gap, training=False)[0])


@pytest.mark.parametrize("silence", [0.0, 1.0])
@pytest.mark.parametrize("aligned", [False, True])
def test_points_lie_on_the_mouth_that_is_shown(data: DataConfig, silence: float, aligned: bool) -> None:
    source = SampleSource(data, AugmentConfig(flip=0.5, crop_jitter=0.1))
    dataset = NearLNetClips(source, align_references=aligned, silence=silence, with_points=True)
    inner = slice(-8, None)
    for epoch in range(6):
        sample = dataset[(epoch, epoch % 3)]
        for shown in ("target", "reference"):
            points = sample[f"{shown}_points"]
            assert points.shape == (5, 34, 2)
            for frame, lips in enumerate(points[:, -20:]):
                x, y = np.rint((lips.mean(axis=0) + 1.0) * 48 - 0.5).astype(int)
                red, green, _ = sample[shown][:, frame, y, x]
                assert red > 2.0 * green  # lips and what is behind them, no skin of these faces
        if silence:  # the mouth that replaced the frame's
            assert np.ptp(sample["target_points"][:, inner, 1], axis=1).max() < 0.05


def test_lnet_speaker_mix_adds_the_same_voice_everywhere(data: DataConfig) -> None:
    plain, mixed = build("lnet", data), build("lnet", data, AugmentConfig(speaker_mix=1.0))
    for epoch in range(4):
        before, after = plain[(epoch, 0)], mixed[(epoch, 0)]
        np.testing.assert_array_equal(before["target"], after["target"])
        assert (after["audio"] >= before["audio"] - 1e-5).all() and (
            after["audio"] > before["audio"] + 0.01
        ).any()
        np.testing.assert_array_equal(after["sync_audio"], after["audio"][0])


def test_expert_windows_are_in_sync_and_apart(data: DataConfig) -> None:
    dataset = MouthWindows(SampleSource(data), num_windows=3, min_shift=6)
    clip = dataset.clips.clip(0)
    windows = np.stack([dataset.clips.clip_window(0, start) for start in range(20)])
    lips = np.stack([mouth_points(clip.landmarks[k], face_crop(clip, k, 96)) for k in range(24)])
    lnet = LNetClips(SampleSource(data)).preview(0, 24)["target"][0]
    for epoch in range(10):
        sample = dataset[(epoch, 0)]
        assert sample["audio"].shape == (3, 1, 80, 16) and sample["faces"].shape == (3, 15, 48, 96)
        places = [int(np.flatnonzero((windows == audio).all(axis=(1, 2, 3)))[0]) for audio in sample["audio"]]
        assert min(np.diff(places)) >= 6
        for place, faces, mouth in zip(places, sample["faces"], sample["mouth"], strict=True):
            np.testing.assert_allclose(mouth, lips[place : place + 5], atol=1e-6)
            # frames are stacked one after the other: lower half of the face of each
            np.testing.assert_array_equal(faces, np.concatenate([lnet[:, place + t, 48:] for t in range(5)]))


def test_enet_clips(data: DataConfig) -> None:
    sample = build("enet", data)[(0, 0)]
    assert sample["target"].shape == sample["reference"].shape == (3, 2, 96, 96)
    assert sample["audio"].shape == (2, 1, 80, 16) and 60 <= sample["jpeg_quality"] <= 100
    original = ENetClips(SampleSource(data), targets="original", num_frames=2, size=96)[(0, 0)]
    difference = np.abs(original["target"] - sample["target"]).mean()
    assert 0.0 < difference < 0.05  # restored frames show the same moment
    assert len(set(sample["noise_seeds"].tolist())) == 2


@pytest.mark.parametrize("mirrored", [False, True])
def test_arcface_sees_five_points_where_it_expects_them(mirrored: bool) -> None:
    # five people of the face model, their heads turned, in boxes that are no squares and a little off
    model = FaceModel.load(checkpoint_folder("demo") / "face_model.safetensors")
    rng = np.random.default_rng(0)
    misses, box_misses = [], []
    for _ in range(5):
        shape = model.shapes(rng.normal(size=(1, IDENTITY.stop)), np.zeros((1, NUM_EXPRESSION)))[0]
        turned = shape @ rotation_matrices(rng.uniform(-0.2, 0.2, (1, 3)))[0].T
        landmarks = (turned[:, :2] * [120.0, -120.0] + [210.0, 190.0]).astype(np.float32)
        view = Jitter(0.03, -0.02, 1.05).apply(box_crop(lipsync_box(landmarks[None])[0], (384, 384)))
        view = mirror(view) if mirrored else view
        to_recognition = Crop(
            from_recognition(landmarks, view, mirrored).astype(np.float64), (384, 384)
        ).inverse
        seen = view.to_crop(landmarks[MIRRORED] if mirrored else landmarks)
        points = five_points(seen) @ to_recognition[:, :2].T + to_recognition[:, 2]
        misses.append(np.linalg.norm(points - RECOGNITION_TEMPLATE, axis=1).mean())
        # what the whole crop, merely reduced, would show
        reduced = (five_points(seen) + 0.5) * 112 / 384 - 0.5
        box_misses.append(np.linalg.norm(reduced - RECOGNITION_TEMPLATE, axis=1).mean())
    # a person differs from the template; a face that was squeezed or not turned would be farther off
    assert np.mean(misses) < 2.0 and max(misses) < 2.5 and min(box_misses) > 10.0


def test_blurred_enet_clips_take_stills_and_spoil_by_draw(data: DataConfig, tmp_path: Path) -> None:
    root = tmp_path / "stills"
    shutil.copytree(data.root, root)
    (root / "train" / "face0" / "mel.npy").unlink()
    dataset = BlurredENetClips(SampleSource(DataConfig(str(root))), size=96, blur=1.5, cast=0.5)
    still, clip = dataset[(0, 0)], dataset[(0, 1)]
    assert (
        (still["speech"], clip["speech"]) == (0.0, 1.0) and not still["audio"].any() and clip["audio"].any()
    )
    assert still["audio"].shape == clip["audio"].shape == (1, 1, 80, 16)
    draws = [dataset[(epoch, 0)] for epoch in range(20)]
    sigmas = [float(draw["blur"]) for draw in draws]
    assert 0.0 <= min(sigmas) < 0.5 and 1.0 < max(sigmas) <= 1.5
    identity = np.eye(3, 4, dtype=np.float32)
    assert all(np.abs(draw["cast"] - identity).max() > 0.005 for draw in draws)
    spared = dataset.preview(0, 1)
    np.testing.assert_array_equal(spared["cast"][0], identity)
    assert spared["blur"][0] == 0.0


def test_frames_after_the_last_sound_are_silent(data: DataConfig, tmp_path: Path) -> None:
    root = tmp_path / "short"
    shutil.copytree(data.root, root)
    path = root / "train" / "face0" / "mel.npy"
    np.save(path, np.load(path)[:, :40])
    source = SampleSource(DataConfig(str(root)))
    dataset = BlurredENetClips(source, size=96)
    voiced = dataset.clips.voiced_frames(0)
    assert voiced == LNetClips(source).clips.usable_frames(0) and voiced.stop < len(dataset.clips.clip(0))
    assert dataset.hear(0, [voiced.stop - 1])["speech"] == 1.0
    assert dataset.hear(0, [voiced.stop])["speech"] == 0.0


def test_stills_and_first_frames_where_speech_begins_before_its_frame(
    data: DataConfig, tmp_path: Path
) -> None:
    root = write_synthetic(tmp_path, num_train=1, num_val=0, num_frames=1)
    still = BlurredENetClips(SampleSource(DataConfig(str(root), audio_offset=-1)), size=96)
    assert still[(0, 0)]["target"].shape == (3, 1, 96, 96)
    clips = BlurredENetClips(SampleSource(DataConfig(data.root, audio_offset=-1)), size=96)
    assert clips.clips.usable_frames(0) == range(24)
    assert [clips.hear(0, [frame])["speech"] for frame in (0, 1)] == [0.0, 1.0]


@pytest.mark.parametrize("augment", [NONE, AugmentConfig(flip=1.0, crop_jitter=0.15, rotation=40.0)])
def test_landmark_points_lie_on_the_features(data: DataConfig, augment: AugmentConfig) -> None:
    dataset = LandmarkCrops(SampleSource(data, augment))
    for epoch in range(6):
        sample = dataset[(epoch, epoch % 3)]
        points, image = sample["points"], sample["image"]
        left, right = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        assert left[0] < right[0]  # also in the mirror: left means left in the picture
        for x, y in np.rint([left, right]).astype(int):  # pupils are nearly black
            assert image[:, y, x].max() < 0.35


def test_landmark_negatives_keep_away_from_the_face(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Crop] = []

    def recording_cut(clip: PreparedClip, index: int, crop: Crop) -> Image8:
        shown.append(crop)
        return cut(clip, index, crop)

    monkeypatch.setattr("videoretalking.datasets.landmarks.cut", recording_cut)
    dataset = LandmarkCrops(SampleSource(data), negatives=1.0)
    landmarks = dataset.clips.clip(0).landmarks
    for epoch in range(10):
        sample = dataset[(epoch, 0)]
        assert sample["is_face"] == 0.0 and (sample["points"] == 0).all()
        points = shown[-1].to_crop(landmarks.mean(axis=0))  # the face only sways by a few pixels
        inside = np.logical_and(points > 0, points < 127).min(axis=1)
        assert inside.sum() < 20 and not inside[48:].any()

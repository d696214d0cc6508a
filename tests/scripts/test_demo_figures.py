"""The measures of dubs, hearing, expression and identity on material whose answers are known."""

from __future__ import annotations

import math
import wave
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.coefficients import ANGLES, NUM_EXPRESSION, ROW_LENGTH
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.datasets.synthetic import write_synthetic, write_synthetic_clip
from videoretalking.media.audio import load_waveform
from videoretalking.media.reader import VideoReader
from videoretalking.models.dnet import DNetOutput
from videoretalking.scripts import measure_demo
from videoretalking.scripts.demo_figures import dubs, expression, find, hearing, identity, pictures
from videoretalking.scripts.demo_figures.clips import HeldOutClip, one_each, read_clips
from videoretalking.scripts.demo_figures.dubs import Dub

FRAMES = 30
FRONTAL = np.zeros((FRAMES, 3), np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("data"), num_train=5, num_val=2, num_frames=FRAMES)


@pytest.fixture(scope="module")
def clip(root: Path) -> PreparedClip:
    return PreparedClip(root / "val/face5")


class Oracle:
    """Stands for the landmark network: where it is asked about a face it knows the answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *modules: Any) -> None:
        self.answers: list[Floats32] = []
        for module in modules:
            monkeypatch.setattr(module, "find_landmarks", lambda shown, around, network: self.answers.pop(0))


# pictures


def test_detail_colors_and_seam_of_a_frame_beside_itself_are_its_own(clip: PreparedClip) -> None:
    frame, points = clip.frame(3), clip.landmarks[3]
    dub = Dub([frame] * 2, [frame] * 2, np.stack([points] * 2), np.stack([clip.boxes[3]] * 2), FRONTAL[:2])
    found = dubs.compare(dub, dub.around, dub.around)
    assert found.pop("seam_turned") is None
    assert found == pytest.approx(
        {"sharpness": 1.0, "lips": 0.0, "cheeks": 0.0, "seam": 1.0, "seam_edge": 1.0}
    )


def test_a_blurred_mouth_has_less_detail_whatever_the_rest_has(clip: PreparedClip) -> None:
    frame, points = clip.frame(3), clip.landmarks[3]
    x1, y1 = (points[48:].min(axis=0) - 12).astype(int)
    x2, y2 = (points[48:].max(axis=0) + 12).astype(int)
    mouth, elsewhere = frame.copy(), cv2.GaussianBlur(frame, (0, 0), 2.0)
    mouth[y1:y2, x1:x2] = cv2.GaussianBlur(frame, (0, 0), 2.0)[y1:y2, x1:x2]
    elsewhere[y1:y2, x1:x2] = frame[y1:y2, x1:x2]
    own = pictures.mouth_detail(frame, points)
    assert own is not None
    assert (pictures.mouth_detail(mouth, points) or 0.0) < 0.5 * own
    assert pictures.mouth_detail(np.asarray(elsewhere, np.uint8), points) == pytest.approx(own, rel=1e-3)
    assert pictures.mouth_detail(frame, points + 500) is None


def shift_color(frame: Image8, mask: Image8, a: float, b: float) -> Image8:
    lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    lab[mask > 0] += (0.0, a, b)
    return np.clip(np.rint(255 * cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)), 0, 255).astype(np.uint8)


def test_colors_of_lips_and_cheeks_are_told_apart(clip: PreparedClip) -> None:
    frame = np.full((128, 128, 3), (170, 120, 110), np.uint8)
    points = clip.landmarks[0]
    lips, skin = np.zeros((128, 128), np.uint8), np.zeros((128, 128), np.uint8)
    cv2.fillPoly(lips, [np.rint(points[48:60]).astype(np.int32)], 1)
    lips = cv2.dilate(lips, np.ones((3, 3), np.uint8))
    skin[int(points[36:48, 1].max()) + 2 :] = 1
    skin -= np.minimum(skin, lips)

    def errors(changed: Image8) -> tuple[float, float]:
        dub = Dub([frame], [changed], points[None], clip.boxes[:1], FRONTAL[:1])
        found = dubs.compare(dub, points[None], points[None])
        return found["lips"] or 0.0, found["cheeks"] or 0.0

    assert errors(shift_color(frame, np.asarray(lips), 3.0, -4.0)) == pytest.approx((5.0, 0.0), abs=0.6)
    assert errors(shift_color(frame, skin, -6.0, 8.0)) == pytest.approx((0.0, 10.0), abs=0.6)


def test_a_seam_is_seen_at_the_border_of_the_crop_alone() -> None:
    x = np.linspace(0.0, 40.0, 100)
    frame = np.repeat((80 + x)[None, :, None].repeat(100, 0), 3, 2).astype(np.uint8)
    box = np.array([30.0, 20.0, 70.0, 80.0], np.float32)
    inside, border = frame.copy(), frame.copy()
    inside[55:65, 45:55] += 30
    border[50:80, 30:70] += 30
    assert pictures.seam_ratio(inside, frame, box) == pytest.approx(1.0)
    assert (pictures.seam_ratio(border, frame, box) or 0.0) > 5.0
    assert pictures.seam_ratio(border, frame, box + 300) is None


def made_up_dub(clip: PreparedClip, levels: int, yaw: float = 0.0, roll: float = 0.0) -> Dub:
    """Frames in which the painted crop is brighter beyond its left edge alone, on heads that are turned so far.

    The last two of them are frontal.
    """
    source = [cv2.GaussianBlur(clip.frame(number), (0, 0), 1.0) for number in range(12)]
    result = [frame.copy() for frame in source]
    x, top, bottom = np.rint(clip.boxes[:12, [0, 1, 3]]).astype(int).T
    for frame, left, upper, lower in zip(result, x, top, bottom, strict=True):
        frame[upper:lower, :left] = np.minimum(frame[upper:lower, :left], 255 - levels) + levels
    angles = np.repeat(np.array([[0.0, yaw, roll]], np.float32), 12, axis=0)
    angles[10:] = 0.0
    return Dub(source, result, clip.landmarks[:12], clip.boxes[:12], angles)


@pytest.mark.parametrize(
    ("yaw", "roll", "turned"), [(0.0, 0.0, False), (-25.0, 0.0, True), (0.0, 12.0, True), (15.0, -8.0, False)]
)
def test_an_edge_on_one_side_of_one_person_is_in_the_worst_figures(
    clip: PreparedClip, yaw: float, roll: float, turned: bool
) -> None:
    by_clip: dict[str, dict[str, float | None]] = {}
    for name, levels in (("a", 0), ("b", 12), ("c", 0), ("d", 0)):
        compared = dubs.compare(
            made_up_dub(clip, levels, yaw, roll), clip.landmarks[:12], clip.landmarks[:12]
        )
        by_clip[name] = {f"{figure}_own": value for figure, value in compared.items()}
    mean = np.mean([figures["seam_own"] or 0.0 for figures in by_clip.values()])
    assert mean < 1.2 and (by_clip["b"]["seam_own"] or 0.0) < 1.2  # means of people or edges do not tell
    worst = dubs.highest(by_clip, "seam_worst", "seam_edge")
    assert (worst["seam_worst"] or 0.0) > 1.2 and worst["seam_worst_clip"] == "b"
    tilted = dubs.highest(by_clip, "seam_turned", "seam_turned")
    assert tilted["seam_turned_clip"] == ("b" if turned else None)
    if turned:
        assert (tilted["seam_turned"] or 0.0) > 1.2
        assert by_clip["a"]["seam_turned_own"] == pytest.approx(1.0)


# dubs


def opened(points: Floats32, gaps: Floats32) -> Floats32:
    """Landmarks with the inner lips so far open, in distances of the outer eye corners."""
    changed = points.copy()
    for frame, gap in enumerate(gaps):
        upper, unit = changed[frame, 62], pictures.eye_span(changed[frame])
        changed[frame, 66] = upper + np.array([0.0, gap * unit])
    return changed


def test_openings_under_own_foreign_and_no_speech(
    clip: PreparedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = clip.landmarks
    frames = [clip.frame(number) for number in range(FRAMES)]
    dub = Dub(frames, frames, points, clip.boxes, FRONTAL)
    time = np.arange(FRAMES)
    real = (0.2 + 0.1 * np.sin(2 * np.pi * time / 10)).astype(np.float32)
    foreign = (0.2 + 0.05 * np.cos(2 * np.pi * time / 10)).astype(np.float32)
    oracle = Oracle(monkeypatch, dubs)
    half = 0.2 + 0.5 * (real - 0.2)
    silent = 0.2 + 0.1 * (foreign - 0.2)
    for result in (half, silent, foreign):  # own, silent, foreign
        oracle.answers += [opened(points, real), opened(points, result)]
    found = dubs.dub_figures({"own": dub, "silent": dub, "foreign": dub}, None)  # type: ignore[arg-type]
    assert found["opening_r"] == pytest.approx(1.0, abs=1e-3)
    assert found["opening_spread_own"] == pytest.approx(0.5, abs=1e-3)
    assert found["opening_spread_foreign"] == pytest.approx(0.5, abs=1e-3)
    assert abs(found["leak_r"] or 1.0) < 1e-3
    assert found["silence"] == pytest.approx(0.1, abs=1e-3)
    assert found["sharpness_foreign"] == pytest.approx(1.0)


@dataclass
class FakeRetalker:
    """Finds the labelled face and inverts the picture, as long as there is speech."""

    clip: PreparedClip
    heard: dict[str, Floats32]
    found: bool = True

    def analyze(self, path: Path) -> Any:
        with VideoReader(path) as video:
            self.frames_seen = [frame.image for frame in video]
        rows = np.zeros((FRAMES, ROW_LENGTH), np.float32)
        rows[:, ANGLES] = np.radians([[0.0, 30.0, -5.0]])
        track = SimpleNamespace(landmarks=self.clip.landmarks, boxes=self.clip.boxes, rows=rows)
        return SimpleNamespace(tracks=[track] if self.found else [])

    def frames(self, analysis: Any, sound: Path) -> Iterator[Any]:
        self.heard[sound.stem] = load_waveform(sound)
        for number, image in enumerate(self.frames_seen):
            report = SimpleNamespace(source=number, faces=() if number == 1 else ("face",))
            yield SimpleNamespace(image=255 - image, report=report)


def test_a_dub_sees_the_clip_without_loss_and_hears_each_sound(clip: PreparedClip) -> None:
    retalker = FakeRetalker(clip, {})
    sounds = {"own": clip.wave, "foreign": np.full(100, 0.5, np.float32)}
    made = dubs.make_dubs(retalker, clip, sounds, 6)  # type: ignore[arg-type]
    assert len(retalker.frames_seen) == 6
    assert all(np.array_equal(clip.frame(n), frame) for n, frame in enumerate(retalker.frames_seen))
    samples = round(6 / 25 * 16000)
    np.testing.assert_allclose(retalker.heard["own"], clip.wave[:samples], atol=1e-4)
    np.testing.assert_allclose(retalker.heard["foreign"], np.full(samples, 0.5), atol=1e-4)
    assert len(made["own"].result) == 5  # the frame without a face is left out
    np.testing.assert_array_equal(made["own"].around, clip.landmarks[[0, 2, 3, 4, 5]])
    np.testing.assert_array_equal(made["own"].result[1], 255 - clip.frame(2))
    np.testing.assert_allclose(made["own"].angles, [[0.0, 30.0, -5.0]] * 5, rtol=1e-5)


def test_clips_without_a_face_are_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = read_clips(root)
    retalker = FakeRetalker(clips[0].clip, {})
    monkeypatch.setattr(
        dubs, "dub_figures", lambda made, network: {"seam_own": float(len(made)), "leak_r": None}
    )
    found = dubs.measure_dubs(clips, retalker, None, FRAMES)  # type: ignore[arg-type]
    assert (found["seam_own"], found["leak_r"]) == (3.0, None)
    assert set(found["dubs_of_clips"]) == {"val/face5", "val/face6"} and found["dubs_without_face"] == []
    with pytest.raises(UserError, match="no face was found"):
        dubs.measure_dubs(clips, replace(retalker, found=False), None, FRAMES)  # type: ignore[arg-type]


def test_sound_is_written_at_the_rate_of_the_networks(tmp_path: Path) -> None:
    dubs.write_sound(tmp_path / "a.wav", np.array([0.0, 1.5, -1.0], np.float32))
    with wave.open(str(tmp_path / "a.wav")) as handle:
        assert (handle.getframerate(), handle.getnchannels()) == (16000, 1)
        assert np.frombuffer(handle.readframes(3), "<i2").tolist() == [0, 32767, -32768]


def test_each_person_is_seen_in_the_longest_clip(tmp_path: Path) -> None:
    clips = []
    for name, person, count in (("a", "anna", 5), ("b", "ben", 6), ("c", "anna", 9), ("d", "anna", 9)):
        write_synthetic_clip(tmp_path / name, 0, count)
        opened_clip = PreparedClip(tmp_path / name)
        opened_clip.meta = replace(opened_clip.meta, identity=person)
        clips.append(HeldOutClip(name, opened_clip))
    assert [item.name for item in one_each(clips)] == ["c", "b"]


# hearing


def heard(identity: str, seed: int, useful: float) -> hearing.HeardClip:
    """A clip whose opening is the first feature as far as ``useful`` says, the rest is noise."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(60, 12))
    opening = useful * features[:, 0] + math.sqrt(1 - useful**2) * rng.normal(size=60)
    return hearing.HeardClip(identity, features, opening - opening.mean())


def test_the_regression_finds_what_features_say_on_strangers() -> None:
    train = [heard(f"person{seed % 6}", seed, 0.8) for seed in range(24)]
    strangers = [heard(f"stranger{seed}", 100 + seed, 0.8) for seed in range(8)]
    found = hearing.regress(train, strangers)
    assert found["r"] == pytest.approx(0.8, abs=0.08)
    assert found["r_in_clips"] == pytest.approx(0.8, abs=0.08)
    unlike = hearing.regress(train, [heard(f"stranger{seed}", 100 + seed, 0.0) for seed in range(8)])
    assert abs(unlike["r"] or 1.0) < 0.15 and (unlike["r_trained"] or 0.0) > 0.7


def test_the_spectrogram_of_drawn_faces_says_how_far_mouths_open(root: Path) -> None:
    class Expert:
        """Its features are the loudness at the start of the window, and noise."""

        def audio_encoder(self, windows: torch.Tensor) -> torch.Tensor:
            loudness = windows[:, :, :, :2].mean(dim=(2, 3))
            return torch.cat([loudness, torch.randn(len(windows), 3)], dim=1)[:, :, None, None]

    torch.manual_seed(0)
    with torch.inference_mode():
        found = hearing.measure_hearing(root, Expert())  # type: ignore[arg-type]
    assert found["features_r"] > 0.9 and found["features_r_in_clips"] > 0.9
    assert found["mel_r"] > 0.5


def test_correlation_of_what_does_not_vary_is_none() -> None:
    assert hearing.correlation([1, 2, 3], [2, 4, 6]) == pytest.approx(1.0)
    assert hearing.correlation([1, 1, 1], [2, 4, 6]) is None
    assert hearing.correlation([1, 2], [2, 4]) is None


# D-Net


def test_a_still_mouth_and_a_smile_are_seen(clip: PreparedClip) -> None:
    points = clip.landmarks
    gaps = inner_lip_gap(points)
    half = opened(points, gaps.mean() + 0.5 * (gaps - gaps.mean()))
    smile = half.copy()
    units = np.array([pictures.eye_span(row) for row in points])
    smile[:, 48, 0] -= 0.04 * units
    smile[:, 54, 0] += 0.04 * units
    found = expression.expression_figures(points, half, smile)
    assert found["neutral_opening_r"] == pytest.approx(1.0, abs=1e-3)
    assert found["neutral_opening_spread"] == pytest.approx(0.5, abs=1e-2)
    assert found["smile_corners"] == pytest.approx(0.04, abs=1e-4)


def test_dnet_is_given_the_templates_in_place_of_the_clips_expression(
    clip: PreparedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []

    class DNet:
        config = SimpleNamespace(window=27, overshoot=0.0)

        def __call__(self, images: torch.Tensor, windows: torch.Tensor) -> DNetOutput:
            assert images.shape[1:] == (3, 256, 256) and windows.shape[1:] == (73, 27)
            seen.append(windows)
            return DNetOutput(images[:, :2], 1.0 - images, images)

    oracle = Oracle(monkeypatch, expression)
    oracle.answers = [clip.landmarks[:6]] * 3
    templates = {
        name: np.full(NUM_EXPRESSION, value, np.float32) for name, value in (("neutral", 0), ("smile", 2))
    }
    item = HeldOutClip("a", clip)
    found = expression.measure_expression([item], DNet(), templates, None, 6)  # type: ignore[arg-type]
    assert [set(window[:, :64].unique().tolist()) for window in seen] == [{0.0}, {2.0}]
    assert found["smile_corners"] == 0.0 and found["neutral_opening_r"] == pytest.approx(1.0)


def test_landmarks_are_found_in_the_crop_of_the_known_face(clip: PreparedClip) -> None:
    class Network:
        """Answers with the middle of what it sees."""

        def __call__(self, images: torch.Tensor) -> Any:
            assert images.shape[1:] == (3, 128, 128)
            return SimpleNamespace(points=torch.full((len(images), 68, 2), 63.5))

    frames = [clip.frame(number) for number in range(3)]
    found = find.find_landmarks(frames, list(clip.landmarks[:3]), Network())  # type: ignore[arg-type]
    for points, known in zip(found, clip.landmarks, strict=False):
        assert (np.abs(points[0] - (known.min(axis=0) + known.max(axis=0)) / 2) < 12).all()


# E-Net


@pytest.mark.parametrize(("share", "levels", "nearer"), [(0.0, 0.0, 0.0), (0.2, 3.0, 1.0)])
def test_a_network_that_looks_at_the_reference_is_told_from_one_that_does_not(
    root: Path, share: float, levels: float, nearer: float
) -> None:
    def enet(low: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        large = torch.nn.functional.interpolate(low, size=384, mode="bilinear")
        return (1 - share) * large + share * reference

    found = identity.measure_identity(read_clips(root), enet)  # type: ignore[arg-type]
    assert found["own_nearer"] >= nearer if nearer else found["own_nearer"] == 0.0
    assert found["reference_levels"] >= levels
    assert (found["reference_levels"] == 0.0) == (share == 0.0)
    alone = identity.measure_identity(read_clips(root)[:1], enet)  # type: ignore[arg-type]
    assert alone == {"reference_levels": None, "own_nearer": None}


def test_too_few_frames_for_dubs_are_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--frames 24 is too few for dubs: name 25"):
        measure_demo.measure(tmp_path, tmp_path, tmp_path, ["dubs"], 24)

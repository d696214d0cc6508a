from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_weights import SIZES, make_tiny_weights

from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import PreparedClip
from videoretalking.datasets.mouths import inner_lip_gap
from videoretalking.datasets.synthetic import write_synthetic, write_synthetic_clip
from videoretalking.media.images import load_image
from videoretalking.models.catalog import build_network, save_network
from videoretalking.models.landmarks import Landmarks
from videoretalking.scripts import measure_demo
from videoretalking.scripts.demo_figures import landmarks, sync
from videoretalking.scripts.demo_figures.clips import HeldOutClip, read_clips
from videoretalking.scripts.demo_figures.curves import find_stages, write_curves
from videoretalking.scripts.demo_figures.table import to_table
from videoretalking.scripts.measure_demo import measure


@pytest.fixture
def clip(tmp_path: Path) -> HeldOutClip:
    write_synthetic_clip(tmp_path / "clip", seed=0, num_frames=12)
    return HeldOutClip("clip", PreparedClip(tmp_path / "clip"))


@pytest.mark.parametrize("late", [0, 4])
def test_offsets_of_windows_see_late_sound(late: int) -> None:
    video = np.random.default_rng(0).normal(size=(120, 8)).astype(np.float32)
    offsets = sync.offsets_of_windows(video, np.roll(video, late, axis=0))
    assert offsets == [-late] * 3
    assert sync.offsets_of_windows(video[:45], video[:45]) == []  # shorter than two seconds


def test_redub_shows_the_painter_masked_frames_one_moment_in_their_pose_and_the_new_speech(
    clip: HeldOutClip,
) -> None:
    masked, references, heard = [], [], []

    def painter(audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        masked.append(faces[:, :3])
        references.append(faces[:, 3:])
        heard.append(audio)
        return faces[:, 3:] + 0.0

    mel = np.random.default_rng(1).normal(size=(80, 62)).astype(np.float32)
    before = clip.faces.copy()
    painted = sync.redub(clip, mel, painter)
    # (62 - 16) / 3.2 + 1 whole windows; the clip has 12 frames, so it runs back from the last one
    assert painted.shape == (15, 3, 96, 96)
    shown = torch.cat(masked).numpy()
    assert (shown[:, :, 48:] == 0).all()
    assert np.array_equal(shown[12, :, :48], before[10, :, :48])
    assert np.array_equal(torch.cat(heard)[10, 0].numpy(), mel[:, 32:48])
    seen = torch.cat(references).numpy()
    closed = int(inner_lip_gap(clip.clip.landmarks).argmin())
    np.testing.assert_allclose(seen[closed], before[closed], atol=0.01)  # in its own pose
    assert np.array_equal(seen[12], clip.references[10])
    assert np.array_equal(clip.faces, before)


def test_back_and_forth() -> None:
    assert sync.back_and_forth(4, 9) == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert sync.back_and_forth(1, 3) == [0, 0, 0]


class _Oracle:
    """Finds the labels of one clip, off by some pixels of the stored frame to the right."""

    def __init__(self, clip: PreparedClip, error: float) -> None:
        self.frames = iter(clip.landmarks)
        self.error = error

    def find(self, clip: PreparedClip, index: int, around: object, network: object) -> np.ndarray:
        return clip.landmarks[index] + np.array([self.error, 0.0], dtype=np.float32)


def test_landmark_error_is_in_eye_distances(clip: HeldOutClip, monkeypatch: pytest.MonkeyPatch) -> None:
    eyes = np.linalg.norm(clip.clip.landmarks[:, 36] - clip.clip.landmarks[:, 45], axis=1)
    monkeypatch.setattr(landmarks, "_find_landmarks", _Oracle(clip.clip, 2.0).find)
    assert landmarks.landmark_error(clip.clip, None) == pytest.approx((2.0 / eyes[::2]).mean(), rel=1e-4)  # type: ignore[arg-type]
    assert landmarks.tracked_landmark_error(clip.clip, None) == pytest.approx(
        (2.0 / eyes[1:]).mean(), rel=1e-4
    )  # type: ignore[arg-type]


def test_opening_is_measured_in_the_frame(clip: HeldOutClip) -> None:
    """A network that finds the labels gives the labels' opening."""
    labels = [view.to_crop(points) for view, points in zip(clip.views, clip.clip.landmarks, strict=True)]
    answers = iter(torch.from_numpy((points + 0.5) * 128 / 96 - 0.5).float() for points in labels)

    def network(images: torch.Tensor) -> Landmarks:
        assert images.shape[1:] == (3, 128, 128)
        return Landmarks(torch.stack([next(answers) for _ in images]), torch.zeros(len(images)))

    opening = sync.opening_of(clip.faces, clip, network)  # type: ignore[arg-type]
    assert opening == pytest.approx(inner_lip_gap(clip.clip.landmarks), abs=1e-4)


def test_measure_needs_people_that_no_training_saw(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("clip,split,identity,num_frames,release_training\n")
    with pytest.raises(UserError, match="no validation clips"):
        measure(tmp_path, tmp_path, tmp_path)


def test_absent_networks_are_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "data", num_train=1, num_val=2, num_frames=56)
    weights = make_tiny_weights(tmp_path / "weights")
    (weights / "enet.safetensors").unlink()
    network = build_network("landmarks", {"width_multiplier": 0.1}).eval()
    save_network(weights / "landmarks.safetensors", network, license="random, for tests")
    extra = {"step": 7, "figures": {"psnr": 21.5}}
    dnet = build_network("dnet", SIZES["dnet"]).eval()
    save_network(weights / "dnet.safetensors", dnet, license="random, for tests", extra=extra)
    measured = measure(root, root, weights, num_frames=26)
    assert measured["missing"] == ["wav2lip", "enet"]
    assert measured["data"] == {"clips": 2, "people": 2, "talking_clips": 2, "talking_people": 2}
    assert measured["landmarks"]["nme"] > 0.0
    assert 0.0 <= measured["lipsync_expert"]["accuracy_2_s"] <= 1.0
    assert len(measured["lnet"]["offsets"]) == 2
    assert measured["lnet"]["opening_real"] > 0.0 and measured["lnet"]["opening_still"] > 0.0
    assert measured["dnet"]["training"] == extra and measured["dnet"]["psnr"] == 21.5
    assert measured["dnet"]["smile_corners"] >= 0.0 and len(measured["dnet"]["expression_of_clips"]) == 2
    assert -1.0 <= measured["lipsync_expert"]["features_r"] <= 1.0
    (note,) = measured["notes"]
    assert note.startswith("dubs: not measured, ") and "enet.safetensors" in note
    assert json.loads(json.dumps(measured)) == measured
    text = to_table(measured).markdown()
    assert (
        "| dnet | PSNR of the rendered frame, at the last validation of the training | 21.5 dB | - |" in text
    )
    assert "wav2lip: not measured, no weights" in text
    assert text.count("\n| wav2lip |") == 6 and text.count("\n| lnet |") == 9  # it hears, too
    assert -1.0 <= measured["lnet"]["features_r"] <= 1.0


def test_a_person_in_both_parts_is_refused(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path, num_train=1, num_val=1, num_frames=5)
    lines = (root / "manifest.csv").read_text().replace("face1,5", "face0,5")
    (root / "manifest.csv").write_text(lines)
    with pytest.raises(UserError, match="face0"):
        read_clips(root)


def _save_lnet(path: Path, step: int | None, seed: int, network: str = "lnet") -> Path:
    torch.manual_seed(seed)
    extra = {} if step is None else {"step": step}
    save_network(
        path, build_network(network, SIZES[network]).eval(), license="random, for tests", extra=extra
    )
    return path


def test_figures_over_a_training_are_those_of_each_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_synthetic(tmp_path / "data", num_train=2, num_val=2, num_frames=56)
    weights = make_tiny_weights(tmp_path / "weights")
    before = (weights / "lnet.safetensors").read_bytes()
    kept = tmp_path / "kept"
    kept.mkdir()
    _save_lnet(kept / "00000020.safetensors", 20, 2)
    _save_lnet(kept / "00000010.safetensors", 10, 1)
    (kept / "00000010.pt").touch()
    output = tmp_path / "out/figures.json"
    places = ["--root", root, "--large", root, "--checkpoints", weights, "--output", output, "--over", kept]
    monkeypatch.setattr(sys, "argv", ["measure_demo", *map(str, places), "--only", "hearing"])
    measure_demo.main()
    first, second = json.loads(output.read_text())
    assert (first["step"], second["step"]) == (10, 20)
    expert, lnet = ([found["figures"][name]["features_r"] for found in (first, second)] for name in
                    ("lipsync_expert", "lnet"))  # fmt: skip
    assert expert[0] == expert[1] and lnet[0] != lnet[1]
    with output.with_suffix(".csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["step"] for line in lines] == ["10", "20"]
    assert [float(line["lnet.features_r"]) for line in lines] == lnet
    assert "dubs.seam_worst" not in lines[0]  # was not measured
    assert load_image(output.with_suffix(".png")).std() > 0
    assert (weights / "lnet.safetensors").read_bytes() == before


def test_weights_that_make_no_curve_are_named(tmp_path: Path) -> None:
    one, same = _save_lnet(tmp_path / "a.safetensors", 5, 0), _save_lnet(tmp_path / "b.safetensors", 5, 1)
    with pytest.raises(UserError, match=r"a\.safetensors and .*b\.safetensors are both of step 5"):
        find_stages([one, same])
    with pytest.raises(UserError, match=r"c\.safetensors does not say after which step"):
        find_stages([_save_lnet(tmp_path / "c.safetensors", None, 0)])
    other = _save_lnet(tmp_path / "d.safetensors", 9, 0, "dnet")
    with pytest.raises(UserError, match=r"a\.safetensors is of lnet, .*d\.safetensors of dnet"):
        find_stages([other, one])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no weights .* in .*empty"):
        find_stages([tmp_path / "empty"])


def test_only_what_changes_is_a_curve(tmp_path: Path) -> None:
    """A figure that one step lacks has a gap in the table and no point in the curve."""
    values = [(0.5, 1.0), (None, 1.0), (0.7, 1.0)]
    found = [
        {"step": step, "figures": {"dubs": {"leak_r": leak, "seam_worst": seam}}}
        for step, (leak, seam) in enumerate(values)
    ]
    write_curves(tmp_path / "f.json", found)
    assert (tmp_path / "f.csv").read_text().splitlines() == [
        "step,dubs.seam_worst,dubs.leak_r", "0,1.0,0.5", "1,1.0,", "2,1.0,0.7"
    ]  # fmt: skip
    narrow = load_image(tmp_path / "f.png").shape
    for item in found:
        item["figures"]["dubs"]["seam_worst"] += item["step"]
    write_curves(tmp_path / "f.json", found)
    assert load_image(tmp_path / "f.png").shape[1] > 1.5 * narrow[1]

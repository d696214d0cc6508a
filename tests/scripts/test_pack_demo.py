from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import ClipWriter, PreparedClip
from videoretalking.datasets.collection import ClipCollection, DataConfig
from videoretalking.datasets.manifest import read_manifest
from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.scripts import pack_demo

ROOT = Path(__file__).resolve().parent.parent.parent
FRAMES = 14
# what stands between unpacking and a machine without these packages
BARE = """
import sys
for name in ("av", "librosa", "scipy", "skimage", "PIL"):
    sys.modules[name] = None
from pathlib import Path
from videoretalking.scripts.pack_demo import unpack
unpack(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def write_scaled(root: Path, target: Path, side: int) -> None:
    """The clips of a data set in another size, as preparation with another ``--max-face`` makes them."""
    for entry in read_manifest(root):
        clip = PreparedClip(root / entry.clip)
        scale = side / clip.meta.width
        writer = ClipWriter(target / entry.clip)
        writer.write_frames(
            np.asarray(cv2.resize(clip.frame(number), (side, side), interpolation=cv2.INTER_AREA), np.uint8)
            for number in range(len(clip))
        )
        writer.write_per_frame("landmarks", ((clip.landmarks + 0.5) * scale - 0.5).astype(np.float32))
        writer.write_per_frame("boxes", clip.boxes * np.float32(scale))
        writer.write_per_frame("rows", clip.rows)
        writer.write_audio(clip.wave, clip.mel)
        x1, y1, x2, y2 = (scale * edge for edge in clip.meta.dnet_window)
        writer.finish(replace(clip.meta, width=side, height=side, dnet_window=(x1, y1, x2, y2)))
    (target / "manifest.csv").write_bytes((root / "manifest.csv").read_bytes())


def name_windows(root: Path) -> None:
    """Say which window of the source each clip shows, as preparation does."""
    for entry in read_manifest(root):
        path = root / entry.clip / "meta.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"source_window": [10, 20, 138, 148]}))


def add_stills(root: Path) -> None:
    """Two stills of one frame each, in odd sizes."""
    lines = (root / "manifest.csv").read_text()
    for number, side in enumerate((101, 77)):
        clip = PreparedClip(root / "train/face0")
        writer = ClipWriter(root / f"stills/{number}")
        writer.write_frames([np.asarray(cv2.resize(clip.frame(3 * number), (side, side)), np.uint8)])
        writer.write_per_frame("landmarks", clip.landmarks[:1] * np.float32(side / 128))
        meta = replace(clip.meta, num_frames=1, width=side, height=side, identity=f"still{number}")
        writer.finish(replace(meta, source=f"still {number}", source_window=(0.0, 0.0, 1.0, 1.0)))
        lines += f"stills/{number},train,still{number},1,no\n"
    (root / "manifest.csv").write_text(lines)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A large and a small data set of the same clips; the large one has two stills."""
    folder = tmp_path_factory.mktemp("sets")
    large = write_synthetic(folder / "large", num_train=2, num_val=1, num_frames=FRAMES)
    name_windows(large)
    write_scaled(large, folder / "small", 91)
    add_stills(large)
    return large, folder / "small"


@pytest.fixture(scope="module")
def unpacked(sets: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both sets after a way through a pack, with six frames of the clip that validates."""
    folder = tmp_path_factory.mktemp("unpacked")
    size = pack_demo.pack([sets[1], sets[0]], folder / "pack", max_mib=4.0, validation_frames=6)
    assert size == pytest.approx(sum(f.stat().st_size for f in (folder / "pack").iterdir()) / 2**20)
    subprocess.run([sys.executable, "-c", BARE, folder / "pack", folder / "data"], check=True, cwd=ROOT)
    return folder


def psnr(a: Image8, b: Image8) -> float:
    return float(-10 * np.log10(((a.astype(float) - b) ** 2).mean() / 255**2))


@pytest.mark.parametrize("name", ["small", "large"])
def test_what_comes_out_is_what_went_in(sets: tuple[Path, Path], unpacked: Path, name: str) -> None:
    before, after = {"large": sets[0], "small": sets[1]}[name], unpacked / "data" / name
    entries = {entry.clip: entry for entry in read_manifest(before)}
    assert {entry.clip for entry in read_manifest(after)} == set(entries)
    for entry in read_manifest(after):
        old, new = PreparedClip(before / entry.clip), PreparedClip(after / entry.clip)
        frames = 6 if entry.split == "val" else entries[entry.clip].num_frames
        assert (entry.num_frames, len(new)) == (frames, frames)
        assert new.meta == replace(old.meta, num_frames=frames)
        with pytest.raises(IndexError):
            new.frame(frames)
        for number in range(frames):
            assert psnr(old.frame(number), new.frame(number)) > 28.0  # grain and half chroma
        np.testing.assert_allclose(new.landmarks, old.landmarks[:frames], atol=1 / 16)
        if frames == 1:
            assert not new.has("mel") and not new.has("rows")
            continue
        np.testing.assert_allclose(new.boxes, old.boxes[:frames], atol=1 / 16)
        spread = np.ptp(old.rows[:frames], axis=0)
        assert (np.abs(new.rows - old.rows[:frames]) <= 1e-4 * spread + 1e-5).all()
        columns = min(old.mel.shape[1], new.mel.shape[1])
        np.testing.assert_allclose(new.mel[:, :columns], old.mel[:, :columns], atol=0.016)
        assert not new.has("wave") and not new.has("restored_index")


def test_frames_of_a_clip_stay_in_order(sets: tuple[Path, Path], unpacked: Path) -> None:
    old, new = (PreparedClip(root / "train/face1") for root in (sets[0], unpacked / "data/large"))
    shown = [new.frame(number).astype(float) for number in range(FRAMES)]
    for number in range(FRAMES):
        nearest = np.argmin([np.abs(old.frame(number) - frame).mean() for frame in shown])
        assert nearest == number


def test_every_packed_frame_keeps_its_speech_window(unpacked: Path) -> None:
    data = DataConfig(str(unpacked / "data/small"))
    clips = ClipCollection(data, "val", ("frames_index", "boxes", "mel"), 5)
    assert clips.usable_frames(0) == range(6)


def test_a_clip_in_two_sizes_is_packed_once(unpacked: Path) -> None:
    facts = json.loads((unpacked / "pack/pack.json").read_text())
    assert [frames for _, frames in facts["videos"]] == [2, FRAMES, FRAMES, 6]
    small, large = (
        {record["entry"]["clip"]: record for record in facts["clips"] if record["set"] == name}
        for name in ("small", "large")
    )
    for clip, record in small.items():
        for name in ("video", "landmarks", "boxes", "rows", "mel"):
            assert record[name] == large[clip][name], (clip, name)


def test_another_window_is_packed_by_itself(sets: tuple[Path, Path], tmp_path: Path) -> None:
    write_scaled(sets[1], tmp_path / "moved", 80)
    for path in (tmp_path / "moved").rglob("meta.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"source_window": [0, 20, 138, 158]}))
    pack_demo.pack([sets[1], tmp_path / "moved"], tmp_path / "pack", max_mib=4.0, validation_frames=6)
    assert len(json.loads((tmp_path / "pack/pack.json").read_text())["videos"]) == 6


def test_the_limit_decides_the_quality(sets: tuple[Path, Path], unpacked: Path, tmp_path: Path) -> None:
    best = sum(path.stat().st_size for path in (unpacked / "pack").iterdir()) / 2**20
    size = pack_demo.pack([sets[1], sets[0]], tmp_path / "pack", max_mib=0.75 * best, validation_frames=6)
    assert 0.3 * best < size <= 0.75 * best
    with pytest.raises(UserError, match=r"do not fit.*raise --max-mib"):
        pack_demo.pack([sets[0]], tmp_path / "tiny", max_mib=0.01, validation_frames=6)


def test_colors_survive(tmp_path: Path) -> None:
    root = write_synthetic(tmp_path / "a", num_train=1, num_val=0, num_frames=5)
    patch = np.full((64, 64, 3), (190, 60, 70), np.uint8)
    meta = PreparedClip(root / "train/face0").meta
    writer = ClipWriter(root / "train/face0")
    writer.write_frames([patch] * 5)
    writer.finish(replace(meta, width=64, height=64))
    pack_demo.pack([root], tmp_path / "pack", max_mib=1.0, validation_frames=6)
    pack_demo.unpack(tmp_path / "pack", tmp_path / "data")
    frame = PreparedClip(tmp_path / "data/a/train/face0").frame(2)
    np.testing.assert_allclose(frame.mean(axis=(0, 1)), (190, 60, 70), atol=2.0)


def test_what_cannot_be_packed_or_unpacked_is_said(
    sets: tuple[Path, Path], unpacked: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="must differ"):
        pack_demo.pack([sets[0], sets[0]], tmp_path / "pack", 4.0, 6)
    with pytest.raises(UserError, match="exists already"):
        pack_demo.pack([sets[0]], unpacked / "pack", 4.0, 6)
    with pytest.raises(UserError, match=r"manifest.csv exists already"):
        pack_demo.unpack(unpacked / "pack", unpacked / "data")
    with pytest.raises(UserError, match="no pack"):
        pack_demo.unpack(tmp_path, tmp_path / "data")
    (tmp_path / "pack.json").write_bytes((unpacked / "pack" / "pack.json").read_bytes())
    (tmp_path / "arrays.npz").write_bytes((unpacked / "pack" / "arrays.npz").read_bytes()[:5000])
    with pytest.raises(UserError, match="a damaged one"):
        pack_demo.unpack(tmp_path, tmp_path / "data")


def test_a_missing_frame_is_found(unpacked: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "pack"
    damaged.mkdir()
    for path in (unpacked / "pack").iterdir():
        (damaged / path.name).write_bytes(path.read_bytes())
    facts = json.loads((damaged / "pack.json").read_text())
    facts["videos"][1][1] += 1
    (damaged / "pack.json").write_text(json.dumps(facts))
    with pytest.raises(UserError, match=f"has {FRAMES} frames and should have {FRAMES + 1}"):
        pack_demo.unpack(damaged, tmp_path / "data")

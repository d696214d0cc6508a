"""Preprocessing, evaluation and batch dubbing on three Ray machines, one of which is killed midway."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from drawn_corpus import write_corpus
from media_clips import noise_bursts, write_wav
from ray_machines import remove_one_when, three_machines
from sample_media import write_clip
from tiny_weights import make_tiny_weights

from videoretalking.pipeline.cli import main as dub
from videoretalking.scripts.evaluate import main as evaluate
from videoretalking.scripts.preprocess import __main__ as preprocess

pytest.importorskip("ray")

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def machines() -> Iterator[Any]:
    with three_machines() as cluster:
        yield cluster


def _count(folder: Path, pattern: str) -> int:
    return len([path for path in folder.glob(pattern) if not path.name.startswith(".")])


def test_preprocessing(machines: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"person{number % 4}/{number}" for number in range(12)]
    write_corpus(tmp_path / "videos", tmp_path / "labels", names, num_frames=26)
    monkeypatch.setattr("sys.argv", [
        "preprocess", "--root", f"{tmp_path}/videos", "--output", f"{tmp_path}/out", "--cluster", "ray",
        "--labels", f"{tmp_path}/labels", "--reconstructor", "fit", "--val-share", "0.3",
    ])  # fmt: skip
    with remove_one_when(machines, lambda: _count(tmp_path, "out.work/clips/*/*.json") >= 3):
        preprocess.main()
    with (tmp_path / "out" / "manifest.csv").open() as file:
        rows = [row["clip"] for row in csv.DictReader(file)]
    assert sorted(rows) == sorted(f"{name}/000" for name in names)
    for array in ("landmarks", "mel", "rows"):
        assert _count(tmp_path, f"out/*/*/000/{array}.npy") == 12


def test_evaluation(machines: Any, tmp_path: Path) -> None:
    for index in range(3):
        write_clip(tmp_path / f"{index}.mp4", levels=range(40 + 30 * index, 100 + 30 * index), size=80)
    lines = [f"p{index:02d},{index % 3}.mp4,{(index + 1) % 3}.mp4" for index in range(24)]
    (tmp_path / "pairs.csv").write_text("\n".join(["name,video,audio", *lines]))
    out = tmp_path / "scores"
    with remove_one_when(machines, lambda: _count(out, "scores/*.json") >= 2):
        status = evaluate([
            "--pairs", f"{tmp_path}/pairs.csv", "--method", "copy", "--out", str(out), "--engine", "ray",
            "--cache", f"{tmp_path}/cache", "--set", "fid.features=stand-in", "sync.network=none",
            "identity=none", "lpips=none", "face_backend=bundled",
        ])  # fmt: skip
    assert status == 0
    assert json.loads((out / "summary.json").read_text())["videos"] == 24
    with (out / "scores.csv").open() as file:
        assert [row["name"] for row in csv.DictReader(file)] == [f"p{index:02d}" for index in range(24)]


def test_batch_dubbing(machines: Any, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    make_tiny_weights(weights)
    shutil.copy(ROOT / "examples" / "portrait.jpg", tmp_path / "face.jpg")
    write_wav(tmp_path / "speech.wav", noise_bursts(16000, 0.4), 16000)
    jobs = [f"{tmp_path}/face.jpg,{tmp_path}/speech.wav,{tmp_path}/out/{index}.mp4" for index in range(8)]
    jobs.append(f"{tmp_path}/pairs.txt,{tmp_path}/speech.wav,{tmp_path}/out/bad.mp4")
    (tmp_path / "jobs.csv").write_text("\n".join(["face,audio,outfile", *jobs]))
    with (
        remove_one_when(machines, lambda: _count(tmp_path, "out/*.mp4") >= 2),
        pytest.raises(Exception, match=r"1 of 9 jobs failed: .*bad\.mp4"),
    ):
        dub([
            "--batch", f"{tmp_path}/jobs.csv", "--weights", str(weights), "--cluster", "ray",
            "--report", f"{tmp_path}/reports", "--device", "cpu", "--dtype", "float32",
        ])  # fmt: skip
    assert _count(tmp_path, "out/*.mp4") == _count(tmp_path, "reports/*.json") == 8

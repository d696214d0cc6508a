"""Every corpus from its publisher's layout to figures, one command each: preprocess, train, draw pairs, evaluate.

The talking person of the bundled example stands for everybody; the networks are tiny, the face tools are the
bundled ones. Each tree has the traps of real copies: a missing clip, a broken file, a repeated line, a name that is
not ASCII.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_configs import ROOT, tiny_config

from videoretalking import cli
from videoretalking.core.checkpoint import read_metadata
from videoretalking.datasets.manifest import ManifestEntry, read_manifest
from videoretalking.evaluation.draw import cut_video

SPEAKER = ROOT / "examples" / "speaker.mp4"
SHORT = 1.08  # seconds, 27 frames: what is just long enough for a clip
MEASURES = [
    "fid.features=stand-in",
    "sync.network=none",
    "identity=none",
    "lpips=none",
    "face_backend=bundled",
]
JOB = ["weights.family=demo", "runtime.device=cpu", "analysis.backend=bundled"]

Command = Callable[..., None]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """``command("train", "config.yaml")``: ``videoretalking train config.yaml``, which has to succeed."""

    def run(*words: object) -> None:
        monkeypatch.setattr(sys, "argv", ["videoretalking", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 0

    monkeypatch.chdir(tmp_path)
    return run


def _speak(path: Path, start: float = 0.0, seconds: float = SHORT) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cut_video(SPEAKER, path, start, seconds)


def _prepare(command: Command, root: Path, layout: str, *options: object) -> list[ManifestEntry]:
    out = Path("data") / layout
    command(
        "preprocess", "--layout", layout, "--root", root, "--output", out, "--processes", 0,
        "--backend", "bundled", "--reconstructor", "fit", *options,
    )  # fmt: skip
    return read_manifest(out)


def _train(command: Command, name: str, layout: str, **settings: object) -> Path:
    Path("runs").mkdir()
    settings = {"loop": {"batch_size": 2}, **settings}
    command("train", tiny_config(name, Path("runs").resolve(), Path("data") / layout, steps=3, **settings))
    weights = Path("runs") / name / f"{name}.safetensors"
    assert read_metadata(weights)["extra"]["step"] == 3
    return weights.resolve()


def _evaluate(command: Command, videos: Path, job: list[str], *options: object) -> None:
    command("pairs", "--videos", videos, "--out", "pairs", "--num", 2, *options)
    command(
        "evaluate", "--pairs", "pairs/pairs.csv", "--method", "ours", "--out", "results", "--cache", "cache",
        "--set", *MEASURES, "--job", *JOB, *job,
    )  # fmt: skip
    summary = json.loads(Path("results/summary.json").read_text())
    assert not summary["failed"] and summary["values"]["cpbd"] > 0


def _by_split(entries: list[ManifestEntry]) -> dict[str, set[str]]:
    return {split: {e.identity for e in entries if e.split == split} for split in ("train", "val", "test")}


def test_voxceleb_by_its_metadata(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "VoxCeleb für D-Net"
    _speak(root / "youtube" / "WMh3ye5tBsE.mp4", seconds=2.4)
    for name in ("test/id10270#Testvideo01#000000#000027", "test/id10271#Testvideo02#000000#000027"):
        _speak(root / "vox" / f"{name}.mp4")
    (root / "youtube" / "Broken_vid1.mp4").write_bytes(b"the download was cut off")
    (root / "vox-metadata.csv").write_text(
        "video_id,start,end,bbox,fps,width,height,partition,person_id\n"
        "WMh3ye5tBsE,0,28,70-40-230-250,25,288,288,train,id10005\n"
        "WMh3ye5tBsE,0,28,70-40-230-250,25,288,288,train,id10005\n"
        "WMh3ye5tBsE,30,58,140-80-460-500,25,576,576,train,id10006\n"  # measured in a larger version
        "Broken_vid1,0,60,10-10-90-90,25,288,288,train,id10007\n"
        "Not_on_tube,0,60,10-10-90-90,25,288,288,train,id10008\n"
        "Testvideo01,0,27,0-0-288-288,25,288,288,test,id10270\n"
        "Testvideo02,0,27,0-0-288-288,25,288,288,test,id10271\n"
    )
    splits = _by_split(_prepare(command, root, "voxceleb"))
    assert splits["test"] == {"id10270", "id10271"}
    assert len(splits["train"]) == len(splits["val"]) == 1
    assert splits["train"] | splits["val"] == {"id10005", "id10006"}
    trained = _train(command, "dnet", "voxceleb", warp_steps=1, far_mouths=0.5)
    _evaluate(command, root / "vox" / "test", [f"weights.dnet={trained}"])


def test_lrs2_by_its_lists(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "LRS2 лицензия"
    main = root / "mvlrs_v1" / "main"
    for clip in ("11/00001", "21/00001", "31/00001", "32/00002"):
        _speak(main / f"{clip}.mp4", seconds=SHORT)
    (main / "12").mkdir()
    (main / "12" / "00001.mp4").write_bytes(b"not a video")
    (root / "train.txt").write_text("11/00001\n12/00001\n11/00001\n13/00001\n")
    (root / "val.txt").write_text("21/00001\n")
    (root / "test.txt").write_text("31/00001 NF\n32/00002 MV\n")
    entries = _prepare(command, main, "lrs2")
    assert _by_split(entries) == {"train": {"11"}, "val": {"21"}, "test": {"31", "32"}}
    trained = _train(command, "lnet", "lrs2")
    _evaluate(command, root / "mvlrs_v1", [f"weights.lnet={trained}"], "--lrs2")
    pairs = Path("pairs/pairs.csv").read_text()
    assert "/11/" not in pairs and "/31/" in pairs and "/32/" in pairs


def test_hdtf_of_the_usual_downloader(command: Command, tmp_path: Path) -> None:
    root = tmp_path / "HDTF"
    raw = root / "out" / "_videos_raw"
    for name in ("WRA_BobCorker", "WRA_RandPaul2"):
        _speak(raw / f"{name}.mp4", seconds=2.2)
    (raw / "WDA_Cut Off.mp4").write_bytes(b"not a video")
    _speak(root / "out" / "WRA_RandPaul2_000.mp4", start=0.4)
    _speak(root / "out" / "RD_Radió34_000.mp4")
    lists = root / "HDTF_dataset"
    lists.mkdir()
    (lists / "WRA_annotion_time.txt").write_text(
        "\ufeffBobCorker.mp4 00:00-00:02 00:02-00:09\nRandPaul2.mp4 00:00-00:01 \n", encoding="utf-8"
    )
    (lists / "WRA_crop_wh.txt").write_text("BobCorker_0.mp4 175 400 100 400\nRandPaul2_0.mp4 0 1080 0 1080\n")
    (lists / "WRA_resolution.txt").write_text("BobCorker.mp4 720\nRandPaul2.mp4 1080\n")
    entries = _prepare(command, root / "out", "hdtf")
    assert sorted(entry.clip for entry in entries) == [
        "RD_Radió34_000/000",
        "WRA_RandPaul2_000/000",
        "_videos_raw/WRA_BobCorker_000/000",
    ]
    splits = _by_split(entries)
    assert splits["train"] and splits["val"] and not splits["test"]
    _train(command, "enet", "hdtf", targets="original")
    _evaluate(command, root / "out", [], "--seconds", 1)

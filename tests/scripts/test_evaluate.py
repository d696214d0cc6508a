from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from sample_media import write_clip

from core.errors import UserError
from metrics.pairs import Pair, read_pairs
from scripts import evaluate
from scripts.evaluate import main, parse_settings
from scripts.methods import CopyMethod, FolderMethod, driving_audio, make_method

PLAIN = ["fid.features=stand-in", "sync.network=none", "identity=none", "lpips=none", "face_backend=bundled"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips and a list that gives each the sound of the next."""
    for index in range(3):
        write_clip(tmp_path / f"{index}.mp4", levels=range(40 + 30 * index, 100 + 30 * index, 10), size=80)
    lines = [f"p{index},{index}.mp4,{(index + 1) % 3}.mp4" for index in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join(["name,video,audio", *lines]))
    return tmp_path


@pytest.fixture(autouse=True)
def _no_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clips have none; the real detector has its own tests."""

    class Blind:
        name = "blind"
        search_every = 100

        def detect(self, frame: Any, thorough: bool = False) -> list[Any]:
            return []

        def follow(self, frame: Any, face: Any) -> None:
            return None

    monkeypatch.setattr("metrics.config.choose_detector", lambda *_: Blind())


def _evaluate(data: Path, *arguments: str) -> int:
    common = ["--pairs", str(data / "pairs.csv"), "--cache", str(data / "cache"), "--set", *PLAIN]
    return main([*common, *arguments])


def test_copying_scores_as_the_source(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(data, "--method", "copy", "--out", str(data / "copy")) == 0
    summary = json.loads((data / "copy" / "summary.json").read_text())
    assert summary["videos"] == 3
    assert abs(summary["values"]["fid"]) < 1e-3
    assert summary["values"]["psnr"] == 100.0
    assert "stand in" in summary["notes"]["fid"]
    printed = capsys.readouterr().out
    assert "Source video: 3 videos" in printed and "note on fid" in printed


def test_folder_by_name_or_by_index_and_missing_results(data: Path) -> None:
    results = data / "results"
    results.mkdir()
    shutil.copy(data / "0.mp4", results / "p0.mp4")
    shutil.copy(data / "0.mp4", results / "1.mp4")
    out = data / "folder"
    assert _evaluate(data, "--method", str(results), "--name", "Theirs", "--out", str(out)) == 1
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["method"], summary["videos"], summary["failed"]) == ("Theirs", 2, ["p2"])
    assert summary["values"]["fid"] > 0.001
    shutil.copy(data / "2.mp4", results / "p2.mp4")
    assert (
        _evaluate(data, "--method", str(results), "--name", "Theirs", "--out", str(out), "--retry-failed")
        == 0
    )


def test_shards_meet_in_one_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "parts"
    assert _evaluate(data, "--method", "copy", "--out", str(out), "--shard", "2/2") == 0
    assert not (out / "summary.json").exists()
    assert _evaluate(data, "--method", "copy", "--out", str(out), "--shard", "1/2") == 0
    assert json.loads((out / "summary.json").read_text())["videos"] == 3


def test_silence_is_as_long_as_the_video(data: Path) -> None:
    pair = Pair(0, "quiet", data / "0.mp4", None)
    from metrics.video import read_speech

    speech = read_speech(driving_audio(pair, data / "work"))
    assert speech is not None and not speech.any()
    assert len(speech) == pytest.approx(6 * 640, abs=640)
    assert driving_audio(read_pairs(data / "pairs.csv")[0], data) == data / "1.mp4"


def test_methods_by_name(data: Path) -> None:
    assert isinstance(make_method("copy"), CopyMethod)
    method = make_method(str(data), name="X")
    assert isinstance(method, FolderMethod) and method.name == "X"
    with pytest.raises(UserError, match="neither ours, wav2lip, wav2lip-gan, copy nor a folder"):
        make_method("nothing")


def test_settings_of_the_job() -> None:
    assert parse_settings(["render.expression_blend=0.4", "weights.family=demo", "render.one_shot=true"]) == {
        "render.expression_blend": 0.4,
        "weights.family": "demo",
        "render.one_shot": True,
    }
    with pytest.raises(UserError, match="key=value"):
        parse_settings(["render.one_shot"])


@pytest.mark.parametrize(("text", "expected"), [("1/1", (1, 1)), ("3/8", (3, 8))])
def test_shard_argument(text: str, expected: tuple[int, int]) -> None:
    assert evaluate.parse_shard(text) == expected


def test_cluster_needs_ray(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"\.\[cluster\]"):
        _evaluate(data, "--method", "copy", "--out", str(data / "ray"), "--engine", "ray")

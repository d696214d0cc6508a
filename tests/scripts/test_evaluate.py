from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sample_media import write_clip
from tiny_weights import make_tiny_weights

from videoretalking.core.errors import UserError
from videoretalking.core.workers import Finished
from videoretalking.evaluation.draw import cut_video
from videoretalking.scripts import evaluate
from videoretalking.scripts.evaluate import main, parse_settings

PLAIN = ["fid.features=stand-in", "sync.network=none", "identity=none", "lpips=none", "face_backend=bundled"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three clips and a list that gives each the sound of the next."""
    for index in range(3):
        write_clip(tmp_path / f"{index}.mp4", levels=range(40 + 30 * index, 100 + 30 * index, 10), size=80)
    lines = [f"p{index},{index}.mp4,{(index + 1) % 3}.mp4" for index in range(3)]
    (tmp_path / "pairs.csv").write_text("\n".join(["name,video,audio", *lines]))
    return tmp_path


@pytest.fixture
def _no_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """These clips have none; the real detector has its own tests."""

    class Blind:
        name = "blind"
        search_every = 100

        def detect(self, frame: Any, thorough: bool = False) -> list[Any]:
            return []

        def follow(self, frame: Any, face: Any) -> None:
            return None

    monkeypatch.setattr("videoretalking.evaluation.config.choose_detector", lambda *_: Blind())


def _evaluate(data: Path, *arguments: str) -> int:
    common = ["--pairs", str(data / "pairs.csv"), "--cache", str(data / "cache"), "--set", *PLAIN]
    return main([*common, *arguments])


@pytest.mark.usefixtures("_no_faces")
def test_copying_scores_as_the_source(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _evaluate(data, "--method", "copy", "--out", str(data / "copy")) == 0
    summary = json.loads((data / "copy" / "summary.json").read_text())
    assert summary["videos"] == 3
    assert abs(summary["values"]["fid"]) < 1e-3
    assert summary["values"]["psnr"] == 100.0
    assert "stand in" in summary["notes"]["fid"]
    printed = capsys.readouterr().out
    assert "Source video: 3 videos" in printed and "note on fid" in printed


@pytest.mark.usefixtures("_no_faces")
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


@pytest.mark.usefixtures("_no_faces")
def test_shards_meet_in_one_table(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "parts"
    assert _evaluate(data, "--method", "copy", "--out", str(out), "--shard", "2/2") == 0
    assert not (out / "summary.json").exists()
    assert _evaluate(data, "--method", "copy", "--out", str(out), "--shard", "1/2") == 0
    assert json.loads((out / "summary.json").read_text())["videos"] == 3


@pytest.mark.usefixtures("_no_faces")
def test_pairs_that_were_trained_on_are_refused(data: Path) -> None:
    manifest = data / "manifest.csv"
    header = "clip,split,identity,num_frames,release_training\n"
    manifest.write_text(f"{header}clip/000,train,{data.name},50,yes\n")  # people are known by their folder
    arguments = ("--method", "copy", "--out", str(data / "out"), "--train-manifest", str(manifest))
    with pytest.raises(UserError, match=rf"manifest\.csv: .*share {data.name}"):
        _evaluate(data, *arguments)
    assert not (data / "out").exists()
    manifest.write_text(f"{header}clip/000,train,someone,50,yes\nother/000,test,{data.name},50,yes\n")
    assert _evaluate(data, *arguments) == 0


def test_settings_of_the_job() -> None:
    assert parse_settings(["render.expression_blend=0.4", "weights.family=demo", "render.one_shot=true"]) == {
        "render.expression_blend": 0.4,
        "weights.family": "demo",
        "render.one_shot": True,
    }
    with pytest.raises(UserError, match="key=value"):
        parse_settings(["render.one_shot"])
    with pytest.raises(UserError, match="not valid YAML"):
        parse_settings(["render.one_shot=[1"])


@pytest.mark.parametrize(("text", "expected"), [("1/1", (1, 1)), ("3/8", (3, 8))])
def test_shard_argument(text: str, expected: tuple[int, int]) -> None:
    assert evaluate.parse_shard(text) == expected


@pytest.mark.usefixtures("_no_faces")
def test_cluster_needs_ray(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"\.\[cluster\]"):
        _evaluate(data, "--method", "copy", "--out", str(data / "ray"), "--engine", "ray")


@pytest.mark.usefixtures("_no_faces")
def test_pairs_whose_process_died_are_named(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(build: Any, pairs: Any, *_: Any) -> Any:
        for number, pair in enumerate(pairs):
            yield Finished(pair, died=True) if number == 1 else Finished(pair, build("cpu")(pair))

    monkeypatch.setattr("videoretalking.evaluation.plan.run_on_ray", half)
    with pytest.raises(UserError, match=r"the process of 1 of 3 pairs died each time .* such as that of p1"):
        _evaluate(data, "--method", "copy", "--out", str(data / "ray"), "--engine", "ray")
    assert [path.stem for path in _score_files(data / "ray")] == ["p0", "p2"]


def _score_files(folder: Path) -> list[Path]:
    """Finished scores; a kill may leave a hidden partial file behind."""
    return sorted(path for path in (folder / "scores").glob("*.json") if not path.name.startswith("."))


def _read_scores(folder: Path) -> dict[str, Any]:
    """All that is stored but the seconds, which differ from run to run."""
    records = {path.name: json.loads(path.read_text()) for path in _score_files(folder)}
    return {name: {**record, "seconds": None} for name, record in records.items()}


def test_a_killed_run_goes_on_with_identical_numbers(data: Path) -> None:
    weights = make_tiny_weights(data / "weights")
    write_clip(data / "3.mp4", levels=[90] * 60, size=160)
    with (data / "pairs.csv").open("a") as handle:
        handle.write("\nlast,3.mp4,3.mp4\n")
    settings = ["fid.features=stand-in", "identity=none", "lpips=none", "face_backend=bundled"]
    settings.append(f"sync.weights={weights / 'lipsync_expert.safetensors'}")
    arguments = ["--pairs", str(data / "pairs.csv"), "--method", "copy", "--cache", str(data / "cache")]
    arguments += ["--set", *settings, "--out"]

    process = subprocess.Popen([sys.executable, "-m", "scripts.evaluate", *arguments, str(data / "cut")])
    while len(_read_scores(data / "cut")) < 2 and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -9, "the run ended before it could be killed"
    finished = {path: path.stat().st_mtime_ns for path in _score_files(data / "cut")}
    assert 0 < len(finished) < 4

    assert main([*arguments, str(data / "cut")]) == 0
    assert main([*arguments, str(data / "whole")]) == 0
    assert all(path.stat().st_mtime_ns == time_written for path, time_written in finished.items())
    assert _read_scores(data / "cut") == _read_scores(data / "whole")
    summaries = [json.loads((data / name / "summary.json").read_text()) for name in ("cut", "whole")]
    assert summaries[0] == summaries[1] and summaries[0]["videos"] == 4


def test_ours_end_to_end(media_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = make_tiny_weights(tmp_path / "weights")
    for name in ("edtalk_1", "avec_1"):
        cut_video(media_dir / "clips" / f"{name}.mp4", tmp_path / f"{name}.mp4", start=0.4, seconds=0.6)
    (tmp_path / "pairs.csv").write_text("video,audio\nedtalk_1.mp4,avec_1.mp4\n")
    status = main(
        [
            *("--pairs", str(tmp_path / "pairs.csv"), "--method", "ours", "--out", str(tmp_path / "out")),
            *(
                "--cache",
                str(tmp_path / "cache"),
                "--job",
                f"weights.family={weights}",
                "analysis.backend=bundled",
                "runtime.device=cpu",
            ),
            *("--set", "fid.features=stand-in", "lpips=none", "identity=none", "face_backend=bundled"),
            f"sync.weights={weights / 'lipsync_expert.safetensors'}",
        ]
    )
    assert status == 0
    values = json.loads((tmp_path / "out" / "summary.json").read_text())["values"]
    assert values["frames"] == 15.0 and values["sync_tracks"] == 1.0
    assert 10.0 < values["psnr"] < 60.0  # random networks spoil the mouth and nothing else
    assert values["fid"] > 1e-4 and values["seam"] > 0.0 and values["flicker"] > 0.0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert {"dnet", "lnet", "enet"} <= set(manifest["settings"]["method"]["weights"])
    # nobody asked for a number format: figures are made in float32, whatever is fastest here
    runtime = manifest["runtime"]["method"]
    assert runtime == {"device": "cpu", "dtype": "float32"}
    assert manifest["settings"]["method"]["dtype"] == "float32"
    assert "networks on cpu in float32, measured on cpu in float32" in capsys.readouterr().out
    record = json.loads((tmp_path / "out" / "scores" / "00000.json").read_text())
    assert record["seconds"]["dub"] > 0.0 and record["seconds"]["measure"] > 0.0


def test_copying_a_talking_face_leaks_its_lips_fully(media_dir: Path, tmp_path: Path) -> None:
    cut_video(media_dir / "clips" / "edtalk_1.mp4", tmp_path / "face.mp4", start=0.4, seconds=0.6)
    (tmp_path / "pairs.csv").write_text(
        "name,video,audio\nspoken,face.mp4,face.mp4\nquiet,face.mp4,silence\n"
    )
    status = main(
        [
            *("--pairs", str(tmp_path / "pairs.csv"), "--method", "copy", "--out", str(tmp_path / "out")),
            *("--cache", str(tmp_path / "cache"), "--set", *PLAIN, "cpbd_stride=0", "flicker=false"),
        ]
    )
    assert status == 0
    values = json.loads((tmp_path / "out" / "summary.json").read_text())["values"]
    assert values["leakage"] == pytest.approx(1.0) and values["leakage_silence"] == pytest.approx(1.0)
    assert abs(values["fid"]) < 1e-3


@pytest.mark.parametrize("below", [".", "deeper"])
def test_an_output_folder_that_is_a_file_is_refused(data: Path, below: str) -> None:
    out = data / "pairs.csv" / below
    with pytest.raises(UserError, match=r"the output folder .* cannot be made: .*pairs\.csv is a file"):
        _evaluate(data, "--method", "copy", "--out", str(out))

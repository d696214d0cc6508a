from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from metric_samples import smooth_frame
from video_samples import write_video, write_wave

from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.run import Evaluation, Measures, Result
from videoretalking.evaluation.video import VideoFaces, VideoScorer
from videoretalking.metrics.cpbd import Cpbd
from videoretalking.metrics.fid import FidFeatures


class _Method:
    """Writes the source with noise drawn from PyTorch's generator; counts what it makes."""

    name = "Noisy"
    device = "cpu"

    def __init__(self, strength: float = 20.0, broken: str = "") -> None:
        self.strength = strength
        self.broken = broken
        self.made: list[str] = []

    def describe(self) -> dict[str, Any]:
        return {"strength": self.strength}

    def runtime(self) -> dict[str, str]:
        return {"device": self.device, "dtype": "float32"}

    def result(self, pair: Pair, folder: Path) -> Result:
        assert pair.audio is not None
        return Result(folder / f"{pair.name}.mkv", pair.audio)

    def dub(self, pair: Pair, video: Path) -> None:
        if pair.name == self.broken:
            raise UserError("no face in it")
        self.made.append(pair.name)
        noise = torch.randn(4, 64, 64, 3).numpy() * self.strength
        frames = np.stack([smooth_frame(64, 64, 10 * pair.index + k) for k in range(4)])
        write_video(video, list(np.clip(frames + noise, 0, 255).astype(np.uint8)))


def _faces(path: Path) -> VideoFaces:
    return VideoFaces(np.arange(4) / 25, np.zeros(4, dtype=np.int64), [None] * 4, [np.zeros((0, 4))] * 4)


def _measures() -> Measures:
    fid = FidFeatures(lambda images: images[:, :, ::16, ::16].flatten(1))
    scorer = VideoScorer([fid, Cpbd()], _faces, chunk_size=3)
    return Measures(scorer, fid, {"fid": "plain pixels"}, {"fid": "a remark"}, "cpu")


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    result = []
    for index in range(4):
        frames = [smooth_frame(64, 64, 10 * index + k) for k in range(4)]
        video = write_video(tmp_path / "data" / f"{index % 3}.mkv", frames)
        audio = write_wave(tmp_path / "data" / f"{index}.wav", np.zeros(2560, dtype=np.int16))
        result.append(Pair(index, f"p{index}", video, audio))
    return result


def _run(folder: Path, pairs: list[Pair], method: _Method) -> dict[str, Any]:
    evaluation = Evaluation(folder, method, _measures())
    for pair in pairs:
        evaluation.evaluate(pair)
    return evaluation.summarize(pairs)


def test_interrupted_run_goes_on_with_identical_numbers(tmp_path: Path, pairs: list[Pair]) -> None:
    whole = _run(tmp_path / "whole", pairs, _Method())
    assert whole["videos"] == 4 and whole["failed"] == []
    assert whole["values"]["fid"] > 0

    first, second = _Method(), _Method()
    evaluation = Evaluation(tmp_path / "cut", first, _measures())
    for pair in pairs[:2]:
        evaluation.evaluate(pair)
    (tmp_path / "cut" / "videos" / ".p2.1.partial.mkv").write_bytes(b"torn")  # what a kill leaves behind
    resumed = _run(tmp_path / "cut", pairs, second)
    assert (first.made, second.made) == (["p0", "p1"], ["p2", "p3"])
    assert resumed == whole
    assert (tmp_path / "cut" / "scores.csv").read_text() == (tmp_path / "whole" / "scores.csv").read_text()


def test_shards_in_any_order_give_the_same_table(tmp_path: Path, pairs: list[Pair]) -> None:
    whole = _run(tmp_path / "whole", pairs, _Method())
    for part in (pairs[1::2], pairs[0::2]):
        evaluation = Evaluation(tmp_path / "parts", _Method(), _measures())
        for pair in part:
            evaluation.evaluate(pair)
    assert Evaluation(tmp_path / "parts", _Method(), _measures()).summarize(pairs) == whole


def test_failures_are_recorded_and_can_be_retried(tmp_path: Path, pairs: list[Pair]) -> None:
    summary = _run(tmp_path / "out", pairs, _Method(broken="p1"))
    assert summary["failed"] == ["p1"] and summary["videos"] == 3
    record = json.loads((tmp_path / "out" / "scores" / "p1.json").read_text())
    assert record["error"] == "no face in it"
    assert _run(tmp_path / "out", pairs, _Method())["failed"] == ["p1"]
    evaluation = Evaluation(tmp_path / "out", _Method(), _measures(), retry_failed=True)
    for pair in pairs:
        evaluation.evaluate(pair)
    assert evaluation.summarize(pairs) == _run(tmp_path / "whole", pairs, _Method())


def test_a_list_that_changed_is_dubbed_anew(tmp_path: Path, pairs: list[Pair]) -> None:
    _run(tmp_path / "out", pairs, _Method())
    swapped = [replace(pairs[0], audio=pairs[1].audio), *pairs[1:]]
    method = _Method()
    _run(tmp_path / "out", swapped, method)
    assert method.made == ["p0"]  # not the dub of the former pair of this name


def test_a_changed_result_is_scored_again(tmp_path: Path, pairs: list[Pair]) -> None:
    before = _run(tmp_path / "out", pairs, _Method())
    write_video(tmp_path / "out" / "videos" / "p0.mkv", [smooth_frame(64, 64, 77 + k) for k in range(4)])
    method = _Method()
    after = _run(tmp_path / "out", pairs, method)
    assert method.made == []
    assert after["values"]["fid"] != before["values"]["fid"]


def test_other_settings_do_not_mix(tmp_path: Path, pairs: list[Pair]) -> None:
    _run(tmp_path / "out", pairs, _Method())
    with pytest.raises(UserError, match="other settings"):
        Evaluation(tmp_path / "out", _Method(strength=5.0), _measures())


def test_manifest_tells_how_to_repeat_it(tmp_path: Path, pairs: list[Pair]) -> None:
    Evaluation(tmp_path / "out", _Method(), _measures(), seed=7)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"] == {
        "method": {"strength": 20.0},
        "measures": {"fid": "plain pixels"},
        "seed": 7,
    }
    assert manifest["runtime"]["method"] == {"device": "cpu", "dtype": "float32"}
    assert set(manifest) == {"fingerprint", "settings", "runtime", "notes", "code", "environment"}
    assert "torch" in manifest["environment"] and "commit" in manifest["code"]


def test_shards_on_different_devices_are_all_named(tmp_path: Path, pairs: list[Pair]) -> None:
    there, here = _Method(), _Method()
    there.device = "cuda (Some Card)"
    for method, part in ((there, pairs[:3]), (here, pairs[3:])):
        evaluation = Evaluation(tmp_path / "out", method, _measures())
        for pair in part:
            evaluation.evaluate(pair)
    runtimes = evaluation.summarize(pairs)["runtimes"]
    assert [runtime["method"]["device"] for runtime in runtimes] == ["cuda (Some Card)", "cpu"]


def test_copying_the_source_has_no_distance(tmp_path: Path, pairs: list[Pair]) -> None:
    class Copy(_Method):
        def result(self, pair: Pair, folder: Path) -> Result:
            assert pair.audio is not None
            return Result(pair.video, pair.audio)

    assert abs(_run(tmp_path / "out", pairs[:3], Copy())["values"]["fid"]) < 1e-3


def test_summary_says_how_sure_it_is_and_which_videos_are_worst(tmp_path: Path, pairs: list[Pair]) -> None:
    summary = _run(tmp_path / "out", pairs, _Method())
    for name in ("cpbd", "fid"):
        low, high = summary["intervals"][name]
        assert low <= summary["values"][name] <= high and low < high
    assert "bootstrap" in summary["interval_method"]
    scores = {
        pair.name: json.loads((tmp_path / "out" / "scores" / f"{pair.name}.json").read_text())["values"]
        for pair in pairs
    }
    assert summary["worst"]["cpbd"] == sorted(scores, key=lambda name: scores[name]["cpbd"])
    evaluation = Evaluation(tmp_path / "out", _Method(), _measures())
    assert evaluation.videos(pairs) == scores
    timings = evaluation.timings(pairs)
    assert [frames for frames, _ in timings] == [4.0] * 4 and all(seconds > 0 for _, seconds in timings)

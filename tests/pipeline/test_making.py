"""What the manifest of a result tells, through the main job."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.making import told_settings
from videoretalking.provenance.manifest import verify_file

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]


def test_settings_are_told_without_paths() -> None:
    config = InferenceConfig()
    paths = {
        "weights": replace(
            config.weights, family="/home/anna/w", dnet="/home/anna/d", reconnet="/home/anna/r"
        ),
        "render": replace(config.render, expression="/home/anna/smile.png", restore=0.5),
        "output": replace(
            config.output, mark_key="/home/anna/k", certificate="/home/anna/c", private_key="/home/anna/p"
        ),
        "runtime": replace(config.runtime, cache_dir="/home/anna"),
    }
    told = told_settings(replace(config, **paths), "/home/anna/w")
    assert "anna" not in json.dumps(told)
    assert told["weights"] == {"family": "folder"} and told["render"]["expression"] == "file"
    assert told["render"]["restore"] == 0.5 and told["output"]["mark"] == "on"
    assert told_settings(config, "demo")["weights"]["family"] == "demo"
    assert told_settings(config, "demo")["render"]["expression"] == "neutral"


@pytest.fixture
def signed(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> tuple[Path, dict[str, str], str]:
    """A signed result, the hashes of its inputs, and what its mark says."""
    pytest.importorskip("c2pa", reason="needs c2pa-python (the extra provenance)")
    retalker = make_retalker(output={"manifest": True, "speed": "ultrafast"})
    video, speech = make_video(talking_frames), make_speech(0.28)
    report = retalker.dub(video, speech, tmp_path / "out.mp4")
    hashes = {"face": file_hash(video), "audio": file_hash(speech)}
    return tmp_path / "out.mp4", hashes, report.mark["payload"]


def test_a_result_is_signed_and_tells_inputs_weights_and_mark(
    signed: tuple[Path, dict[str, str], str],
) -> None:
    path, hashes, payload = signed
    report = verify_file(path)
    assert report.intact and not report.trusted
    assert report.making is not None
    assert report.making["inputs"] == hashes and report.making["mark"] == payload
    assert report.making["weights"] and all(len(value) == 64 for value in report.making["weights"].values())
    assert report.making["settings"]["output"]["mark"] == "on"
    assert not list(path.parent.glob(".*"))  # nothing temporary is left


def test_one_flipped_bit_of_a_result_breaks_its_manifest(signed: tuple[Path, dict[str, str], str]) -> None:
    path, _, _ = signed
    content = bytearray(path.read_bytes())
    content[content.index(b"mdat") + 100] ^= 1
    path.write_bytes(content)
    assert not verify_file(path).intact


def test_a_result_that_cannot_be_signed_stays(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise UserError("the clock is wrong")

    monkeypatch.setattr("videoretalking.pipeline.making.check_manifest", lambda *_: None)
    monkeypatch.setattr("videoretalking.pipeline.making.sign_file", refuse)
    retalker = make_retalker(output={"manifest": True, "speed": "ultrafast"})
    with pytest.raises(UserError, match="the clock is wrong; the result is there, without a manifest"):
        retalker.dub(make_video(talking_frames), make_speech(0.28), tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").is_file()

from __future__ import annotations

from pathlib import Path

import pytest
from sample_media import write_clip
from tiny_weights import make_tiny_weights

from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.evaluation.methods import (
    CopyMethod,
    FolderMethod,
    MissingWeightsError,
    RetalkerMethod,
    baseline_weights,
    driving_audio,
    make_method,
)
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.video import read_speech


def test_silence_is_as_long_as_the_video(tmp_path: Path) -> None:
    pair = Pair(0, "quiet", write_clip(tmp_path / "0.mp4", levels=range(40, 100, 10)), None)
    speech = read_speech(driving_audio(pair, tmp_path / "work"))
    assert speech is not None and not speech.any()
    assert len(speech) == pytest.approx(6 * 640, abs=640)
    longer = Pair(0, "quiet", write_clip(tmp_path / "2.mp4", levels=range(40, 100, 5)), None)
    speech = read_speech(driving_audio(longer, tmp_path / "work"))  # another video of this name
    assert speech is not None and len(speech) == pytest.approx(12 * 640, abs=640)
    assert (
        driving_audio(Pair(0, "loud", tmp_path / "0.mp4", tmp_path / "1.mp4"), tmp_path) == tmp_path / "1.mp4"
    )


def test_methods_by_name(tmp_path: Path) -> None:
    assert isinstance(make_method("copy"), CopyMethod)
    method = make_method(str(tmp_path), name="X")
    assert isinstance(method, FolderMethod) and method.name == "X"
    with pytest.raises(UserError, match="neither ours, wav2lip, wav2lip-gan, copy nor a folder"):
        make_method("nothing")


def test_baseline_takes_the_place_of_lnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videoretalking.evaluation.methods.checkpoint_folders", tuple)
    weights = make_tiny_weights(tmp_path)
    baseline = baseline_weights("lnet", {"weights.family": str(weights)})
    method = make_method("wav2lip", {"weights.family": str(weights), "weights.lnet": str(baseline)})
    assert isinstance(method, RetalkerMethod) and method.name == "Wav2Lip w/o GAN"
    render = method.config.render
    assert (render.neutralize, render.enhance, render.restore, render.pad) == (False, False, 0.0, "cut")
    assert method.describe()["weights"]["lnet"] == file_hash(weights / "lnet.safetensors")
    assert method.describe()["mark"] == "off"  # measures see what the networks made
    assert method.describe()["dtype"] == "float32"
    with pytest.raises(MissingWeightsError, match=r"needs weights wav2lip_gan\.safetensors"):
        baseline_weights("wav2lip_gan", {})


def test_the_number_format_that_runs_shapes_the_results(tmp_path: Path) -> None:
    """Figures of different formats must not meet in one folder, whether the format was asked for or chosen."""
    family = {"weights.family": str(make_tiny_weights(tmp_path)), "runtime.device": "cpu"}
    formats = {}
    for wanted in ("auto", "float32", "bfloat16"):
        method = make_method("ours", {**family, "runtime.dtype": wanted})
        formats[wanted] = method.describe()
        assert method.runtime() == {"device": "cpu", "dtype": formats[wanted]["dtype"]}
    assert (formats["float32"]["dtype"], formats["bfloat16"]["dtype"]) == ("float32", "bfloat16")
    assert formats["auto"]["dtype"] in ("float32", "bfloat16", "int8")
    assert formats["auto"] in (formats["float32"], formats["bfloat16"]) or formats["auto"]["dtype"] == "int8"


def test_results_that_are_measured_bear_no_mark_unless_asked(tmp_path: Path) -> None:
    family = {"weights.family": str(make_tiny_weights(tmp_path))}
    for name in ("ours", "wav2lip"):
        method = make_method(name, {**family, "weights.lnet": str(tmp_path / "lnet.safetensors")})
        assert isinstance(method, RetalkerMethod) and method.config.output.mark == "off"
        assert "output.mark" not in method.describe()["settings"]
    asked = make_method("ours", {**family, "output.mark": "on"})
    assert isinstance(asked, RetalkerMethod) and asked.config.output.mark == "on"
    assert asked.describe()["settings"]["output.mark"] == "on"


def test_a_setting_below_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"the setting render.pad.length is in no group: pad is a value"):
        make_method("ours", {"render.pad.length": 3})

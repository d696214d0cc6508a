"""What the command line of the main job makes sure of before the work begins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.core.locations import HOME_VARIABLE
from videoretalking.pipeline.cli import check_outputs, main, require_inputs
from videoretalking.pipeline.flags import parse


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a video, a sound and a picture (which nothing here reads)."""
    monkeypatch.chdir(tmp_path)
    for name in ("face.mp4", "speech.wav", "smile.png", "net.safetensors"):
        Path(name).write_text(name)
    return tmp_path


def check(*flags: str) -> None:
    """Check the results of a job whose inputs are there."""
    job = parse(["--face", "face.mp4", "--audio", "speech.wav", *flags])
    check_outputs(job, {"--face": "face.mp4", "--audio": "speech.wav", "--lnet-path": "net.safetensors"})


def test_all_missing_files_are_named_at_once(folder: Path) -> None:
    line = (
        "--face none.mp4 --audio none.wav --config none.yaml --lnet-path none.safetensors --exp-img none.png"
    )
    with pytest.raises(UserError) as caught:
        main([*line.split(), "--enet-path", str(folder), "--weights", "nowhere", "--dnet-path", "n" * 300])
    text = str(caught.value)
    for name in ("none.mp4", "none.wav", "none.yaml", "none.safetensors", "none.png"):
        assert f"{name} does not exist" in text
    assert f"--enet-path {folder} is a folder" in text
    assert "--weights nowhere is neither auto, official, demo nor a folder" in text
    assert "--dnet-path nnn" in text and "File name too long" in text
    assert "\n" not in text


def test_files_of_a_settings_file_are_looked_for_too(folder: Path) -> None:
    (folder / "settings.yaml").write_text("weights: {lnet: none.safetensors}\n")
    with pytest.raises(UserError, match=r"weights\.lnet none\.safetensors does not exist"):
        main(["--face", "face.mp4", "--audio", "speech.wav", "--config", "settings.yaml"])


def test_what_is_there_under_any_of_its_names_is_accepted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    official = folder / "home" / "checkpoints" / "official"
    official.mkdir(parents=True)
    (official / "enet.safetensors").write_text("")
    monkeypatch.setenv(HOME_VARIABLE, str(folder / "home"))
    files = {"--face": "examples/portrait.jpg", "--exp-img": "smile", "render.expression": "smile.png"}
    files |= {"--lnet-path": "lnet", "--enet-path": "checkpoints/official/enet.safetensors"}
    require_inputs(files, "demo")
    require_inputs(files, str(folder))


def test_results_that_would_replace_an_input_are_refused(folder: Path) -> None:
    (folder / "link.mp4").symlink_to("face.mp4")
    (folder / "sound.mp4").hardlink_to(folder / "speech.wav")
    (folder / "net.mp4").symlink_to("net.safetensors")
    for outfile, inputs in {
        "./face.mp4": "--face",
        "link.mp4": "--face",
        "sound.mp4": "--audio",
        "net.mp4": "--lnet-path",
    }.items():
        with pytest.raises(UserError, match=f"--outfile {outfile} is the same file as {inputs}"):
            check("--outfile", outfile)
    for report, name in {
        "face.mp4": "--face",
        "net.safetensors": "--lnet-path",
        "new.mp4": "--outfile",
    }.items():
        with pytest.raises(UserError, match=f"--report {report} is the same file as {name}"):
            check("--outfile", "new.mp4", "--report", report)
    assert (folder / "face.mp4").read_text() == "face.mp4" and not (folder / "new.mp4").exists()


def test_the_report_is_tried_before_the_work(folder: Path) -> None:
    check("--outfile", "new/out.mp4", "--report", "new/report.json")
    assert not list((folder / "new").iterdir())
    with pytest.raises(UserError, match="--report: new is a folder"):
        check("--outfile", "new/out.mp4", "--report", "new")
    with pytest.raises(UserError, match=r"--report speech\.wav/report\.json cannot be written"):
        check("--outfile", "new/out.mp4", "--report", "speech.wav/report.json")
    (folder / "jobs.csv").write_text("face,audio,outfile\nface.mp4,speech.wav,out.mp4\n")
    with pytest.raises(UserError, match=r"--report smile\.png is no folder"):
        main(["--batch", "jobs.csv", "--report", "smile.png"])


def test_suffix_codec_and_quality_must_fit(folder: Path) -> None:
    for flags, words in (
        (["--outfile", "x.gif"], "unknown container '.gif'"),
        (["--outfile", "x"], "unknown container ''"),
        (["--outfile", "x.webm"], "h264 video goes into .mp4"),
        (["--outfile", "x.mp4", "--codec", "ffv1"], "ffv1 video goes into .mkv"),
        (["--outfile", "x.mp4", "--codec", "hevc", "--quality", "52"], "hevc takes 0"),
    ):
        with pytest.raises(UserError, match=words):
            check(*flags)
    check("--outfile", "x.webm", "--codec", "vp9", "--quality", "52")


def test_keys_and_certificates_are_tried_before_the_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "bad.key").write_text("no digits")
    for flags, words in (
        (["--mark-key", "bad.key"], "holds no hexadecimal digits"),
        (["--certificate", "smile.png"], "belong together"),
        (["--certificate", "smile.png", "--private-key", "smile.png"], "give --manifest too"),
        (["--manifest", "--certificate", "smile.png", "--private-key", "smile.png"], "no PEM file"),
    ):
        with pytest.raises(UserError, match=words):
            check("--outfile", "x.mp4", *flags)
    check("--outfile", "x.mp4", "--mark", "off", "--mark-key", "bad.key")  # nobody reads it
    monkeypatch.setitem(sys.modules, "c2pa", None)
    with pytest.raises(UserError, match=r"pip install \"videoretalking\[provenance\]\""):
        check("--outfile", "x.mp4", "--manifest")


def test_a_container_without_room_for_a_manifest_is_refused(folder: Path) -> None:
    pytest.importorskip("c2pa", reason="needs c2pa-python (the extra provenance)")
    check("--outfile", "x.mp4", "--manifest")
    with pytest.raises(UserError, match=r"x\.mkv: this format holds no manifest"):
        check("--outfile", "x.mkv", "--manifest")

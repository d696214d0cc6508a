"""The command that looks for marks: JSON and exit status."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from media_clips import noise_bursts, picture, write_wav

from videoretalking.core.errors import UserError
from videoretalking.media.images import load_image, save_image
from videoretalking.provenance.keys import PUBLIC_KEY, load_key
from videoretalking.provenance.manifest import Making, sign_file
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video import VideoMark
from videoretalking.scripts import detect_marks


@pytest.fixture
def marked(tmp_path: Path) -> Path:
    path = tmp_path / "marked.png"
    save_image(path, VideoMark(PUBLIC_KEY, Payload(7)).apply(picture(300, 300)))
    return path


def test_found_is_status_0(marked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect_marks.main([str(marked)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["key"] == "public"
    (file,) = answer["files"]
    assert file["found"] and file["video"]["job"] == "000000000007" and file["video"]["p_value"] < 1e-9


def test_not_found_is_status_1(marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image(tmp_path / "plain.png", picture(300, 300))
    assert detect_marks.main([str(marked), str(tmp_path / "plain.png")]) == 1
    assert [file["found"] for file in json.loads(capsys.readouterr().out)["files"]] == [True, False]


def test_unreadable_is_status_2_and_hides_no_other_file(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert detect_marks.main([str(tmp_path / "gone.mp4"), str(marked)]) == 2
    gone, found = json.loads(capsys.readouterr().out)["files"]
    assert "does not exist" in gone["error"] and found["found"]
    with pytest.raises(UserError, match="give a file"):
        detect_marks.main([])


def test_a_key_of_ones_own(marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "studio.key"
    assert detect_marks.main(["--new-key", str(key)]) == 0
    assert load_key(key).name == "studio" and key.stat().st_mode & 0o077 == 0
    with pytest.raises(UserError, match="exists"):
        detect_marks.main(["--new-key", str(key)])
    assert detect_marks.main([str(marked), "--key", str(key)]) == 1
    assert json.loads(capsys.readouterr().out)["key"] == "studio"


def test_a_sheet_shows_every_file_that_can_be_read(
    marked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = tmp_path / "new" / "sheet.jpg"
    assert detect_marks.main([str(marked), str(tmp_path / "gone.mp4"), "--sheet", str(sheet)]) == 2
    drawn = load_image(sheet)
    assert drawn.shape[1] == 1200 and drawn.shape[0] > 300
    for name, words in (("sheet.gif", "ends in .png"), ("marked.png", "same file as file 1")):
        with pytest.raises(UserError, match=words):
            detect_marks.main([str(marked), "--sheet", str(tmp_path / name)])


def test_the_manifest_is_told_too(
    marked: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "c2pa", None)
        told = detect_marks.read_manifest(marked)
    assert "videoretalking[provenance]" in told["not_checked"]
    assert detect_marks.read_manifest(Path("any.mkv")) == {"present": False}
    pytest.importorskip("c2pa", reason="needs c2pa-python (the extra provenance)")
    assert detect_marks.read_manifest(marked) == {"present": False}
    sign_file(marked, marked, Making(mark=Payload(7).text))
    assert detect_marks.main([str(marked)]) == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert file["manifest"]["intact"] and not file["manifest"]["trusted"]
    assert file["manifest"]["making"]["mark"] == file["video"]["payload"]


def test_sound_is_told_by_pieces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = write_wav(tmp_path / "plain.wav", noise_bursts(16000, 1.0), 16000)
    assert detect_marks.main([str(wav)]) == 1
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert "video" not in file and "manifest" in file
    (piece,) = file["audio"]["pieces"]
    assert (piece["start"], piece["end"]) == (0.0, 1.0)

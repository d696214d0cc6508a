"""The command that looks for marks: JSON and exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from media_clips import picture

from videoretalking.core.errors import UserError
from videoretalking.media.images import save_image
from videoretalking.provenance.keys import PUBLIC_KEY, load_key
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

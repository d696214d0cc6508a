"""What is measured was not trained on: LRS2's test list, and the manifest of a training."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from sample_media import write_clip

from videoretalking.core.errors import UserError
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.evaluation.draw import find_videos
from videoretalking.evaluation.hygiene import check_disjoint
from videoretalking.evaluation.lrs2 import lrs2_test_clips, lrs2_videos
from videoretalking.evaluation.pairs import Pair
from videoretalking.evaluation.reproduction import PRESETS, Preset, Reproduction

PAPER_SIZED = Preset(4, None, 2, 2.0, 2, 25)  # whole videos, as the paper's, but few


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", range(20, 120, 4))


@pytest.fixture
def lrs2(tmp_path: Path, clip: Path) -> Path:
    """Three splits of two broadcasts each, without lists."""
    for broadcast in ("11", "12", "21", "22", "31", "32"):
        for number in ("00001", "00002"):
            path = tmp_path / "mvlrs_v1" / "main" / broadcast / f"{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(clip, path)
    return tmp_path / "mvlrs_v1"


def _pairs(root: Path, out: Path, preset: Preset = PAPER_SIZED, file_list: Path | None = None) -> list[Pair]:
    return Reproduction(out, preset, EvaluationConfig(), 0, {}).pairs("LRS2", root, file_list)


@pytest.mark.parametrize("root", [".", "main"])
def test_pairs_of_lrs2_come_from_its_test_list(lrs2: Path, tmp_path: Path, root: str) -> None:
    (tmp_path / "test.txt").write_text("31/00001 NF\n31/00002 MV\n32/00001 NF\n32/00002 NF\n")
    pairs = _pairs(lrs2 / root, tmp_path / "out")
    assert len(pairs) == 4
    for pair in pairs:
        assert pair.audio is not None
        assert {pair.video.parent.name, pair.audio.parent.name} == {"31", "32"}


def test_lrs2_without_its_test_list_is_refused(lrs2: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"test\.txt is neither in .*--lrs2-list"):
        _pairs(lrs2 / "main", tmp_path / "out")
    assert PRESETS["paper"].lrs2_seconds is None  # so that the paper's preset is what this refuses
    (tmp_path / "pairs.txt").write_text("31/00001 32/00001\n")
    (pair,) = _pairs(lrs2, tmp_path / "out", file_list=tmp_path / "pairs.txt")
    assert pair.video == lrs2 / "main/32/00001.mp4"
    # a try-out on two seconds of any folder needs no list, but uses one that is there
    assert len(_pairs(lrs2 / "main", tmp_path / "mini", Preset(2, 0.5, 2, 0.5, 2, 10))) == 2
    (lrs2 / "test.txt").write_text("31/00001\n32/00001\n")
    tried = _pairs(lrs2, tmp_path / "mini2", Preset(2, 0.5, 2, 0.5, 2, 10))
    assert {pair.video.stem for pair in tried} == {"31_00001", "32_00001"}


def test_test_clips_that_are_not_there_are_counted(lrs2: Path, caplog: pytest.LogCaptureFixture) -> None:
    (lrs2 / "test.txt").write_text("31/00001\n99/00001\n")
    with caplog.at_level(logging.WARNING):
        assert lrs2_test_clips(lrs2) == [lrs2_videos(lrs2) / "31/00001.mp4"]
    assert "1 of 2 clips" in caplog.text
    (lrs2 / "test.txt").write_text("99/00001\n")
    with pytest.raises(UserError, match="no clip that"):
        lrs2_test_clips(lrs2)


def test_raw_videos_beside_cut_clips_of_hdtf_are_not_drawn(tmp_path: Path, clip: Path) -> None:
    (tmp_path / "_videos_raw").mkdir()
    for name in ("WRA_BobCorker_000.mp4", "_videos_raw/WRA_BobCorker.mp4"):
        shutil.copyfile(clip, tmp_path / name)
    assert find_videos(tmp_path) == [tmp_path / "WRA_BobCorker_000.mp4"]


MANIFEST = """clip,split,identity,num_frames,release_training
55/00001/000,train,55,50,no
56/00007/000,train,train_56,50,no
pretrain/57/00001_000/000,train,57,50,no
_videos_raw/WRA_RandPaul2_001/000,val,WRA_RandPaul,50,no
train/id10005#Wx#000001#000090/000,train,id10005,50,no
anna/talk/000,train,anna,50,yes
anna/talk/001,val,anna~later,50,yes
61/00004/000,test,61,50,no
00009/000,train,00009,50,no
"""


@pytest.mark.parametrize(
    ("file", "shared"),
    [
        ("mvlrs_v1/main/55/00001.mp4", "55/00001"),
        ("mvlrs_v1/main/55/00099.mp4", "55"),  # another clip of the broadcast
        ("mvlrs_v1/main/56/00001.mp4", "56"),
        ("mvlrs_v1/main/57/00003.mp4", "57"),
        ("out/lrs2/clips/55_00001.mp4", "55_00001"),
        ("out/lrs2/clips/55_00044.mp4", "55"),
        ("HDTF/WRA_RandPaul2_001.mp4", "WRA_RandPaul2_001"),
        ("HDTF/WRA_RandPaul0_000.mp4", "WRA_RandPaul"),
        ("out/hdtf/clips/out_WRA_RandPaul0_000.mp4", "WRA_RandPaul"),
        ("vox/test/id10005#Zz#000007#000099.mp4", "id10005"),
        ("pairs/clips/test_id10005#Zz#000007#000099.mp4", "id10005"),
        ("people/anna/other.mp4", "anna"),
        ("people/anna.mp4", "anna"),
    ],
)
def test_a_clip_or_person_on_both_sides_is_named(tmp_path: Path, file: str, shared: str) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(MANIFEST)
    fine = Path("mvlrs_v1/main/61/00004.mp4")
    for pair in (
        Pair(0, "a", Path(file), fine),
        Pair(0, "a", fine, Path(file)),
        Pair(0, "a", Path(file), None),
    ):
        with pytest.raises(UserError, match=rf"share {shared} \(1 of"):
            check_disjoint([pair], manifest)


def test_what_was_not_trained_on_passes(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_text(MANIFEST)
    files = [
        "mvlrs_v1/main/61/00004.mp4",
        "mvlrs_v1/main/62/00001.mp4",
        "mvlrs_v1/main/62/00009.mp4",  # a bare number that is a person elsewhere
        "HDTF/WRA_BobCorker_000.mp4",
        "HDTF/RD_Radio34_000.mp4",
        "vox/test/id10280#Wx#000001#000090.mp4",
    ]
    check_disjoint([Pair(0, "a", Path(file), None) for file in files], manifest)


def test_at_most_three_are_named_in_one_line(tmp_path: Path) -> None:
    rows = [f"b{number}/00001/000,train,p{number},50,yes\n" for number in range(5)]
    (tmp_path / "manifest.csv").write_text(MANIFEST.splitlines(keepends=True)[0] + "".join(rows))
    pairs = [Pair(0, "a", Path(f"corpus/b{number}/00001.mp4"), None) for number in range(5)]
    with pytest.raises(UserError) as caught:
        check_disjoint(pairs, tmp_path / "manifest.csv")
    message = str(caught.value)
    assert sum(f"b{number}/00001" in message for number in range(5)) == 3 and "\n" not in message


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        check_disjoint([], tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="clip"):
        check_disjoint([], tmp_path / "other.csv")

"""The corpora as their publishers leave them, with what goes wrong in real copies of them."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts.preprocess.layouts.base import LayoutOptions, Source
from videoretalking.scripts.preprocess.layouts.lrs2 import speech_stretches
from videoretalking.scripts.preprocess.sources import (
    LAYOUTS,
    add_layout_options,
    layout_options,
    list_sources,
    read_sources,
    write_sources,
)

VOX_HEADER = "video_id,start,end,bbox,fps,width,height,partition,person_id\n"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(layout: str, root: Path, **options: object) -> dict[str, Source]:
    found = list_sources(layout, root, options=LayoutOptions(**options))  # type: ignore[arg-type]
    assert len({source.name for source in found}) == len(found)
    return {source.name: source for source in found}


# ---------------------------------------------------------------------------------------- VoxCeleb


def test_voxceleb_by_the_metadata_of_the_first_order_motion_model(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "vox-metadata.csv").write_text(
        "\ufeff" + VOX_HEADER + "-aB_9xyzQ12,100,250,624-48-1018-553,25,1280,720,train,id10005\n"
        "-aB_9xyzQ12,100,250,624-48-1018-553,25,1280,720,train,id10005\n"  # the same again
        "CutAlready1,7,93,0-0-320-318,25,480,360,test,id10280\n"
        "GoneFromYT2,10,90,10-10-100-100,25,640,360,train,id10006\n"
        "-aB_9xyzQ12,300,200,1-1-2-2,25,1280,720,train,id10005\n"  # ends before it starts
        "-aB_9xyzQ12,300,400,oops,25,1280,720,train,id10005\n"
        "-aB_9xyzQ12\n",
        encoding="utf-8",
    )
    touch(tmp_path, "youtube/-aB_9xyzQ12.mp4", "youtube/unlisted123.mp4")
    touch(tmp_path, "vox/test/id10280#CutAlready1#000007#000093.mp4", "vox/test/.half.mp4")
    with caplog.at_level(logging.WARNING):
        found = listed("voxceleb", tmp_path)
    assert sorted(found) == [
        "test/id10280#CutAlready1#000007#000093",
        "train/id10005#-aB_9xyzQ12#000100#000250",
    ]
    raw = found["train/id10005#-aB_9xyzQ12#000100#000250"]
    assert (raw.identity, raw.split, raw.start, raw.end) == ("id10005", "train", 4.0, 10.0)
    assert raw.path == tmp_path / "youtube/-aB_9xyzQ12.mp4"
    # a copy of half the resolution: the box shrinks with the frame
    region = raw.region_in(360)
    assert region is not None and region == pytest.approx([312, 24, 509, 276.5], abs=1e-2)
    cut = found["test/id10280#CutAlready1#000007#000093"]
    assert (cut.end, cut.region, cut.split) == (0.0, "", "test")
    for reason in ("1 left out, without a video", "1 left out, repeated", "3 left out, malformed"):
        assert reason in caplog.text


def test_voxceleb_finds_its_list_or_says_what_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, "raw/CCygVo0iPvw.mp4")
    with pytest.raises(UserError, match=r"no speaker.*vox-metadata\.csv"):
        listed("voxceleb", tmp_path / "raw")
    lists = tmp_path / "lists" / "vox-metadata.csv"
    lists.parent.mkdir()
    with pytest.raises(UserError, match="holds no vox-metadata"):
        listed("voxceleb", tmp_path / "raw", lists=lists.parent)
    lists.write_text(VOX_HEADER + "CCygVo0iPvw,0,50,1-1-9-9,25,12,10,train,id10004\n")
    for place in (lists, lists.parent):
        assert len(listed("voxceleb", tmp_path / "raw", lists=place)) == 1
    # the list that the cutting program writes itself has no column for the person
    lists.write_text(
        "bbox,start,end,fps,video_id,height,width,partition\n1-1-9-9,0,50,25,CCygVo0iPvw#id10004,10,12,test\n"
    )
    (only,) = listed("voxceleb", tmp_path / "raw", lists=lists).values()
    assert (only.identity, only.split) == ("id10004", "test")
    lists.write_text(VOX_HEADER + "Elsewhere99,0,50,1-1-9-9,25,12,10,train,id10004\n")
    with pytest.raises(UserError, match=r"no span .* can be read; 1 without a video"):
        listed("voxceleb", tmp_path / "raw", lists=lists)
    lists.write_text("id,start\n1,2\n")
    with pytest.raises(UserError, match="needs the columns"):
        listed("voxceleb", tmp_path / "raw", lists=lists)


def test_voxceleb_cut_into_pictures_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/id10001#abc#000001#000065.mp4/0000000.png")
    with pytest.raises(UserError, match=r"--format \.mp4"):
        listed("voxceleb", tmp_path)


# -------------------------------------------------------------------------------------------- LRS2


def lrs2(root: Path, lists: Path) -> Path:
    """``root/mvlrs_v1`` with lists in ``lists``: test clips carry marks, one file is missing, one line repeats."""
    main = root / "mvlrs_v1" / "main"
    touch(
        main, "5535415699068794046/00001.mp4", "5535415699068794046/00002.mp4", "61/00004.mp4", "7/00001.mp4"
    )
    touch(main, "99/00001.mp4")  # in no list
    lists.mkdir(parents=True, exist_ok=True)
    clip = "5535415699068794046/0000"
    (lists / "train.txt").write_text(f"\ufeff{clip}1\n{clip}2\n{clip}1\n404/00001\n\n", encoding="utf-8")
    (lists / "val.txt").write_text("7/00001.mp4\r\n")
    (lists / "test.txt").write_text("61/00004 NF\nmain/61/00005 MV\n")
    return root / "mvlrs_v1"


@pytest.mark.parametrize("place", ["mvlrs_v1", ".", "mvlrs_v1/main", "mvlrs_v1/filelists", "filelists"])
@pytest.mark.parametrize("root", ["mvlrs_v1", "mvlrs_v1/main"])
def test_lrs2_lists_are_found_where_people_put_them(tmp_path: Path, place: str, root: str) -> None:
    lrs2(tmp_path, tmp_path / place)
    found = listed("lrs2", tmp_path / root)
    assert {name: source.split for name, source in found.items()} == {
        "5535415699068794046/00001": "train",
        "5535415699068794046/00002": "train",
        "7/00001": "val",
        "61/00004": "test",
    }
    assert found["61/00004"].identity == "61"


def test_lrs2_lists_elsewhere_by_option_and_what_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = lrs2(tmp_path, tmp_path / "agreement")
    with pytest.raises(UserError, match=r"list train\.txt is not in .*--lists"):
        listed("lrs2", root)
    with caplog.at_level(logging.WARNING):
        assert len(listed("lrs2", root, lists=tmp_path / "agreement")) == 4
    assert "2 left out, not below" in caplog.text and "404/00001" in caplog.text
    (tmp_path / "agreement" / "val.txt").write_text("7/00001/00002\n")
    with pytest.raises(UserError, match=r"val\.txt, line 1"):
        listed("lrs2", root, lists=tmp_path / "agreement")
    (tmp_path / "agreement" / "val.txt").write_text("\n")
    with pytest.raises(UserError, match="names no clip"):
        listed("lrs2", root, lists=tmp_path / "agreement")


def test_lrs2_without_its_clips_is_an_error(tmp_path: Path) -> None:
    root = lrs2(tmp_path, tmp_path)
    (root / "main").rename(root / "other")
    (root / "main").mkdir()
    with pytest.raises(UserError, match=r"no clip of LRS2's lists.*6 not below"):
        listed("lrs2", root)


def test_a_broadcast_that_two_lists_share_counts_as_two_people(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = lrs2(tmp_path, tmp_path)
    (tmp_path / "val.txt").write_text("5535415699068794046/00002\n")
    with caplog.at_level(logging.WARNING):
        found = listed("lrs2", root)
    assert "1 broadcasts are in more than one list" in caplog.text
    assert found["5535415699068794046/00002"].split == "train"  # listed twice, taken once
    assert found["5535415699068794046/00001"].identity == "train_5535415699068794046"


PRETRAIN = """Text:  A WORD AND THEN A LONG PAUSE
Conf:  4

WORD START END ASDSCORE
A 0.10 0.40 5.5
WORD 0.45 1.20 7.1
AND 1.90 2.00 7.1
THEN 5.00 5.40 -2.0
A 6.10 6.60 1.0
PAUSE 9.00 9.10 1.0
"""


def test_stretches_of_speech_end_at_pauses() -> None:
    assert speech_stretches(PRETRAIN) == [(0.0, 2.2), (4.8, 6.8)]  # the last word alone makes no second
    for broken in ("", "Text:  NO TABLE\n"):
        with pytest.raises(ValueError, match="no times of words"):
            speech_stretches(broken)
    for broken in ("A 1.0", "A 2.0 1.0", "A -1 2"):
        with pytest.raises(ValueError, match="no word with its times"):
            speech_stretches(f"WORD START END ASDSCORE\n{broken}\n")


def test_lrs2_pretrain_by_its_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = lrs2(tmp_path, tmp_path)
    with pytest.raises(UserError, match="--pretrain needs"):
        listed("lrs2", root, pretrain=True)
    touch(root, "pretrain/8/00001.mp4", "pretrain/8/00002.mp4", "pretrain/61/00009.mp4")
    for clip in ("8/00001", "61/00009"):
        (root / f"pretrain/{clip}.txt").write_text(PRETRAIN)
    with caplog.at_level(logging.WARNING):
        found = listed("lrs2", root, pretrain=True)
    new = {name: (source.start, source.end) for name, source in found.items() if name.startswith("pretrain")}
    assert new == {"pretrain/8/00001_000": (0.0, 2.2), "pretrain/8/00001_001": (4.8, 6.8)}
    assert {found[name].split for name in new} == {"train"}
    assert "of broadcasts that validate or test, such as 61/00009" in caplog.text
    assert "without readable times of words, such as 8/00002" in caplog.text
    (tmp_path / "pretrain.txt").write_text("8/00001\n8/00003\n")
    assert len(listed("lrs2", root, pretrain=True)) == 6
    assert not any(name.startswith("pretrain") for name in listed("lrs2", root))


# -------------------------------------------------------------------------------------------- HDTF


def hdtf_lists(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "WRA_annotion_time.txt").write_text(
        "\ufeffRandPaul2.mp4 00:01-04:25 1:04:25-1:09:30 \nBobCorker.mp4 00:05-00:50 00:50\n"
        "MittRomney.mp4 08:10-08:30 00:33-08:53",
        encoding="utf-8",
    )
    (folder / "WRA_crop_wh.txt").write_text(
        "RandPaul2_0.mp4 514 882 0 882\nRandPaul2_1.mp4 563 828 8 828\nBobCorker_0.mp4 413 466 5 466\n"
        "MittRomney_0.mp4 614 964 0 964\nBroken_0.mp4 1 2\n"
    )
    (folder / "WRA_resolution.txt").write_text("RandPaul2.mp4 1080\nBobCorker.mp4 0\nMittRomney.mp4 1080\n")
    (folder / "RD_annotion_time.txt").write_text("Radio34.mp4 00:02-00:30 00:40-00:50\n")


def test_hdtf_of_the_usual_downloader_is_read_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    hdtf_lists(tmp_path / "HDTF_dataset")
    touch(tmp_path, "out/WRA_RandPaul2_000.mp4", "out/WRA_RandPaul2_001.mp4", "out/Radio34_0.mp4")
    touch(
        tmp_path, "out/RD_Radio34_000.mp4", "out/_videos_raw/WRA_RandPaul2.mp4", "out/_videos_raw/x_log.txt"
    )
    touch(tmp_path, "out/_videos_raw/WRA_BobCorker.mp4", "out/_videos_raw/WRA_MittRomney.mp4")
    touch(tmp_path, "out/_videos_raw/WRA_Unlisted7.mp4", "out/_videos_raw/RD_Radio34.mp4")
    with caplog.at_level(logging.WARNING):
        found = listed("hdtf", tmp_path / "out")
    assert sorted(found) == [
        "RD_Radio34_000",
        "WRA_RandPaul2_000",
        "WRA_RandPaul2_001",
        "_videos_raw/WRA_BobCorker_000",
        "_videos_raw/WRA_MittRomney_000",
    ]
    assert found["RD_Radio34_000"].identity == "RD_Radio34"
    assert found["WRA_RandPaul2_001"].identity == "WRA_RandPaul" and not found["WRA_RandPaul2_001"].end
    romney = found["_videos_raw/WRA_MittRomney_000"]
    assert (romney.start, romney.end, romney.identity) == (490.0, 510.0, "WRA_MittRomney")
    region = romney.region_in(720)  # the best version on offer has another size than the list's
    assert region is not None
    assert region == pytest.approx(np.array([614, 0, 614 + 964, 964]) * 720 / 1080, abs=0.01)
    assert found["_videos_raw/WRA_BobCorker_000"].region == ""  # the list does not know its resolution
    for reason in (
        "2 left out, raw videos whose clips are there",
        "1 left out, clips that are there under two names",
        "1 left out, raw videos without a line",
        "1 left out, malformed stretches, such as WRA_BobCorker 00:50",
        "1 left out, stretches without a square",
    ):
        assert reason in caplog.text


def test_hdtf_raw_in_any_folder_by_lists_elsewhere(tmp_path: Path) -> None:
    hdtf_lists(tmp_path / "lists")
    touch(tmp_path, "raw/WRA/RandPaul2.mp4", "raw/Radio34.mp4")
    with pytest.raises(UserError, match=r"can be read; 2 raw videos without a line.*--lists"):
        listed("hdtf", tmp_path / "raw")
    found = listed("hdtf", tmp_path / "raw", lists=tmp_path / "lists")
    assert sorted(found) == ["Radio34_000", "Radio34_001", "WRA/RandPaul2_000", "WRA/RandPaul2_001"]
    assert found["WRA/RandPaul2_001"].identity == "WRA_RandPaul"
    assert found["WRA/RandPaul2_001"].start == 3865.0
    assert found["Radio34_001"].identity == "RD_Radio34" and found["Radio34_001"].region == ""


# ------------------------------------------------------------------------------------------ common


def test_names_of_all_languages_and_regions_survive_the_file(tmp_path: Path) -> None:
    names = ["Žofie/à la carte 3.mp4", "李娜/说话#1.mp4", "Ωμέγα.MP4"]
    touch(tmp_path / "videos", *names)
    sources = [*listed("folder", tmp_path / "videos").values()]
    sources[0] = Source(**{**sources[0].__dict__, "region": "0.1 0 1.25 0.9"})
    write_sources(tmp_path, sources)
    back = {source.name: source for source in read_sources(tmp_path)}
    assert back == {source.name: source for source in sources}
    assert {source.identity for source in sources} == {"Žofie", "李娜", "Ωμέγα"}


def test_lists_written_before_regions_are_still_read(tmp_path: Path) -> None:
    write_sources(tmp_path, [Source("a", Path("/v/a.mp4"), "anna")])
    path = tmp_path / "sources.csv"
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [{k: v for k, v in row.items() if k != "region"} for row in csv.DictReader(handle)]
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    assert read_sources(tmp_path) == [Source("a", Path("/v/a.mp4"), "anna")]


def test_options_are_checked(tmp_path: Path) -> None:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    add_layout_options(parser)
    assert layout_options(parser.parse_args([])) == LayoutOptions()
    with pytest.raises(UserError, match="does not exist"):
        layout_options(parser.parse_args(["--lists", str(tmp_path / "nowhere")]))


def test_140_000_names_take_seconds(tmp_path: Path) -> None:
    """Linear in the names: a seventh of the largest corpus within a seventh of ten seconds, with a margin of 2."""
    rows = [VOX_HEADER]
    for index in range(20_000):
        person, video = f"id{10_000 + index // 100}", f"video{index // 20:06d}"
        rows.append(
            f"{video},{index % 20 * 100},{index % 20 * 100 + 90},1-2-300-300,25,640,360,train,{person}\n"
        )
    (tmp_path / "vox-metadata.csv").write_text("".join(rows))
    touch(tmp_path, *(f"youtube/video{index:06d}.mp4" for index in range(1000)))
    start = time.process_time()
    assert len(list(LAYOUTS["voxceleb"](tmp_path, LayoutOptions()))) == 20_000
    assert time.process_time() - start < 2 * 10.0 / 7

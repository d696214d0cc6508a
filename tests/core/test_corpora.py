from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from videoretalking.core.corpora import (
    find_lrs2_list,
    hdtf_person,
    lrs2_root,
    plain_person,
    read_lrs2_list,
    voxceleb_speaker,
)
from videoretalking.core.errors import UserError


@pytest.mark.parametrize(
    ("stem", "person"),
    [
        ("WRA_RandPaul2_001", "WRA_RandPaul"),
        ("WRA_RandPaul2", "WRA_RandPaul"),
        ("WDA_TerriSewell_000", "WDA_TerriSewell"),
        ("WDA_LucilleRoybal-Allard_000", "WDA_LucilleRoybal-Allard"),
        ("WDA_WhipJimClyburn_000", "WDA_JamesClyburn"),  # one man under two names
        ("RD_Radio34_002", "RD_Radio34"),
        ("Radio34_002", "Radio34"),
        ("RandPaul2_1", "RandPaul"),
    ],
)
def test_people_of_hdtf(stem: str, person: str) -> None:
    assert hdtf_person(stem) == person


def test_people_of_voxceleb_and_of_manifests() -> None:
    assert voxceleb_speaker(PurePosixPath("train/id10280#NXjT3732Ekg#001093#001192")) == "id10280"
    assert voxceleb_speaker(PurePosixPath("mp4/id00012/21Uxsk56VDQ/00001")) == "id00012"
    assert voxceleb_speaker(PurePosixPath("video/id1/x")) == ""
    assert plain_person("anna~later") == "anna"
    assert plain_person("train_6330311066473698535") == "6330311066473698535"
    assert plain_person("train_station") == "train_station"


def test_lrs2_is_named_by_any_of_its_folders(tmp_path: Path) -> None:
    base = tmp_path / "lrs2" / "mvlrs_v1"
    (base / "main").mkdir(parents=True)
    (base / "pretrain").mkdir()
    for root in (base, base / "main", base / "pretrain", base.parent):
        assert lrs2_root(root) == base
    assert lrs2_root(tmp_path) == tmp_path
    assert find_lrs2_list(base, "test") is None
    (base.parent / "test.txt").write_text("1/00001 NF\n\n1/00002 MV\n1/00001\n")
    found = find_lrs2_list(base / "main", "test")
    assert found is not None and read_lrs2_list(found) == ["1/00001", "1/00002"]
    with pytest.raises(UserError, match="cannot read"):
        read_lrs2_list(tmp_path / "absent.txt")
    found.write_text("../../etc/passwd\n")
    with pytest.raises(UserError, match="line 1"):
        read_lrs2_list(found)

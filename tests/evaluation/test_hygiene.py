from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.evaluation.hygiene import check_disjoint
from videoretalking.evaluation.pairs import Pair

HEADER = "clip,split,identity,num_frames,release_training\n"


def _pairs(*names: str) -> list[Pair]:
    files = [Path("corpus") / f"{name}.mp4" for name in names]
    return [
        Pair(index, f"{index:05d}", file, files[(index + 1) % len(files)]) for index, file in enumerate(files)
    ]


def _manifest(folder: Path, *rows: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(HEADER + "".join(f"{row},50,yes\n" for row in rows))
    return path


def test_a_shared_clip_and_a_shared_person_are_named(tmp_path: Path) -> None:
    manifest = _manifest(
        tmp_path, "b1/00001/000,train,train_b1", "x/000,val,WRA_Person", "b9/00001/000,test,t"
    )
    check_disjoint(_pairs("b2/00001", "b9/00001"), manifest)
    with pytest.raises(UserError, match="b1/00001"):
        check_disjoint(_pairs("b2/00001", "b1/00001"), manifest)
    with pytest.raises(UserError, match="WRA_Person"):
        check_disjoint(_pairs("b2/00001", "WRA_Person"), manifest)


def test_at_most_three_are_named_in_one_line(tmp_path: Path) -> None:
    manifest = _manifest(tmp_path, *(f"b{number}/00001/000,train,p{number}" for number in range(5)))
    with pytest.raises(UserError) as caught:
        check_disjoint(_pairs(*(f"b{number}/00001" for number in range(5))), manifest)
    message = str(caught.value)
    assert sum(f"b{number}/00001" in message for number in range(5)) == 3 and "\n" not in message


def test_what_is_no_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        check_disjoint(_pairs("a", "b"), tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match="clip"):
        check_disjoint(_pairs("a", "b"), tmp_path / "other.csv")

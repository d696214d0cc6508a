from __future__ import annotations

import time
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.scripts.preprocess.sources import (
    ORIGIN,
    Source,
    list_sources,
    read_sources,
    renew_sources,
    write_sources,
)


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _listed(layout: str, root: Path) -> dict[str, Source]:
    return {source.name: source for source in list_sources(layout, root)}


def test_folder_takes_the_first_folder_or_the_file_as_person(tmp_path: Path) -> None:
    _touch(tmp_path, "anna/a.mp4", "anna/more/b.MOV", "ben.avi", "notes.txt", "face.jpg")
    found = _listed("folder", tmp_path)
    assert {name: source.identity for name, source in found.items()} == {
        "anna/a": "anna",
        "anna/more/b": "anna",
        "ben": "ben",
        "face": "face",
    }
    assert found["face"].is_still and not found["ben"].is_still


def test_table_reads_rights_and_leaves_out_sound(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text(
        "file,identity,split,license,release_training\n"
        "clips/a.mp4,anna,dev,MIT,yes\nclips/b.mp4,ben,val,none,no\naudio/c.wav,carl,dev,MIT,yes\n"
    )
    found = _listed("table", tmp_path)
    assert sorted(found) == ["clips/a", "clips/b"]
    assert found["clips/a"].release_training and found["clips/a"].split == ""
    assert not found["clips/b"].release_training and found["clips/b"].split == "val"
    (tmp_path / "manifest.csv").write_text("path\nx.mp4\n")
    with pytest.raises(UserError, match="file and identity"):
        _listed("table", tmp_path)
    (tmp_path / "manifest.csv").write_text("file,identity,release_training\na.mp4,anna\n\nb.mp4\n")
    found = _listed("table", tmp_path)  # lines that end early
    assert sorted(found) == ["a"] and not found["a"].release_training
    (tmp_path / "manifest.csv").write_bytes(b"file,identity\n\xff.mp4,anna\n")
    with pytest.raises(UserError, match="no table of text"):
        _listed("table", tmp_path)


def test_voxceleb_in_both_shapes(tmp_path: Path) -> None:
    _touch(tmp_path, "mp4/id00012/21Uxsk56VDQ/00001.mp4", "test/id10280#NXjT3732Ekg#001093#001192.mp4")
    found = _listed("voxceleb", tmp_path)
    assert found["mp4/id00012/21Uxsk56VDQ/00001"].identity == "id00012"
    cut = found["test/id10280#NXjT3732Ekg#001093#001192"]
    assert (cut.identity, cut.split) == ("id10280", "test")
    _touch(tmp_path, "stranger.mp4")
    with pytest.raises(UserError, match="no speaker"):
        _listed("voxceleb", tmp_path)


def test_a_work_folder_serves_one_data_set(tmp_path: Path) -> None:
    _touch(tmp_path / "a", "x.mp4")
    _touch(tmp_path / "b", "x.mp4")
    work = tmp_path / "work"
    renew_sources(work, "folder", tmp_path / "a")
    _touch(tmp_path / "a", "y.mp4")
    assert [source.name for source in renew_sources(work, "folder", tmp_path / "a")] == ["x", "y"]
    assert [source.name for source in read_sources(work)] == ["x", "y"]
    with pytest.raises(
        UserError, match=r"work was made from --layout folder --root .*/a: give another folder"
    ):
        renew_sources(work, "folder", tmp_path / "b")
    with pytest.raises(UserError, match="--layout folder"):
        renew_sources(work, "hdtf", tmp_path / "a")
    (work / ORIGIN).unlink()  # the remedy that the message names
    renew_sources(work, "folder", tmp_path / "b")
    assert len(read_sources(work)) == 1


def test_a_hundred_and_forty_thousand_names_take_seconds(tmp_path: Path) -> None:
    sources = [Source(f"{n // 50:05d}/{n:06d}", tmp_path / f"{n}.mp4", str(n // 50)) for n in range(140_000)]
    begin = time.process_time()
    write_sources(tmp_path, sources)
    assert len(read_sources(tmp_path)) == 140_000
    assert time.process_time() - begin < 10.0


def test_sources_survive_the_file(tmp_path: Path) -> None:
    sources = [
        Source("b/x", Path("/v/x.mp4"), "ben", "val", "CC BY, 4.0", True, 1.5, 3.25),
        Source("a", Path("/v/a.mp4"), "anna"),
    ]
    write_sources(tmp_path, sources)
    assert read_sources(tmp_path) == sources[::-1]
    with pytest.raises(UserError, match="share the name"):
        write_sources(tmp_path, [*sources, sources[0]])
    with pytest.raises(UserError, match="no videos"):
        write_sources(tmp_path, [])
    with pytest.raises(UserError, match=r"run scripts\.preprocess\.sources"):
        read_sources(tmp_path / "elsewhere")

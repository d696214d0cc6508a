from __future__ import annotations

import logging
import time
from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.datasets.clips import META, ClipMeta, ClipWriter
from videoretalking.datasets.manifest import ManifestEntry, read_manifest, write_manifest
from videoretalking.datasets.synthetic import write_synthetic_clip
from videoretalking.scripts.preprocess.sources import Source, write_sources
from videoretalking.scripts.preprocess.splits import SplitConfig, choose_split, collect, run


def test_given_split_wins_then_names_then_rights() -> None:
    config = SplitConfig(val=("anna",), test=("ben",), release_only=True)
    assert choose_split("train", "anna", True, config) == "train"
    assert choose_split("", "anna", True, config) == "val"
    assert choose_split("", "ben", False, config) == "test"
    assert choose_split("", "carl", False, config) == "val"
    assert choose_split("", "carl", True, config) == "train"


def test_drawn_splits_depend_on_the_name_only_and_keep_their_shares() -> None:
    config = SplitConfig(val_share=0.2, test_share=0.1)
    splits = {f"id{i}": choose_split("", f"id{i}", True, config) for i in range(1000)}
    assert splits == {name: choose_split("", name, True, config) for name in splits}
    counts = [list(splits.values()).count(split) for split in ("train", "val", "test")]
    assert counts == pytest.approx([700, 200, 100], abs=45)


def test_collect_lists_finished_clips_only(tmp_path: Path) -> None:
    write_synthetic_clip(tmp_path / "clips/a/000", seed=1, num_frames=6)
    write_synthetic_clip(tmp_path / "clips/a/001", seed=1, num_frames=8)
    (tmp_path / "clips/b/000").mkdir(parents=True)  # unfinished: no meta.json
    sources = [Source("clips/a", Path("a.mp4"), "face1"), Source("clips/b", Path("b.mp4"), "b")]
    write_manifest(tmp_path, collect(tmp_path, sources, SplitConfig()))
    listed = read_manifest(tmp_path)
    assert [(entry.clip, entry.num_frames) for entry in listed] == [("clips/a/000", 6), ("clips/a/001", 8)]
    with pytest.raises(UserError, match="no finished clip"):
        collect(tmp_path, sources, SplitConfig(), rejected={"clips/a"})
    with pytest.raises(UserError, match="no source"):
        collect(tmp_path, sources[1:], SplitConfig())


def _finish(root: Path, clip: str, identity: str, num_frames: int = 50) -> None:
    """A clip of which the splits see everything they look at."""
    ClipWriter(root / clip).finish(
        ClipMeta(identity, num_frames, 8, 8, (0.0, 0.0, 8.0, 8.0), "drawn", "", release_training=True)
    )


def _collect(root: Path, people: dict[str, str], config: SplitConfig, clips: int = 1) -> list[ManifestEntry]:
    """Entries of a corpus of some people, each with the split that the corpus gives it."""
    sources = []
    for person, split in people.items():
        sources.append(Source(person, Path(f"{person}.mp4"), person, split))
        for index in range(clips):
            _finish(root, f"{person}/{index:03d}", person)
    return collect(root, sources, config)


def _splits(entries: list[ManifestEntry]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in entries:
        found.setdefault(entry.split, []).append(entry.identity)
    return found


def test_a_corpus_without_validation_takes_it_from_its_training_people(tmp_path: Path) -> None:
    people = {f"id{10000 + i}": "train" for i in range(60)} | {f"id{10270 + i}": "test" for i in range(5)}
    config = SplitConfig(val_share=0.1, test_share=0.3, test=("id10000",))
    splits = _splits(_collect(tmp_path, people, config))
    assert len(splits["test"]) == 5  # the corpus decides who tests
    assert 2 <= len(splits["val"]) <= 12 and len(splits["train"]) + len(splits["val"]) == 60
    again = {entry.identity: entry.split for entry in _collect(tmp_path / "more", people, config)}
    assert again == {
        entry.identity: entry.split
        for entry in _collect(tmp_path / "yet", dict(reversed(people.items())), config)
    }


def test_a_corpus_with_its_own_validation_is_left_alone(tmp_path: Path) -> None:
    people = {"a": "train", "b": "train", "c": "val", "d": "test"}
    splits = _splits(_collect(tmp_path, people, SplitConfig(val_share=0.9)))
    assert splits == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("given", ["", "train"])
@pytest.mark.parametrize("count", [2, 3])
def test_two_people_always_train_and_validate(
    tmp_path: Path, share: float, given: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    people = {f"person {index}": given for index in range(count)}
    with caplog.at_level(logging.WARNING):
        splits = _splits(_collect(tmp_path, people, SplitConfig(val_share=share)))
    assert set(splits) == {"train", "val"} and sum(map(len, splits.values())) == count
    if share in (0.0, 1.0):
        assert "nobody was drawn for split" in caplog.text


def test_whoever_validates_alone_has_a_clip_that_can_be_used(tmp_path: Path) -> None:
    people = [f"person {index}" for index in range(8)]
    for person in people[1:]:
        _finish(tmp_path, f"{person}/000", person, num_frames=1)
    _finish(tmp_path, "person 0/000", "person 0")
    entries = collect(tmp_path, [Source(p, Path(p), p) for p in people], SplitConfig())
    assert _splits(entries)["val"] == ["person 0"]


def test_one_person_alone_is_split_by_time(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        entries = _collect(tmp_path, {"anna": ""}, SplitConfig(val_share=0.3), clips=5)
    assert [(entry.clip, entry.split, entry.identity) for entry in entries] == [
        ("anna/000", "train", "anna"),
        ("anna/001", "train", "anna"),
        ("anna/002", "train", "anna"),
        ("anna/003", "val", "anna~later"),
        ("anna/004", "val", "anna~later"),
    ]
    write_manifest(tmp_path, entries)  # whose reader refuses one person on both sides
    assert len(read_manifest(tmp_path)) == 5
    assert "anna is the only person: the last 2 of 5 clips validate" in caplog.text
    entries = _collect(tmp_path, {"anna": ""}, SplitConfig(val_share=0.0), clips=2)
    assert _splits(entries)["val"] == ["anna~later"]


def test_one_clip_alone_trains_and_the_remedy_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        entries = _collect(tmp_path, {"anna": ""}, SplitConfig(val_share=1.0))
    assert _splits(entries) == {"train": ["anna"]}
    assert "loop.validate_every=0" in caplog.text and "--max-seconds" in caplog.text


def test_a_corpus_of_test_clips_alone_needs_no_other_side(tmp_path: Path) -> None:
    assert _splits(_collect(tmp_path, {"a": "test", "b": "test"}, SplitConfig())) == {"test": ["a", "b"]}


def test_many_clips_are_split_in_linear_time(tmp_path: Path) -> None:
    """140,000 clips within ten seconds of one core: here a fortieth, with a margin of 3."""
    people = [f"id{10000 + index}" for index in range(350)]
    sources = [
        Source(f"{person}/{video}", Path("x"), person, "train") for person in people for video in range(10)
    ]
    _finish(tmp_path, "one", "NAME")
    meta = (tmp_path / "one" / META).read_text()
    for source in sources:
        (tmp_path / "out" / source.name / "000").mkdir(parents=True)
        (tmp_path / "out" / source.name / "000" / META).write_text(meta.replace("NAME", source.identity))
    write_sources(tmp_path / "work", sources)
    start = time.process_time()
    run(tmp_path / "work", tmp_path / "out", SplitConfig(val_share=0.05))
    assert time.process_time() - start < 3 * 10.0 / 40
    assert {entry.split for entry in read_manifest(tmp_path / "out")} == {"train", "val"}

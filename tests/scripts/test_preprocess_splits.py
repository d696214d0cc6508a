from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.datasets.manifest import read_manifest, write_manifest
from videoretalking.datasets.synthetic import write_synthetic_clip
from videoretalking.scripts.preprocess.sources import Source
from videoretalking.scripts.preprocess.splits import SplitConfig, choose_split, collect


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

from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.errors import UserError
from videoretalking.evaluation.pairs import Pair, read_pairs, shard, write_pairs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("s1/00001", "s1/00002", "s2/00001", "s3/00009"):
        path = tmp_path / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "talk.wav").touch()
    return tmp_path


def test_csv_round_trip(root: Path) -> None:
    pairs = [
        Pair(0, "first", root / "s1/00001.mp4", root / "talk.wav"),
        Pair(1, "quiet", root / "s2/00001.mp4", None),
    ]
    write_pairs(root / "pairs.csv", pairs, root)
    assert (root / "pairs.csv").read_text().splitlines()[1:] == [
        "first,s1/00001.mp4,talk.wav",
        "quiet,s2/00001.mp4,silence",
    ]
    assert read_pairs(root / "pairs.csv") == pairs


def test_lists_of_lrs2_name_the_sound_first(root: Path) -> None:
    (root / "lrs2.txt").write_text("s2/00001 s1/00002\ns1/00001 s3/00009\n")
    first, second = read_pairs(root / "lrs2.txt", root)
    assert (first.name, first.video, first.audio) == ("00000", root / "s1/00002.mp4", root / "s2/00001.mp4")
    assert (second.index, second.video) == (1, root / "s3/00009.mp4")


def test_lists_of_resynced_name_the_video_first(root: Path) -> None:
    (root / "random.txt").write_text("s1/00001.mp4 talk.wav\n")
    (pair,) = read_pairs(root / "random.txt", root)
    assert (pair.video, pair.audio) == (root / "s1/00001.mp4", root / "talk.wav")
    (root / "dubbed.txt").write_text("s1/00001.mp4\n")
    (pair,) = read_pairs(root / "dubbed.txt", root)
    assert pair.video == pair.audio == root / "s1/00001.mp4"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("video,audio\ns1/00001.mp4,nowhere.wav\n", "nowhere.wav does not exist"),
        ("video,audio\ns1/00001.mp4\n", "line 2: needs the columns"),
        ("name,video,audio\nx,s1/00001.mp4,talk.wav\nx,s2/00001.mp4,talk.wav\n", "'x' occurs more than once"),
        ("name,video,audio\n../x,s1/00001.mp4,talk.wav\n", "cannot be a file name"),
        ("a b c\n", "line 1: expected two names"),
    ],
)
def test_malformed_lists_are_named(root: Path, text: str, message: str) -> None:
    (root / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        read_pairs(root / "list.csv", root)


def test_lists_without_header_need_a_root(root: Path) -> None:
    (root / "lrs2.txt").write_text("s2/00001 s1/00002\n")
    with pytest.raises(UserError, match="--data-root"):
        read_pairs(root / "lrs2.txt")
    with pytest.raises(UserError, match="cannot read"):
        read_pairs(root / "missing.txt")


def test_shards_cover_the_list_once() -> None:
    pairs = [Pair(index, str(index), Path("v"), None) for index in range(10)]
    parts = [shard(pairs, number, 3) for number in (1, 2, 3)]
    assert sorted(pair.index for part in parts for pair in part) == list(range(10))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    with pytest.raises(UserError, match="shard 4/3"):
        shard(pairs, 4, 3)

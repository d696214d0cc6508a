from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sample_media import write_clip

from videoretalking.core.errors import UserError
from videoretalking.evaluation import draw
from videoretalking.evaluation.draw import cut_video, draw_pairs, find_videos, make_pair_list
from videoretalking.evaluation.pairs import read_pairs
from videoretalking.media.audio import load_waveform
from videoretalking.media.reader import VideoReader
from videoretalking.scripts.make_pairs import main


def _levels(path: Path) -> list[int]:
    with VideoReader(path) as video:
        return [int(frame.image.mean().round()) for frame in video]


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for index in range(3):
        write_clip(
            folder / f"speaker{index}" / "clip.mp4", levels=range(20, 220, 4), frequency=300 + 200 * index
        )
    (folder / "notes.txt").write_text("not a video")
    (folder / "broken.mp4").write_bytes(b"not a video either")
    return folder


def test_cut_keeps_picture_and_sound_together(videos: Path, tmp_path: Path) -> None:
    source = videos / "speaker0" / "clip.mp4"
    cut_video(source, tmp_path / "cut.mp4", start=0.4, seconds=1.0)
    assert _levels(tmp_path / "cut.mp4") == pytest.approx(_levels(source)[10:35], abs=2)
    wave, part = load_waveform(source), load_waveform(tmp_path / "cut.mp4")
    expected = wave[6400 : 6400 + 16000]
    assert abs(len(part) - 16000) <= 1200
    middle = slice(2000, 14000)
    assert np.corrcoef(part[middle], expected[middle])[0, 1] > 0.95


def test_list_is_drawn_cut_and_kept(videos: Path, tmp_path: Path) -> None:
    path = make_pair_list(videos, tmp_path / "out", num_pairs=4, seconds=1.0, seed=1, group="folder")
    pairs = read_pairs(path)
    assert len(pairs) == 4
    for pair in pairs:
        assert pair.audio is not None and pair.audio != pair.video
        assert len(_levels(pair.video)) == 25
    text = path.read_text()
    path.write_text(text + "\n")
    make_pair_list(videos, tmp_path / "out", num_pairs=4, seconds=1.0, seed=1, group="folder")
    assert path.read_text() == text + "\n"  # not drawn again
    with pytest.raises(
        UserError, match=r"drawn with num_pairs 4, not 2, seed 1, not 9: choose another --out"
    ):
        make_pair_list(videos, tmp_path / "out", num_pairs=2, seconds=1.0, seed=9, group="folder")
    again = make_pair_list(videos, tmp_path / "again", num_pairs=4, seconds=1.0, seed=1, group="folder")
    assert again.read_text() == text


def test_a_drawing_that_was_stopped_goes_on_as_it_began(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(draw, "write_pairs", stop)  # after all clips are cut
        with pytest.raises(KeyboardInterrupt):
            make_pair_list(videos, tmp_path, num_pairs=4, seconds=1.0, seed=1, group="folder")
    with pytest.raises(UserError, match="seed 1, not 2"):
        make_pair_list(videos, tmp_path, num_pairs=4, seconds=1.0, seed=2, group="folder")


def test_videos_must_be_long_enough(videos: Path) -> None:
    assert len(find_videos(videos, 1.5)) == 3
    with pytest.raises(UserError, match="at least 5 s"):
        find_videos(videos, 5.0)
    with pytest.raises(UserError, match="does not exist"):
        find_videos(videos / "nowhere")


def _speaker(path: Path) -> str:
    return path.parent.name


def test_drawing_is_reproducible_even_and_unpaired() -> None:
    videos = [Path(f"s{speaker}/{clip}.mp4") for speaker in range(4) for clip in range(3)]
    pairs = draw_pairs(videos, 40, seed=5, group=_speaker)
    assert pairs == draw_pairs(reversed(videos), 40, seed=5, group=_speaker)
    assert pairs != draw_pairs(videos, 40, seed=6, group=_speaker)
    assert len({(pair.video, pair.audio) for pair in pairs}) == 40
    assert all(pair.audio is not None and _speaker(pair.video) != _speaker(pair.audio) for pair in pairs)
    counts = Counter(pair.video for pair in pairs)
    assert set(counts.values()) == {3, 4}
    assert [pair.name for pair in pairs[:2]] == ["00000", "00001"]


def test_drawing_knows_its_limits() -> None:
    videos = [Path("s1/a.mp4"), Path("s1/b.mp4"), Path("s2/c.mp4")]
    assert len(draw_pairs(videos, 4, seed=0, group=_speaker)) == 4
    with pytest.raises(UserError, match="allow 4"):
        draw_pairs(videos, 5, seed=0, group=_speaker)


def test_command_line(videos: Path, tmp_path: Path) -> None:
    main(["--videos", str(videos), "--out", str(tmp_path / "out"), "--num", "2", "--group", "folder"])
    pairs = read_pairs(tmp_path / "out" / "pairs.csv")
    assert len(pairs) == 2
    assert all(videos in pair.video.parents for pair in pairs)  # without --seconds nothing is cut

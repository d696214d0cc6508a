from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from tiny_weights import make_tiny_weights

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError
from videoretalking.core.locations import bundled
from videoretalking.media.images import load_image, save_image
from videoretalking.media.video import VideoInfo, VideoReader, VideoWriter
from videoretalking.scripts.make_contact_sheet import contact_sheet, main, network_sheet

LEVELS = (20, 60, 100, 140, 180, 220)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Six plain frames, each brighter than the one before."""
    still = tmp_path / "still.png"
    save_image(still, np.zeros((32, 64, 3), np.uint8))
    info = replace(VideoReader(still).info, fps=Fraction(25), time_base=Fraction(1, 25), is_still=False)
    path = tmp_path / "levels.mp4"
    with VideoWriter(path, info) as writer:
        for index, level in enumerate(LEVELS):
            writer.write(np.full((32, 64, 3), level, np.uint8), index / 25, 1 / 25)
    return path


def test_frames_are_evenly_spaced_and_in_order(video: Path) -> None:
    sheet = contact_sheet(video, rows=1, columns=3, width=32)
    assert sheet.shape == (16, 96, 3)
    shown = [sheet[:, 32 * column : 32 * column + 32].mean() for column in range(3)]
    np.testing.assert_allclose(shown, [LEVELS[0], LEVELS[2], LEVELS[5]], atol=3)


def test_short_videos_leave_black_places(video: Path) -> None:
    sheet = contact_sheet(video, rows=2, columns=4, width=32)
    assert sheet[16:, 64:].max() == 0
    assert abs(sheet[16:, 32:64].mean() - LEVELS[5]) <= 3


def test_command_writes_beside_the_video(video: Path) -> None:
    main([str(video), "--rows", "1", "--columns", "2", "--width", "32"])
    assert load_image(video.with_suffix(".png")).shape == (16, 64, 3)
    with pytest.raises(UserError, match=r"none\.mp4"):
        main(["none.mp4"])


@pytest.mark.parametrize("flag", [["--rows", "0"], ["--columns", "0"], ["--width", "-4"]])
def test_a_sheet_without_pixels_is_refused(flag: list[str]) -> None:
    with pytest.raises(UserError, match=rf"{flag[0]}: must be at least 1, is {flag[1]}"):
        main(["any.mp4", *flag])


def write_video(path: Path, frames: list[Image8]) -> str:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, VideoInfo(width, height, fps=Fraction(25)), codec="ffv1") as writer:
        for index, frame in enumerate(frames):
            writer.write(frame, index / 25, 1 / 25)
    return str(path)


def test_the_sheet_of_a_batch_shows_each_network_between_source_and_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = make_tiny_weights(tmp_path)
    speech = bundled("examples") / "speech.wav"
    with VideoReader(bundled("examples") / "speaker.mp4") as reader:
        frames = [frame.image for frame, _ in zip(reader, range(6), strict=False)]
    face = write_video(tmp_path / "face.mkv", frames)
    inverse = write_video(tmp_path / "dub.mkv", [255 - frame for frame in frames])
    jobs = tmp_path / "jobs.csv"
    jobs.write_text(f"face,audio,outfile\n{face},{speech},{inverse}\n")
    sheet = network_sheet(jobs, str(weights), 2, 64).astype(np.float64)
    assert sheet.shape == (64, 2 * 6 * 64, 3)
    for moment in (sheet[:, : 6 * 64], sheet[:, 6 * 64 :]):
        source, dnet, lnet, enet, result, mouths = np.split(moment, 6, axis=1)
        # below the name of the result, which is written into the first tile
        np.testing.assert_allclose(result[20:], 255 - source[20:], atol=2)
        np.testing.assert_allclose(mouths[32:], 255 - mouths[:32], atol=2)
        seen = [source[20:], dnet[20:], lnet[20:], enet[20:]]
        different = [np.abs(one - other).mean() for one, other in itertools.combinations(seen, 2)]
        assert min(different) > 0.5  # random networks change every picture
    assert np.abs(sheet[:, : 6 * 64] - sheet[:, 6 * 64 :]).max() > 5  # two moments
    plain = write_video(tmp_path / "plain.mkv", [np.zeros_like(frames[0])] * 3)
    jobs.write_text(f"face,audio,outfile\n{plain},{speech},{inverse}\n")
    with pytest.raises(UserError, match=r"plain\.mkv: no face was found"):
        network_sheet(jobs, str(weights), 1, 64)


def test_a_video_or_a_batch_is_wanted(video: Path) -> None:
    for arguments in ([], [str(video), "--batch", "jobs.csv"]):
        with pytest.raises(UserError, match="name a video, or with --batch a list of jobs"):
            main(arguments)

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.media.images import load_image, save_image
from videoretalking.media.video import VideoReader, VideoWriter
from videoretalking.scripts.make_contact_sheet import contact_sheet, main

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

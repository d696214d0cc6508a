from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from video_samples import write_video

from videoretalking.core.errors import UserError
from videoretalking.media.video import VideoReader
from videoretalking.scripts.compare import main


def _plain(level: int) -> np.ndarray:
    return np.full((32, 48, 3), level, np.uint8)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A source of three frames, a result of five that shows them forwards and backwards."""
    source = write_video(tmp_path / "source.mkv", [_plain(level) for level in (20, 40, 60)])
    result = write_video(tmp_path / "result.mkv", [_plain(level) for level in (120, 140, 160, 140, 120)])
    path = tmp_path / "report.json"
    frames = [{"source": number} for number in (0, 1, 2, 1, 0)]
    path.write_text(json.dumps({"face": str(source), "outfile": str(result), "frames": frames}))
    return path


def test_each_result_stands_beside_the_source_frame_it_shows(report: Path) -> None:
    main([str(report)])
    with VideoReader(report.with_name("report_comparison.mp4")) as reader:
        frames = [frame.image for frame in reader]
        times = reader.info.duration
    assert len(frames) == 5 and times == pytest.approx(0.2, abs=0.01)
    for frame, level in zip(frames, (20, 40, 60, 40, 20), strict=True):
        assert frame.shape == (32, 96, 3)
        assert abs(frame[:, :40].mean() - level) < 3 and abs(frame[:, 56:].mean() - level - 100) < 3


def test_what_is_no_report_and_results_over_inputs_are_refused(report: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text("[]")
    with pytest.raises(UserError, match="no report of a dub"):
        main([str(other)])
    with pytest.raises(UserError, match="cannot read"):
        main([str(tmp_path / "none.json")])
    with pytest.raises(UserError, match="same file as result"):
        main([str(report), "--outfile", str(tmp_path / "result.mkv")])

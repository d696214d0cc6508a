"""A mark in a part of the frame is found there, and nowhere in a frame without one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from media_clips import picture

from videoretalking.media.images import save_image
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.pieces import read_pieces
from videoretalking.provenance.sheet import agreement
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.provenance.video_windows import detect_in_windows


def test_a_marked_mouth_is_found_where_it_is(tmp_path: Path) -> None:
    plain = picture(640, 480)
    mask = np.zeros((480, 640), np.float32)
    mask[240:400, 320:480] = 1.0
    path = tmp_path / "mouth.png"
    save_image(path, VideoMark(PUBLIC_KEY, Payload(11)).apply(plain, mask))
    second = detect_in_windows(path, quiet=True)
    assert second is not None
    found, box = second
    assert found.payload == Payload(11) and len(found.pieces) == 1
    assert box.left < 0.6 < box.right and box.top < 0.65 < box.bottom
    whole = detect_video(path, quiet=True)
    assert found.log10_p < whole.log10_p - 10  # which is what the second look is for
    ((heat, _),) = agreement(list(read_pieces(path)), found, PUBLIC_KEY, box)
    y, x = np.unravel_index(int(heat.argmax()), heat.shape)
    assert 240 <= y / heat.shape[0] * 480 <= 400 and 320 <= x / heat.shape[1] * 640 <= 480


@pytest.mark.parametrize("side", [400, 120])
def test_a_frame_without_a_mark_has_none(tmp_path: Path, side: int) -> None:
    save_image(tmp_path / "plain.png", picture(side, side))
    assert detect_in_windows(tmp_path / "plain.png", quiet=True) is None

"""The sheet shows where a mark is, over the frame and over time, however the picture was changed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from media_clips import picture, write_clip

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.media.images import save_image
from videoretalking.provenance.audio_search import AudioDetection
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.pieces import read_pieces
from videoretalking.provenance.sheet import WIDTH, agreement, draw_sheet
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import VideoDetection, detect_video

MARK = VideoMark(PUBLIC_KEY, Payload(5))
SIDE = 400


def half_marked() -> Image8:
    """Marked in the left half only."""
    mask = np.zeros((SIDE, SIDE), np.float32)
    mask[:, : SIDE // 2] = 1.0
    return MARK.apply(picture(SIDE, SIDE), mask)


def look(image: Image8, path: Path) -> tuple[VideoDetection, Floats32]:
    """What the detector says about a picture, and how far its pixels agree."""
    save_image(path, image)
    found = detect_video(path, PUBLIC_KEY, quiet=True)
    pieces = list(read_pieces(path))
    ((deviations, to_map),) = agreement(pieces, found, PUBLIC_KEY)
    size = pieces[0].mean.shape[::-1]
    return found, cv2.warpAffine(deviations, to_map, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)


def changed(image: Image8, change: str) -> Image8:
    """The picture after it was marked, with its marked half still on the left."""
    if change == "cropped and smaller":
        return cv2.resize(image[20:, 30:], None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA)
    if change == "turned":
        return cv2.warpAffine(image, cv2.getRotationMatrix2D((200, 200), 2.0, 1.0), (SIDE, SIDE))
    return np.ascontiguousarray(image[::-1])  # mirrored, and on its head


@pytest.mark.parametrize("change", ["cropped and smaller", "turned", "flipped"])
def test_marked_places_glow_and_others_do_not(tmp_path: Path, change: str) -> None:
    found, heat = look(changed(half_marked(), change), tmp_path / "half.png")
    assert found.found
    width = heat.shape[1]
    margin = width // 8
    marked, unmarked = heat[:, margin : width // 2 - margin], heat[:, width // 2 + margin : -margin]
    assert np.median(marked) > 5.0
    assert np.abs(np.median(unmarked)) < 2.0


def test_pieces_of_a_video_and_its_sound_are_drawn(tmp_path: Path) -> None:
    path = tmp_path / "half.mp4"
    plain = picture(256, 256)
    frames = [MARK.apply(plain)] * 8 + [plain] * 8
    write_clip(path, frames, [index / 4 for index in range(16)], 0.25, fps=4, crf=4, preset="ultrafast")
    found = detect_video(path, PUBLIC_KEY, quiet=True)
    assert [piece.log10_p < -9 for piece in found.pieces] == [True, False]
    heard = AudioDetection(True, Payload(5), -300.0, 0.0, 1.0, ((0.0, 2.0, -60.0), (2.0, 2.0, -1.0)))
    sheet = draw_sheet(path, PUBLIC_KEY, found, heard).astype(int)
    assert sheet.shape[1:] == (WIDTH, 3)
    color = np.ptp(sheet[80:560], axis=2)  # thumbnails alone
    assert np.median(color[:, 100:400]) > 30 > 10 > np.median(color[:, 600:900])
    bars = sheet[-70]
    assert bars[200, 0] > 200 and bars[900, 0] < 60


def test_a_file_without_a_mark_stays_gray_and_a_sound_needs_no_picture(tmp_path: Path) -> None:
    save_image(tmp_path / "plain.png", picture(200, 300))
    found = detect_video(tmp_path / "plain.png", PUBLIC_KEY, quiet=True)
    sheet = draw_sheet(tmp_path / "plain.png", PUBLIC_KEY, found, None).astype(int)
    assert np.ptp(sheet[80:-30, 20:480], axis=2).max() <= 6
    heard = AudioDetection(False, None, 0.0, 0.0, 1.0, ((0.0, 2.0, 0.0),))
    assert draw_sheet("\u97f3.wav", PUBLIC_KEY, None, heard).shape[1] == WIDTH

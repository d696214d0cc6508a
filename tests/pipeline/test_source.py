from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.media.video import VideoReader
from videoretalking.pipeline import source

FRAMES = [np.full((16, 16, 3), 10 * index, np.uint8) for index in range(8)]


@pytest.mark.parametrize(
    "order",
    [
        list(range(8)),
        [0, 0, 0],
        [0, 1, 2, 3, 4, 5, 6, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2],
        [0, 1, 2, 0, 1, 2],
        [7, 7, 6, 6, 7],
        [3, 5, 2],
    ],
)
@pytest.mark.parametrize("buffered", [2, 100])
def test_any_order(
    order: list[int], buffered: int, make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_BUFFER_BYTES", buffered * 16 * 16 * 3)
    with VideoReader(make_video(FRAMES)) as reader:
        shades = [int(image[0, 0, 0]) // 10 for image in source.frames_in_order(reader, np.array(order))]
    assert shades == order


def test_backwards_costs_one_decoding_of_each_stretch(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, size = 120, 16
    monkeypatch.setattr(source, "_BUFFER_BYTES", 10 * size * size * 3)
    decoded = []
    original = VideoReader._decodable

    def counted(*arguments):  # type: ignore[no-untyped-def]
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, "_decodable", counted)
    order = np.array([*range(count), *range(count - 2, -1, -1)])
    with VideoReader(
        make_video([np.full((size, size, 3), index, np.uint8) for index in range(count)])
    ) as reader:
        shades = [int(image[0, 0, 0]) for image in source.frames_in_order(reader, order)]
    assert shades == order.tolist()
    assert len(decoded) < 4 * count  # from the start each time it would be 7 * count


def test_a_video_that_lost_frames_is_refused(make_video: Callable[..., Path]) -> None:
    with VideoReader(make_video(FRAMES)) as reader, pytest.raises(UserError, match="no frame 8"):
        list(source.frames_in_order(reader, np.arange(9)))

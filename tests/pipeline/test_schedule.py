from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from videoretalking.core.errors import UserError
from videoretalking.media import picture as picture_module
from videoretalking.media.video import VideoReader
from videoretalking.pipeline import schedule as schedule_module
from videoretalking.pipeline.schedule import Decoder, frames_in_order, make_schedule

TIMES = np.arange(5) * 0.04
FRAMES = [np.full((16, 16, 3), 10 * index, np.uint8) for index in range(8)]


def test_equal_lengths_keep_every_frame_at_its_own_time() -> None:
    schedule = make_schedule(TIMES, 0.04, 0.2, "pingpong")
    assert schedule.frames.tolist() == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(schedule.times, TIMES)
    assert schedule.duration == pytest.approx(0.2)


@pytest.mark.parametrize("audio", [0.181, 0.2, 0.219])
def test_rounding_of_containers_adds_or_drops_no_frame(audio: float) -> None:
    for pad in ("loop", "cut"):
        assert len(make_schedule(TIMES, 0.04, audio, pad)) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pad", "tail"),
    [
        ("loop", [0, 1, 2, 3, 4, 0, 1]),
        ("pingpong", [3, 2, 1, 0, 1, 2, 3]),
        ("hold", [4] * 7),
        ("cut", []),
    ],
)
def test_longer_speech(pad: str, tail: list[int]) -> None:
    schedule = make_schedule(TIMES, 0.04, 0.48, pad)  # type: ignore[arg-type]
    assert schedule.frames.tolist() == [0, 1, 2, 3, 4, *tail]
    np.testing.assert_allclose(schedule.times, np.arange(len(schedule)) * 0.04)


def test_shorter_speech_keeps_the_picture_unless_cut() -> None:
    assert len(make_schedule(TIMES, 0.04, 0.1, "hold")) == 5
    assert make_schedule(TIMES, 0.04, 0.12, "cut").frames.tolist() == [0, 1, 2]
    assert len(make_schedule(TIMES, 0.04, 0.001, "cut")) == 1


def test_variable_frame_rate_keeps_its_times_and_repeats_its_durations() -> None:
    times = np.array([0.0, 0.04, 0.34, 0.46])
    schedule = make_schedule(times, 0.12, 1.0, "loop")
    np.testing.assert_allclose(schedule.times, [0.0, 0.04, 0.34, 0.46, 0.58, 0.62, 0.92])
    assert schedule.frames.tolist() == [0, 1, 2, 3, 0, 1, 2]


def test_a_late_picture_keeps_its_times_and_the_speech_starts_at_0() -> None:
    late = TIMES + 0.4  # ends at 0.6
    for pad in ("loop", "pingpong", "hold", "cut"):
        schedule = make_schedule(late, 0.04, 0.6, pad)  # type: ignore[arg-type]
        np.testing.assert_array_equal(schedule.times, late)
        assert schedule.duration == pytest.approx(0.6)
    assert make_schedule(late, 0.04, 0.48, "cut").frames.tolist() == [0, 1]
    longer = make_schedule(late, 0.04, 0.68, "loop")
    assert longer.frames.tolist() == [0, 1, 2, 3, 4, 0, 1]
    np.testing.assert_allclose(longer.times, np.arange(10, 17) * 0.04)


def test_a_still_image_lasts_as_long_as_the_speech() -> None:
    for pad in ("loop", "pingpong", "hold", "cut"):
        schedule = make_schedule(np.full(1, 0.5), 0.04, 1.0, pad)  # type: ignore[arg-type]
        assert schedule.frames.tolist() == [0] * 25
        assert schedule.times[0] == 0.0
        assert schedule.times[-1] == pytest.approx(0.96)


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
    monkeypatch.setattr(schedule_module, "_BUFFER_BYTES", buffered * 16 * 16 * 3)
    with VideoReader(make_video(FRAMES)) as reader:
        shades = [int(picture.image[0, 0, 0]) // 10 for picture in frames_in_order(reader, np.array(order))]
    assert shades == order


def test_backwards_costs_one_decoding_of_each_stretch(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    count, size = 120, 16
    monkeypatch.setattr(schedule_module, "_BUFFER_BYTES", 10 * size * size * 3)
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
        shades = [int(picture.image[0, 0, 0]) for picture in frames_in_order(reader, order)]
    assert shades == order.tolist()
    assert len(decoded) < 4 * count  # from the start each time it would be 7 * count


def test_a_video_that_lost_frames_is_refused(make_video: Callable[..., Path]) -> None:
    with VideoReader(make_video(FRAMES)) as reader, pytest.raises(UserError, match="no frame 8"):
        list(frames_in_order(reader, np.arange(9)))


def test_frames_that_are_passed_over_are_not_converted(
    make_video: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    converted = []
    original = picture_module.frame_to_rgb

    def counted(*arguments, **options):  # type: ignore[no-untyped-def]
        converted.append(1)
        return original(*arguments, **options)

    monkeypatch.setattr(picture_module, "frame_to_rgb", counted)
    with VideoReader(make_video(FRAMES)) as reader:
        decoder = Decoder(reader)
        held = decoder.frame(5)
        assert decoder.frame(5) is held and not converted
        assert int(held.image[0, 0, 0]) == 50 and held.image is held.image
        assert int(decoder.frame(2).image[0, 0, 0]) == 20
    assert len(converted) == 2

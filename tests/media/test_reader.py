from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from media_clips import noise_bursts, picture, psnr, read, write_clip, write_raw, write_wav

from videoretalking.core.errors import UserError
from videoretalking.media.images import save_image
from videoretalking.media.reader import _Clock
from videoretalking.media.video import VideoReader


def planar(images: list[np.ndarray], pixel_format: str) -> list[av.VideoFrame]:
    return [
        av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixel_format) for image in images
    ]


def test_facts_and_times_of_a_plain_clip(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, [picture(64, 48, seed) for seed in range(6)], [i / 10 for i in range(6)], 0.1,
               fps=Fraction(10), time_base=Fraction(1, 12800))  # fmt: skip
    with VideoReader(path) as video:
        info, frames = video.info, list(video)
    assert (info.width, info.height, info.fps, info.num_frames) == (64, 48, 10, 6)
    assert info.duration == pytest.approx(0.6)
    assert not (info.is_still or info.has_audio or info.rotation)
    assert [frame.index for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == [frame.pts * float(info.time_base) for frame in frames]
    assert [frame.time for frame in frames] == pytest.approx([i / 10 for i in range(6)], abs=1e-9)
    assert frames[-1].duration * info.time_base == Fraction(1, 10)
    assert all(frame.image.flags.c_contiguous and frame.image.dtype == np.uint8 for frame in frames)


def test_iterating_again_starts_again_and_stopping_early_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_clip(path, [picture(64, 48, seed) for seed in range(5)], [i / 25 for i in range(5)])
    with VideoReader(path) as video:
        first = next(iter(video))
        again = list(video)
    assert len(again) == 5
    assert (first.image == again[0].image).all()


GROUP = 6  # frames from one key frame to the next
GROUPS = [
    ("a.mp4", "libx264", {"bf": "3"}),
    ("b.mp4", "libx264", {"bf": "3", "x264-params": "open-gop=1"}),
    ("a.mkv", "libx264", {"bf": "3"}),
    ("a.ts", "libx264", {"bf": "3"}),
    ("c.mp4", "libx265", {"x265-params": "log-level=error:open-gop=1"}),
    ("a.mpg", "mpeg2video", {"bf": "2"}),
    ("a.avi", "mpeg4", {"bf": "2"}),
    ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ("a.gif", "gif", {}),
]


def grouped_clip(path: Path, codec: str, options: dict[str, str], count: int = 30) -> Path:
    """A moving picture with a key frame every GROUP frames."""
    wide = picture(96 + 2 * count, 48, grain=4.0)
    images = [wide[:, 2 * index : 2 * index + 96] for index in range(count)]
    frames = planar(images, "rgb8" if codec == "gif" else "yuv420p")
    write_raw(
        path, frames, codec, g=str(GROUP), **({"sc_threshold": "0"} if "x264" in codec else {}), **options
    )
    return path


@pytest.mark.parametrize(("name", "codec", "options"), GROUPS, ids=lambda value: str(value)[:20])
def test_frames_from_any_number_are_those_of_the_whole(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    with VideoReader(grouped_clip(tmp_path / name, codec, options)) as video:
        unread = list(video.frames_from(27))
        whole = list(video)
        assert len(whole) >= 28
        for first in (0, 1, 5, 6, 7, 17, 27, len(whole) - 1):
            for frame, same in zip(video.frames_from(first), whole[first:], strict=True):
                assert (frame.index, frame.time, frame.duration) == (same.index, same.time, same.duration)
                assert np.array_equal(frame.image, same.image)
        assert [frame.index for frame in unread] == [frame.index for frame in whole[27:]]
        assert not list(video.frames_from(len(whole)))


def test_reading_on_from_a_number_decodes_one_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    original = VideoReader._decodable

    def counted(*arguments: Any) -> Iterator[av.VideoFrame]:
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, "_decodable", counted)
    with VideoReader(grouped_clip(tmp_path / "a.mp4", "libx264", {"bf": "3"})) as video:
        list(video)
        decoded.clear()
        assert next(video.frames_from(26)).index == 26
    assert len(decoded) <= GROUP


def test_where_seeking_leads_astray_the_file_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoReader(grouped_clip(tmp_path / "a.mp4", "libx264", {"bf": "3"})) as video:
        whole = list(video)
        video._map.stamps[24] += 1  # of a key frame
        video._map.stamps[20] += 1
        for first in (13, 24, 27):
            found = list(video.frames_from(first))
            assert [frame.index for frame in found] == list(range(first, 30))
            assert all(np.array_equal(a.image, b.image) for a, b in zip(found, whole[first:], strict=True))


@pytest.mark.parametrize(("name", "codec", "options"), GROUPS, ids=lambda value: str(value)[:20])
def test_a_stretch_is_that_of_the_whole(
    name: str, codec: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videoretalking.media.reader._SEEK_LEAD", 0.1)  # the clip lasts a second
    with VideoReader(grouped_clip(tmp_path / name, codec, options)) as video:
        whole = list(video)
        assert len(whole) >= 28
        middle = whole[9].time
        for start, end in (
            (0.0, middle),
            (0.001, 0.0),
            (middle, 0.0),
            (whole[17].time - 0.01, whole[25].time),
        ):
            wanted = [frame for frame in whole if frame.time >= start and (not end or frame.time < end)]
            for number, (frame, same) in enumerate(
                zip(video.frames_between(start, end), wanted, strict=True)
            ):
                assert (frame.index, frame.time, frame.pts) == (number, same.time, same.pts)
                assert np.array_equal(frame.image, same.image)
        assert not list(video.frames_between(whole[-1].time + 1.0))


def test_a_late_stretch_is_not_decoded_from_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = []
    original = VideoReader._decodable

    def counted(*arguments: Any) -> Iterator[av.VideoFrame]:
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(VideoReader, "_decodable", counted)
    with VideoReader(grouped_clip(tmp_path / "a.mp4", "libx264", {"bf": "3"}, count=120)) as video:
        found = list(video.frames_between(3.6, 4.0))
    assert [frame.index for frame in found] == list(range(10)) and found[0].time == 3.6
    assert len(decoded) <= 10 + 25 + GROUP + 1  # the lead of a second and the group before it


@pytest.mark.parametrize("name", ["v_corrupt_middle.mp4", "v_truncated_index_ok.mp4"])
def test_damaged_stretches_are_not_sought(name: str, media_dir: Path) -> None:
    with VideoReader(media_dir / "hostile" / name) as video:
        whole = list(video)
        for first in (2, len(whole) - 2):
            assert all(
                np.array_equal(a.image, b.image)
                for a, b in zip(video.frames_from(first), whole[first:], strict=True)
            )


@pytest.mark.parametrize("pixel_format", ["gray", "yuv420p10le", "yuv422p", "yuv444p", "yuvj420p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    image = picture(64, 48, grain=0.0)
    if pixel_format == "gray":
        image = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8), 3, axis=2)
    path = tmp_path / "a.mkv"
    codec = "ffv1" if pixel_format == "gray" else "libx264"
    write_raw(path, planar([image] * 2, pixel_format), codec, **({} if codec == "ffv1" else {"qp": "0"}))
    frames = read(path)
    assert len(frames) == 2
    assert psnr(frames[0].image, image) > 36


@pytest.mark.skipif(not hasattr(av.video.stream.VideoStream, "set_display_rotation"), reason="PyAV too old")
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_is_applied(tmp_path: Path, turn: int) -> None:
    upright = picture(64, 48, grain=0.0)
    stored = np.ascontiguousarray(
        np.rot90(upright, turn // 90)
    )  # counter-clockwise, so turned back clockwise

    def prepare(stream: Any) -> None:
        stream.set_display_rotation(-turn)
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)

    path = tmp_path / "a.mp4"
    write_raw(path, planar([stored] * 2, "yuv444p"), prepare=prepare, qp="0")
    with VideoReader(path) as video:
        assert (video.info.width, video.info.height, video.info.rotation) == (64, 48, turn)
        assert video.info.sample_aspect_ratio == (2 if turn in (0, 180) else Fraction(1, 2))
        assert psnr(next(iter(video)).image, upright) > 38


def test_uneven_times_and_a_late_start_are_kept(tmp_path: Path) -> None:
    times = [0.4, 0.44, 0.6, 0.61, 1.5]
    path = tmp_path / "a.mp4"
    sound = write_wav(tmp_path / "a.wav", noise_bursts(16000, 2.0), 16000)
    write_clip(path, [picture(64, 48, seed) for seed in range(5)], times, 0.2,
               time_base=Fraction(1, 12800), audio=sound, preset="ultrafast")  # fmt: skip
    with VideoReader(path) as video:
        assert [frame.time for frame in video] == pytest.approx(times, abs=0.5 / 12800)
        assert video.info.start == pytest.approx(0.4)
        assert video.info.duration == pytest.approx(1.3, abs=1e-3)
        assert video.info.has_audio


def test_the_clock_of_a_transport_stream_starts_at_its_earliest_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    write_raw(path, planar([picture(64, 48, seed) for seed in range(4)], "yuv420p"))
    with av.open(str(path)) as container:
        assert container.streams.video[0].start_time > 0
    assert [frame.time for frame in read(path)] == pytest.approx([i / 25 for i in range(4)], abs=1e-4)


def test_time_stamps_that_do_not_advance_are_mended() -> None:
    clock = _Clock(origin=100, step=10)
    assert [clock.read(stamp) for stamp in (100, 110, 110, None, 131, 95, 200)] == [
        0,
        10,
        20,
        30,
        31,
        41,
        100,
    ]
    assert clock.mended == 3
    assert _Clock(origin=100, step=10).read(90) == 0


def test_damage_in_the_middle_costs_frames_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.mkv"
    images = [picture(160, 120, seed, grain=12.0) for seed in range(30)]
    write_raw(path, planar(images, "yuv420p"), crf="20", g="10")
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(0)
    for position in rng.integers(len(data) // 3, len(data) // 2, 200):
        data[position] ^= 0xFF
    path.write_bytes(data)
    with caplog.at_level(logging.WARNING, "media"):
        frames = read(path)
    times = [frame.time for frame in frames]
    assert 10 < len(frames) <= 30
    assert times == sorted(set(times))
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.mp4", None, "does not exist"),
        ("empty.mp4", b"", "is empty"),
        ("text.mp4", b"this is no video\n" * 20, "cannot be read"),
    ],
)
def test_unreadable_files_are_named_in_one_line(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=says) as raised:
        VideoReader(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_cut_off_before_its_index_and_a_folder(tmp_path: Path) -> None:
    whole, cut = tmp_path / "a.mp4", tmp_path / "b.mp4"
    write_raw(whole, planar([picture(64, 48, seed) for seed in range(10)], "yuv420p"))
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    for path in (cut, tmp_path):
        with pytest.raises(UserError, match=path.name):
            VideoReader(path)


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no video stream"):
        VideoReader(write_wav(tmp_path / "a.wav", noise_bursts(8000, 0.2), 8000))


def test_a_picture_is_a_video_of_one_frame_whatever_its_name(tmp_path: Path) -> None:
    image = picture(50, 40)
    save_image(tmp_path / "a.png", image)
    shutil.copy(tmp_path / "a.png", tmp_path / "a.mp4")
    for name in ("a.png", "a.mp4"):
        with VideoReader(tmp_path / name) as video:
            frames = list(video)
            assert video.info.is_still
            assert len(frames) == video.info.num_frames == 1
            assert (frames[0].image == image).all()


# frames that decode, (width, height), and what else the corpus says of each file
HOSTILE = {
    "v_truncated_index_ok.mp4": (27, (288, 288)),
    "v_corrupt_middle.mp4": (74, (288, 288)),
    "v_rotate_meta_90.mp4": (50, (240, 288)),
    "v_rotate_meta_180.mp4": (50, (288, 288)),
    "v_odd_333x251_mpeg4.mp4": (50, (333, 251)),
    "v_odd_333x251_h264_444.mp4": (50, (333, 251)),
    "v_10bit.mp4": (50, (288, 288)),
    "v_gray.mp4": (50, (288, 288)),
    "v_sar_2_1.mp4": (50, (144, 288)),
    "v_vp9_opus.webm": (50, (288, 288)),
    "v_mjpeg.avi": (25, (288, 288)),
    "v name with spaces äé 测试.mp4": (52, (288, 288)),
    "v_1frame.mp4": (1, (288, 288)),
    "i_animated.gif": (10, (160, 160)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_that_should_play(media_dir: Path, name: str) -> None:
    frames = read(media_dir / "hostile" / name)
    count, (width, height) = HOSTILE[name]
    assert len(frames) == count
    assert frames[0].image.shape == (height, width, 3)
    assert 10 < frames[0].image.mean() < 245


@pytest.mark.parametrize("name", [
    "v_truncated_no_index.mp4", "v_no_video_stream.mp4", "v_cover_art_only.m4a", "v_zero_byte.mp4",
    "v_text.mp4", "i_truncated.jpg",
])  # fmt: skip
def test_hostile_files_that_should_be_refused(media_dir: Path, name: str) -> None:
    with pytest.raises(UserError, match=name):
        VideoReader(media_dir / "hostile" / name)


def test_hostile_times(media_dir: Path) -> None:
    late = read(media_dir / "hostile" / "v_video_starts_late.mp4")
    assert late[0].time == pytest.approx(0.4)
    uneven = read(media_dir / "hostile" / "v_vfr.mp4")
    steps = np.diff([frame.time for frame in uneven])
    assert steps.min() == pytest.approx(0.04)
    assert steps.max() == pytest.approx(0.36)
    assert uneven[-1].time == pytest.approx(2.96)

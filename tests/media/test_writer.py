from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from media_clips import (
    delay,
    noise_bursts,
    picture,
    psnr,
    read,
    write_clip,
    write_float_wav,
    write_raw,
    write_wav,
)

try:
    import resource
except ImportError:  # Windows
    resource = None

from videoretalking.core.errors import UserError
from videoretalking.core.locations import ROOT
from videoretalking.media.audio import audio_info, load_waveform
from videoretalking.media.color import FULL_RANGE, LIMITED_RANGE, UNSPECIFIED, ColorTags, rgb_to_planes
from videoretalking.media.formats import CODECS
from videoretalking.media.video import VideoInfo, VideoReader, VideoWriter

UNTAGGED = ColorTags(UNSPECIFIED, LIMITED_RANGE, UNSPECIFIED, UNSPECIFIED)


def box_durations(path: Path) -> dict[bytes, float]:
    """Seconds that an MP4's movie and track headers announce: what players show."""
    data = path.read_bytes()
    movie = data.index(b"mvhd") + 4
    scale, length = np.frombuffer(data[movie + 12 : movie + 20], ">u4")
    track = data.index(b"tkhd") + 4
    (shown,) = np.frombuffer(data[track + 20 : track + 24], ">u4")
    return {b"movie": length / scale, b"track": shown / scale}


def test_lossless_keeps_every_bit(tmp_path: Path) -> None:
    images = [picture(61, 47, seed, grain=20.0) for seed in range(5)]
    write_clip(tmp_path / "a.mkv", images, [0.0, 0.033, 0.2, 0.201, 0.5], codec="ffv1")
    frames = read(tmp_path / "a.mkv")
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.033, 0.2, 0.201, 0.5])
    assert all((frame.image == image).all() for frame, image in zip(frames, images, strict=True))


@pytest.mark.parametrize(("codec", "suffix"), [("h264", ".mp4"), ("h264", ".mov"), ("hevc", ".mp4")])
def test_uneven_times_and_the_last_duration_are_exact(tmp_path: Path, codec: str, suffix: str) -> None:
    base = Fraction(1, 15360)
    ticks = [507, 1531, 2043, 2555, 3579, 9000, 9001, 30000]
    path = tmp_path / f"a{suffix}"
    write_clip(path, [picture(64, 48, seed) for seed in ticks], [float(tick * base) for tick in ticks], 0.25,
               codec=codec, time_base=base, fps=Fraction(22))  # fmt: skip
    assert [round(frame.time / base) for frame in read(path)] == ticks
    end = 30000 / 15360 + 0.25
    assert box_durations(path) == {
        b"movie": pytest.approx(end, abs=1e-3),
        b"track": pytest.approx(end, abs=1e-3),
    }


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    ("base", "ticks"),
    [(Fraction(1, 90_000), [36_047, 39_650, 43_251]), (Fraction(1001, 30_000), [7, 8, 10])],
)
def test_a_late_start_is_exact(tmp_path: Path, suffix: str, base: Fraction, ticks: list[int]) -> None:
    path = tmp_path / f"a{suffix}"
    write_clip(path, [picture(64, 48, seed) for seed in ticks], [float(tick * base) for tick in ticks],
               time_base=base)  # fmt: skip
    assert [frame.time for frame in read(path)] == pytest.approx(
        [float(tick * base) for tick in ticks], abs=1e-9
    )


def test_the_default_quality_leaves_pictures_as_they_are(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    still = picture(320, 240, 1, grain=0.0)
    grainy = [picture(320, 240, 1, grain=4.0) // 2 + still // 2 for _ in range(8)]
    write_clip(source, grainy, [i / 25 for i in range(8)], crf=18)
    with VideoReader(source) as video:
        frames, info = list(video), video.info
    write_clip(tmp_path / "a.mp4", [frame.image for frame in frames], [frame.time for frame in frames],
               color=info.color)  # fmt: skip
    values = [psnr(a.image, b.image) for a, b in zip(frames, read(tmp_path / "a.mp4"), strict=True)]
    assert min(values) > 46


def test_fast_presets_look_as_well(tmp_path: Path) -> None:
    with VideoReader(ROOT / "examples" / "speaker.mp4") as video:
        frames, info = [frame.image for frame in itertools.islice(video, 12)], video.info
    values = {}
    for preset in ("medium", "veryfast", "superfast"):
        path = tmp_path / f"{preset}.mp4"
        with VideoWriter(path, VideoInfo(info.width, info.height), preset=preset) as writer:
            for number, frame in enumerate(frames):
                writer.write(frame, number / 25)
        found = [frame.image for frame in read(path)]
        values[preset] = np.mean([psnr(*pair) for pair in zip(frames, found, strict=True)])
    assert min(values.values()) > values["medium"] - 0.2


@pytest.mark.parametrize("codec", [codec for codec in CODECS if codec != "ffv1"])
def test_every_codec_keeps_colors_times_and_tags(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "a.mkv"
    images = [picture(128, 96, 3, grain=0.0)] * 3
    tags = ColorTags(1, LIMITED_RANGE, 1, 1)
    write_clip(path, images, [0.0, 0.04, 0.2], codec=codec, color=tags, preset="ultrafast")
    with VideoReader(path) as video:
        frames = list(video)
        assert video.info.color == tags
    assert [frame.time for frame in frames] == pytest.approx([0.0, 0.04, 0.2])
    assert psnr(frames[1].image, images[0]) > 42
    assert np.abs((frames[1].image - images[0].astype(float)).mean(axis=(0, 1))).max() < 0.4


@pytest.mark.parametrize("size", [(64, 48), (63, 47)])  # half and full chroma
def test_planes_and_pictures_make_the_same_file(tmp_path: Path, size: tuple[int, int]) -> None:
    images = [picture(*size, seed, grain=8.0) for seed in range(4)]
    info = VideoInfo(*size, fps=Fraction(25), time_base=Fraction(1, 12_800))
    for name in ("pictures", "planes"):
        with VideoWriter(tmp_path / f"{name}.mp4", info) as writer:
            for index, image in enumerate(images):
                assert writer.layout is not None
                if name == "planes":
                    writer.write_planes(rgb_to_planes(image, *writer.layout), index / 25)
                else:
                    writer.write(image, index / 25)
    assert (tmp_path / "pictures.mp4").read_bytes() == (tmp_path / "planes.mp4").read_bytes()
    with VideoWriter(tmp_path / "lossless.mkv", info, codec="ffv1") as writer:
        assert writer.layout is None
        writer.write(images[0], 0.0)


@pytest.mark.parametrize("tags", [UNTAGGED, ColorTags(1, FULL_RANGE, 1, 1), ColorTags(5, FULL_RANGE, 2, 2)])
def test_color_tags_are_passed_on(tmp_path: Path, tags: ColorTags) -> None:
    image = picture(64, 48, grain=0.0)
    write_clip(tmp_path / "a.mp4", [image] * 2, [0.0, 0.04], color=tags)
    with VideoReader(tmp_path / "a.mp4") as video:
        assert video.info.color == tags
        assert psnr(next(iter(video)).image, image) > 38


@pytest.mark.parametrize(
    "name", ["2024-05-01T12:30:05.mp4", "file:x.mp4", "-dash.mp4", "take%03d.mp4", "a#b?c=d.mp4"]
)
def test_names_that_look_like_something_else_to_the_library(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path(name), [picture(64, 48)] * 2, [0.0, 0.04])
    assert [path.name for path in tmp_path.iterdir()] == [name] and len(read(Path(name))) == 2


def test_output_shows_the_input_s_own_numbers(tmp_path: Path) -> None:
    """Planes of input and output agree, so any player, right or wrong about colors, shows both alike."""
    image = picture(96, 64, 5, grain=0.0)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p", dst_colorspace=1)
    frame.colorspace = 2  # a BT.709 picture that does not say so
    write_raw(tmp_path / "in.mp4", [frame] * 2, qp="0")
    with VideoReader(tmp_path / "in.mp4") as video:
        frames, info = list(video), video.info
    write_clip(
        tmp_path / "out.mp4", [f.image for f in frames], [f.time for f in frames], color=info.color, crf=1
    )
    planes = []
    for name in ("in.mp4", "out.mp4"):
        with av.open(str(tmp_path / name)) as container:
            planes.append(next(container.decode(video=0)).to_ndarray().astype(float))
    assert info.color == UNTAGGED
    assert np.abs(planes[0] - planes[1]).mean() < 0.6


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (33, 25)])
def test_odd_sizes_are_kept(tmp_path: Path, size: tuple[int, int]) -> None:
    image = picture(*size, grain=0.0)
    for codec, name in (("h264", "a.mp4"), ("vp9", "a.webm")):
        write_clip(tmp_path / name, [image] * 2, [0.0, 0.04], codec=codec)
        frames = read(tmp_path / name)
        assert frames[0].image.shape == image.shape
        assert psnr(frames[0].image, image) > 42


def test_full_chroma_and_pixel_aspect_are_kept(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", [picture(64, 48)] * 2, [0.0, 0.04], full_chroma=True,
               sample_aspect_ratio=Fraction(2, 1))  # fmt: skip
    with VideoReader(tmp_path / "a.mp4") as video:
        assert video.info.full_chroma
        assert video.info.sample_aspect_ratio == 2


@pytest.mark.parametrize(
    ("rate", "channels", "suffix"),
    [(44100, 2, ".mp4"), (8000, 1, ".mp4"), (16000, 1, ".mkv"), (24000, 1, ".webm")],
)
def test_sound_stays_in_place_at_its_own_quality(
    tmp_path: Path, rate: int, channels: int, suffix: str
) -> None:
    sound = noise_bursts(rate, 1.0, channels)
    path = tmp_path / f"a{suffix}"
    webm = suffix == ".webm"
    write_clip(path, [picture(64, 48)] * 3, [0.0, 0.04, 0.08], codec="vp9" if webm else "h264",
               audio=write_wav(tmp_path / "a.wav", sound, rate))  # fmt: skip
    info = audio_info(path)
    assert (info.codec, info.sample_rate, info.channels) == (
        "opus" if webm else "aac",
        48000 if webm else rate,
        channels,
    )
    reference, heard = load_waveform(tmp_path / "a.wav"), load_waveform(path)
    assert delay(reference, heard) == 0
    assert np.corrcoef(reference, heard[: len(reference)])[0, 1] > 0.99
    assert len(heard) - len(reference) < 0.07 * 16000


def test_a_span_of_the_sound_starts_the_output(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", noise_bursts(16000, 2.0), 16000)
    write_clip(tmp_path / "a.mp4", [picture(64, 48)], [0.0], audio=wav, audio_span=(0.5, 1.25))
    reference, heard = load_waveform(wav)[8000:20000], load_waveform(tmp_path / "a.mp4")
    assert delay(reference, heard) == 0
    assert audio_info(tmp_path / "a.mp4").duration == pytest.approx(0.75, abs=0.001)


def test_aac_is_copied_unless_it_is_cut(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", noise_bursts(16000, 1.0), 16000)
    first, copy, cut = tmp_path / "1.mp4", tmp_path / "2.mp4", tmp_path / "3.mp4"
    write_clip(first, [picture(64, 48)], [0.0], audio=wav)
    write_clip(copy, [picture(64, 48)] * 2, [0.0, 0.5], audio=first)
    write_clip(cut, [picture(64, 48)] * 2, [0.0, 0.5], audio=first, audio_span=(0.0, 0.5))

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    assert packets(copy) == packets(first)
    assert packets(cut) != packets(first)[: len(packets(cut))]
    assert delay(load_waveform(wav), load_waveform(copy)) == 0


def test_sound_that_is_changed_is_encoded_anew_and_keeps_its_length_and_place(tmp_path: Path) -> None:
    seen: list[int] = []

    def halve(blocks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
        for block in blocks:
            seen.append(rate)
            yield block / 2

    wav = write_wav(tmp_path / "a.wav", noise_bursts(16000, 1.05), 16000)
    source = tmp_path / "1.mp4"
    write_clip(source, [picture(64, 48)], [0.0], audio=wav)
    for number in (2, 3):  # each time from the one before: nothing must add up
        target = tmp_path / f"{number}.mp4"
        write_clip(target, [picture(64, 48)], [0.0], audio=source, audio_filter=halve)
        assert audio_info(target).duration == pytest.approx(1.05, abs=1e-4)
        before, after = load_waveform(source), load_waveform(target)
        assert delay(before, after) == 0
        assert np.std(after) / np.std(before) == pytest.approx(0.5, abs=0.02)
        source = target
    assert set(seen) == {16000}


def test_sound_and_picture_lie_side_by_side_in_the_file(tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "a.wav", noise_bursts(16000, 4.0), 16000)
    path = tmp_path / "a.mp4"
    write_clip(path, [picture(64, 48)] * 100, [i / 25 for i in range(100)], audio=wav, preset="ultrafast")
    with av.open(str(path)) as container:
        positions = {kind: [] for kind in ("video", "audio")}
        for packet in container.demux():
            if packet.size:
                positions[packet.stream.type].append((float(packet.pts * packet.time_base), packet.pos))
    middle = {
        kind: min(places, key=lambda place: abs(place[0] - 2.0))[1] for kind, places in positions.items()
    }
    assert abs(middle["video"] - middle["audio"]) < path.stat().st_size / 4
    assert path.read_bytes().index(b"moov") < path.read_bytes().index(b"mdat")


def test_bad_samples_do_not_stop_the_sound(tmp_path: Path) -> None:
    samples = 8 * noise_bursts(16000, 0.5)
    samples[0, 100:110] = np.nan
    wav = write_float_wav(tmp_path / "a.wav", samples, 16000)
    write_clip(tmp_path / "a.mp4", [picture(64, 48)], [0.0], audio=wav)
    heard = load_waveform(tmp_path / "a.mp4")
    assert 0.8 < np.abs(heard).max() < 1.2
    assert np.corrcoef(load_waveform(wav), heard[:8000])[0, 1] > 0.99


def test_an_error_leaves_the_older_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"older")
    with pytest.raises(OSError, match="of the caller"), VideoWriter(path, VideoInfo(64, 48)) as writer:
        writer.write(picture(64, 48), 0.0)
        raise OSError("of the caller")
    with pytest.raises(ValueError, match="no frame"), VideoWriter(path, VideoInfo(64, 48)):
        pass
    assert path.read_bytes() == b"older"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mp4"]


@pytest.mark.skipif(resource is None, reason="limits file sizes as Unix does")
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_full_disk_is_one_line_and_no_file(tmp_path: Path, suffix: str) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
    try:
        with (
            pytest.raises(UserError, match=r"cannot write .*: File too large") as raised,
            VideoWriter(tmp_path / f"a{suffix}", VideoInfo(160, 120), preset="ultrafast", crf=1) as writer,
        ):
            for index in range(100):
                writer.write(picture(160, 120, index, grain=60.0), index / 25)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("a.avi", {}, "container"),
        ("a.mp4", {"codec": "mpeg9"}, "mpeg9"),
        ("a.mp4", {"preset": "warp"}, "warp"),
        ("a.mp4", {"codec": "ffv1"}, ".mkv"),
        ("a.webm", {"codec": "h264"}, ".mp4"),
        ("a.mp4", {"audio": "silent.mp4"}, "silent.mp4 has no audio stream"),
        ("a.mp4", {"audio": "absent.wav"}, "absent.wav does not exist"),
        ("a.mp4", {"audio": "a.wav", "audio_span": (5.0, 6.0)}, "no audio samples between 5 s and 6 s"),
    ],
)
def test_what_cannot_be_is_said_before_any_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "silent.mp4", [picture(64, 48)], [0.0])
    write_wav(tmp_path / "a.wav", noise_bursts(8000, 0.2), 8000)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=says):
        VideoWriter(tmp_path / name, VideoInfo(64, 48), **options)
    assert sorted(tmp_path.iterdir()) == before


def test_av1_refuses_odd_sizes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="63x48"):
        VideoWriter(tmp_path / "a.mp4", VideoInfo(63, 48), codec="av1")


def test_frames_are_checked(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", VideoInfo(64, 48)) as writer:
        writer.write(picture(64, 48), 0.5)
        for image, time in ((picture(48, 64), 1.0), (picture(64, 48) / 255, 1.0), (picture(64, 48), 0.5)):
            with pytest.raises(ValueError, match=r"expected uint8|not after"):
                writer.write(image, time)
    assert len(read(tmp_path / "a.mp4")) == 1


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads memory use from /proc")
def test_memory_stays_flat(tmp_path: Path) -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    size, count = (480, 360), 500  # 500 frames of 0.5 MiB would be 247 MiB
    images = [picture(*size, seed) for seed in range(4)]
    write_clip(tmp_path / "a.mp4", [images[i % 4] for i in range(count)], [i / 25 for i in range(count)],
               preset="ultrafast", crf=30)  # fmt: skip
    wav = write_wav(tmp_path / "a.wav", noise_bursts(16000, count / 25), 16000)
    marks = {}
    with VideoReader(tmp_path / "a.mp4") as video, VideoWriter(
        tmp_path / "b.mp4", video.info, preset="ultrafast", crf=30, audio=wav
    ) as writer:  # fmt: skip
        for frame in video:
            writer.write(frame.image, frame.time)
            if frame.index in (150, count - 1):
                marks[frame.index] = resident()
    assert marks[count - 1] - marks[150] < 25


def test_corpus_inputs_survive_the_round_trip(media_dir: Path, tmp_path: Path) -> None:
    names = ["mpeg1_360x288_25fps.mpg", "vfr_22.13fps_700x700.mp4", "noaudio_256x256_30fps.mp4"]
    for name in names:
        with VideoReader(media_dir / "inputs" / name) as video:
            frames, info = list(itertools.islice(video, 12)), video.info
            with VideoWriter(tmp_path / "a.mp4", info) as writer:
                for frame in frames:
                    writer.write(frame.image, frame.time)
        output = read(tmp_path / "a.mp4")
        assert [frame.time for frame in output] == pytest.approx([frame.time for frame in frames], abs=1e-9)
        assert np.mean([psnr(a.image, b.image) for a, b in zip(frames, output, strict=True)]) > 46, name

"""Broken, odd and extreme files through the command line: a result, or one line and nothing left behind."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_weights import make_tiny_weights

import inference
from videoretalking.core.errors import run_command
from videoretalking.media.video import VideoReader

SHORT = "a_0.5s.wav"
QUICK = ("--no-neutralize", "--no-enhance")

# file: frames of the result with half a second of speech and ``--pad cut``, or the cause that is named
VIDEOS: dict[str, int | str] = {
    "v_truncated_no_index.mp4": "cannot be read",
    "v_truncated_index_ok.mp4": 13,
    "v_corrupt_middle.mp4": 13,
    "v_no_video_stream.mp4": "no video stream",
    "v_cover_art_only.m4a": "cover art",
    "v_zero_byte.mp4": "is empty",
    "v_text.mp4": "cannot be read",
    "v_no_face.mp4": "no face",
    "v_rotate_meta_90.mp4": 13,
    "v_tiny_64x64.mp4": 13,
    "v_1frame.mp4": 13,
    "v_3frames.mp4": 3,
    "i_alpha.png": 13,
    "i_animated.gif": 4,
    "i_tiny_24.png": "no face",
    "i_no_face.jpg": "no face",
    "i_truncated.jpg": "cannot be read",
}
MORE_VIDEOS: dict[str, int | str] = {
    "v_odd_333x251_mpeg4.mp4": 13,
    "v_vfr.mp4": 13,
    "v_vp9_opus.webm": 12,
    "v_video_starts_late.mp4": 3,
    "v_landscape_start.mp4": 13,
    "v_black_middle.mp4": 13,
    "v_landscape_middle.mp4": 13,
    "v_single_face_frame.mp4": 13,
    "v_two_faces.mp4": 13,
    "v_face_leaves.mp4": 13,
    "v_face_turns.mp4": 15,
    "v_profile.mp4": 13,
    "v_small_face.mp4": 13,
    "v_mouth_covered.mp4": 13,
    "v_cut_between_people.mp4": 13,
    "v_rotate_meta_180.mp4": 13,
    "v_odd_333x251_h264_444.mp4": 13,
    "v_10bit.mp4": 13,
    "v_yuv444.mp4": 13,
    "v_gray.mp4": 13,
    "v_sar_2_1.mp4": 13,
    "v_4k_5frames.mp4": 5,
    "v_mjpeg.avi": 13,
    "v name with spaces äé 测试.mp4": 13,
    "v_60fps.mp4": 30,
    "v_12fps.mp4": 6,
    "v_audio_shorter.mp4": 13,
    "v_audio_longer.mp4": 13,
    "i_cmyk.jpg": 13,
    "i_exif_rotated_6.jpg": 13,
    "i_gray.jpg": 13,
    "i_palette.png": 13,
    "i_gray16.png": 13,
    "i_two_faces.jpg": 13,
}

# the same for speech with a video of three frames
SPEECH: dict[str, int | str] = {
    "a_corrupt_header.wav": "cannot be read",
    "a_zero_length.wav": "without samples",
    "a_zero_byte.wav": "is empty",
    "a_text.wav": "cannot be read",
    "v_1frame.mp4": "no audio",
    "a_10ms.wav": 1,
    "a_silent.wav": 3,
    "a_nan_float.wav": 3,
    "a_truncated.wav": 3,
    "a_streamed_sizes.wav": 3,
    "a_stereo_antiphase_44k1.wav": 3,
}
MORE_SPEECH = (
    "a_clipped.wav",
    "a_very_quiet.wav",
    "a_stereo_48k.wav",
    "a_8k_mono.wav",
    "a_u8.wav",
    "a_24bit_48k.wav",
    "a_speech.mp3",
    "a_speech.m4a",
    "a_float_over_range.wav",
    "a_7s.wav",
)


class Program:
    """``inference.py`` with tiny random networks, run within this process."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.outfile, self.report = folder / "results" / "out.mp4", folder / "report.json"
        self._patch, self._capture = patch, capture
        self._settings = ["--outfile", str(self.outfile), "--report", str(self.report)]
        self._settings += ["--weights", str(make_tiny_weights(folder)), "--cache-dir", str(folder / "cache")]
        self._settings += ["--face-backend", "bundled", "--device", "cpu", "--preset", "fast"]

    def __call__(self, face: Path, audio: Path, *flags: str) -> tuple[int, str]:
        """Exit status and the last line on standard error."""
        arguments = ["inference.py", "--face", str(face), "--audio", str(audio), *flags, *self._settings]
        self._patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as end:
            run_command(inference.main)
        errors = self._capture.readouterr().err
        assert "Traceback" not in errors
        return int(end.value.code or 0), errors.strip().rpartition("\n")[2]

    def check(self, face: Path, audio: Path, expected: int | str, *flags: str) -> None:
        """Whether it ends as expected and leaves what it should."""
        status, line = self(face, audio, *flags)
        left = sorted(path.name for path in self.outfile.parent.glob("*"))
        if isinstance(expected, str):
            assert (status, left) == (2, [])
            assert line.startswith("error: ") and expected in line
            assert face.name in line or audio.name in line
            return
        assert (status, left) == (0, ["out.mp4"]), line
        with VideoReader(self.outfile) as reader:
            assert sum(1 for _ in reader) == expected
            assert reader.info.has_audio


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Program:
    return Program(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("name", VIDEOS)
def test_pictures(name: str, program: Program, media_dir: Path) -> None:
    hostile = media_dir / "hostile"
    program.check(hostile / name, hostile / SHORT, VIDEOS[name], "--pad", "cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_VIDEOS)
def test_more_pictures(name: str, program: Program, media_dir: Path) -> None:
    hostile = media_dir / "hostile"
    program.check(hostile / name, hostile / SHORT, MORE_VIDEOS[name], "--pad", "cut")


@pytest.mark.parametrize("name", SPEECH)
def test_speech(name: str, program: Program, media_dir: Path) -> None:
    hostile = media_dir / "hostile"
    program.check(hostile / "v_3frames.mp4", hostile / name, SPEECH[name], "--pad", "cut")


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_SPEECH)
def test_more_speech(name: str, program: Program, media_dir: Path) -> None:
    hostile = media_dir / "hostile"
    program.check(hostile / "v_3frames.mp4", hostile / name, 3, "--pad", "cut")


@pytest.mark.parametrize(
    "name", ["v_landscape_middle.mp4", pytest.param("v_black_middle.mp4", marks=pytest.mark.slow)]
)
def test_scenes_without_a_face_pass_through(name: str, program: Program, media_dir: Path) -> None:
    face = media_dir / "hostile" / name
    program.check(face, media_dir / "hostile" / SHORT, 75, *QUICK)
    frames = json.loads(program.report.read_text(encoding="utf-8"))["frames"]
    assert [frame["index"] for frame in frames if not frame["faces"]] == list(range(25, 50))
    with VideoReader(face) as before, VideoReader(program.outfile) as after:
        for original, frame in zip(before, after, strict=True):
            assert frame.time == original.time
            if 26 <= frame.index < 49:
                error = np.square(frame.image.astype(np.float64) - original.image).mean()
                assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40


def test_the_start_of_a_late_picture_is_kept(program: Program, media_dir: Path) -> None:
    face = media_dir / "hostile" / "v_video_starts_late.mp4"
    program.check(face, media_dir / "hostile" / SHORT, 55, *QUICK)
    with VideoReader(face) as before, VideoReader(program.outfile) as after:
        assert [frame.time for frame in after] == [frame.time for frame in before]

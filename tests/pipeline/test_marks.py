"""Marks in the main job: what bears them, what keeps its bytes, and what the report says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_landmarks
from torch.utils._python_dispatch import TorchDispatchMode

from videoretalking.core.errors import UserError
from videoretalking.faces.align import lipsync_box
from videoretalking.media import upload
from videoretalking.media.audio import AudioInfo, audio_info
from videoretalking.media.color import ColorTags
from videoretalking.media.reader import VideoInfo
from videoretalking.media.video import VideoReader, VideoWriter
from videoretalking.pipeline import Retalker
from videoretalking.pipeline.batch import BatchJob, run_jobs
from videoretalking.pipeline.config import OutputConfig
from videoretalking.pipeline.marks import Marks
from videoretalking.pipeline.raster_torch import TensorRaster
from videoretalking.provenance.keys import PUBLIC_KEY, load_key, new_key_text
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video_detector import detect_video

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]


def images(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


@pytest.fixture(scope="session")
def large_frames() -> list[np.ndarray]:
    """Frames with room for a mark that is found for sure, the last one without a face."""
    faces = [face_frame(face_landmarks(90 + index, 60, 80), 352, 288) for index in range(5)]
    return [*faces, np.full_like(faces[0], 90)]


@pytest.fixture
def with_faceless(talking_frames: list[np.ndarray]) -> list[np.ndarray]:
    return [*talking_frames, np.full_like(talking_frames[0], 90)]


def test_on_marks_every_frame_and_the_report_says_what_the_detector_finds(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    large_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"codec": "ffv1"})
    video, speech = make_video(large_frames), make_speech(0.24)
    report = retalker.dub(video, speech, tmp_path / "out.mkv")
    plain = [frame.image for frame in retalker.frames(video, speech)]
    assert np.array_equal(plain[5], large_frames[5])
    for before, after in zip(plain, images(tmp_path / "out.mkv"), strict=True):
        change = after.astype(int) - before
        assert 0.5 < np.abs(change[..., 1]).mean() < 4
        assert 10 * np.log10(255**2 / np.square(change).mean()) > 43
    found = detect_video(tmp_path / "out.mkv", quiet=True)
    assert found.payload is not None
    report.save(tmp_path / "report.json")
    told = json.loads((tmp_path / "report.json").read_text())["mark"]
    assert told["payload"] == found.payload.text and told["job"] == f"{found.payload.job:012x}"
    assert (told["mode"], told["key"], told["picture"], told["sound"]) == ("on", "public", True, True)


def test_face_marks_painted_pixels_and_all_others_keep_their_bytes(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    with_faceless: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"codec": "ffv1", "mark": "face"})
    video, speech = make_video(with_faceless), make_speech(0.32)
    report = retalker.dub(video, speech, tmp_path / "out.mkv")
    assert report.mark["mode"] == "face"
    result = images(tmp_path / "out.mkv")
    plain = [frame.image for frame in retalker.frames(video, speech)]
    for index, (before, after) in enumerate(zip(plain[:7], result[:7], strict=True)):
        x1, y1, x2, y2 = lipsync_box(face_landmarks(30 + index, 20, 80)).astype(int)
        inside = np.zeros(before.shape[:2], bool)
        inside[max(y1 - 1, 0) : y2 + 2, max(x1 - 1, 0) : x2 + 2] = True
        assert np.array_equal(after[~inside], with_faceless[index][~inside])
        mouth = np.s_[y1 + (y2 - y1) * 2 // 3 : y2 - 8, x1 + 20 : x2 - 20]
        assert (after[mouth] != before[mouth]).mean() > 0.2
    assert np.array_equal(result[7], with_faceless[7])


def test_off_writes_what_the_stream_gives(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"codec": "ffv1", "mark": "off"})
    video, speech = make_video(talking_frames), make_speech(0.28)
    report = retalker.dub(video, speech, tmp_path / "out.mkv")
    assert report.mark == {"mode": "off"}
    for frame, image in zip(retalker.frames(video, speech), images(tmp_path / "out.mkv"), strict=True):
        assert np.array_equal(frame.image, image)


def test_a_stream_is_marked_where_marks_are_given(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    retalker = make_retalker()
    video, speech = make_video(talking_frames), make_speech(0.28)
    marks = Marks("on", PUBLIC_KEY, Payload(9))
    plain, marked = (
        [frame.image for frame in retalker.frames(video, speech, given)] for given in (None, marks)
    )
    for before, expected, after in zip(plain, marks.mark_frames(plain), marked, strict=True):
        assert np.array_equal(after, expected) and not np.array_equal(after, before)


def test_sound_is_copied_bit_for_bit_without_a_mark_and_keeps_its_length_with_one(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    speech = tmp_path / "speech.mp4"
    with VideoWriter(speech, VideoInfo(64, 48), audio=make_speech(2.53)) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8), 0.0)

    def packets(path: Path) -> list[bytes]:
        with av.open(str(path)) as container:
            return [bytes(packet) for packet in container.demux(audio=0) if packet.size]

    video = make_video(talking_frames, fps=2)
    for mode, copied in (("off", True), ("face", False), ("on", False)):
        path = tmp_path / f"{mode}.mp4"
        make_retalker(output={"mark": mode, "speed": "ultrafast"}).dub(video, speech, path)
        assert (packets(path) == packets(speech)) is copied
        assert audio_info(path).duration == pytest.approx(2.53, abs=1e-4)


@pytest.mark.parametrize(("width", "height"), [(161, 129), (63, 48)])
def test_odd_and_tiny_pictures_do_not_fail(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, tmp_path: Path, width: int, height: int
) -> None:
    size = 0.6 * height
    frames = [face_frame(face_landmarks(10 + i, 0.2 * height, size), width, height) for i in range(3)]
    report = make_retalker(output={"codec": "ffv1"}).dub(
        make_video(frames, fps=1), make_speech(2.1), tmp_path / "out.mkv"
    )
    small = height < 64
    assert report.mark["picture"] is not small and report.mark["sound"]
    assert report.notes == (["the picture bears no mark: 63x48 is below 64 pixels"] if small else [])
    assert len(images(tmp_path / "out.mkv")) == len(report.frames)


def test_what_cannot_bear_a_mark_is_noted() -> None:
    picture = VideoInfo(320, 240)
    marks = Marks("on", PUBLIC_KEY)
    marks.fit(picture, AudioInfo("pcm_s16le", 2_000, 1, 5.0))
    assert marks.sound_filter is None and not marks.describe()["sound"]
    assert marks.notes == ["the sound bears no mark: 2000 samples a second are too few or too many"]
    marks = Marks("on", PUBLIC_KEY)
    marks.fit(picture, AudioInfo("pcm_s16le", 16_000, 1, 5.0), 1.5)
    assert marks.sound_filter is not None
    assert marks.notes == ["the mark of the sound is cut short: 1.50 s hold no whole message"]


def test_a_turned_view_of_a_frame_is_marked_like_a_copy_of_it(talking_frames: list[np.ndarray]) -> None:
    marks, view = Marks("on", PUBLIC_KEY, Payload(1)), np.rot90(talking_frames[0])
    assert np.array_equal(*marks.mark_frames([view, view.copy()]))


@pytest.mark.parametrize("mode", ["on", "face"])
def test_tensors_are_marked_together_like_arrays_one_by_one(
    mode: Literal["on", "face"], large_frames: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In groups that do not come out even, frames without a mark between them, one frame shown twice."""
    marks = Marks(mode, PUBLIC_KEY, Payload(1))
    order = [0, 1, 1, 2, 3, 4, 5]
    frames = [torch.from_numpy(large_frames[number]) for number in order]
    painted: list[torch.Tensor | None] = [torch.zeros(frame.shape[:2]) for frame in frames]
    for number, weights in enumerate(painted):
        assert weights is not None
        weights[20 * number : 20 * number + 60] = 0.5
    painted[0] = painted[4] = None
    expected = marks.mark_frames(
        [frame.numpy() for frame in frames],
        [None if weights is None else weights.numpy() for weights in painted],
    )
    whole = marks.mark_frames(frames, painted)
    monkeypatch.setattr(upload, "_PIXELS_TOGETHER", 2 * frames[0][..., 0].numel() + 1)
    for number, image in enumerate(marks.mark_frames(frames, painted)):
        assert image.dtype == torch.uint8 and (image.int() - whole[number].int()).abs().max() <= 1
        difference = np.abs(image.numpy().astype(int) - expected[number])
        assert difference.max() <= 2 and difference.mean() < 0.2
        weights = painted[number]
        if mode == "face" and weights is None:
            assert image is frames[number]
        elif mode == "face":
            assert torch.equal(image[weights == 0], frames[number][weights == 0])
    assert marks.mark_frames([]) == []
    unpainted = marks.mark_frames(frames)
    assert all(image is frame for image, frame in zip(unpainted, frames, strict=True)) is (mode == "face")


class Operations(TorchDispatchMode):
    """Counts what PyTorch is asked for, each of which is a launch on a GPU, or at least work for its thread."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_a_chunk_is_marked_and_brought_back_in_the_operations_of_a_frame() -> None:
    marks, raster = Marks("on", PUBLIC_KEY, Payload(1)), TensorRaster(torch.device("cpu"))
    frames = [torch.full((72, 96, 3), 10 * number, dtype=torch.uint8) for number in range(16)]
    marks.mark_frames(frames[:1])  # draws the pattern
    counts = []
    for number in (1, 16):
        with Operations() as operations:
            raster.download(marks.mark_frames(frames[:number]), (ColorTags(), "left"))
        counts.append(operations.count)
    assert counts[0] == counts[1]


def test_a_key_of_ones_own_hides_the_mark_from_others_and_jobs_differ(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    large_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    key = tmp_path / "studio.key"
    key.write_text(new_key_text("studio"))
    retalker = make_retalker(output={"codec": "ffv1", "mark_key": str(key)})
    video, speech = str(make_video(large_frames)), str(make_speech(0.24))
    jobs = [BatchJob(video, speech, str(tmp_path / f"{name}.mkv")) for name in "ab"]
    assert run_jobs(retalker, jobs, tmp_path / "reports") == []
    told = [json.loads((tmp_path / "reports" / f"{name}.json").read_text())["mark"] for name in "ab"]
    assert told[0]["key"] == "studio" and told[0]["job"] != told[1]["job"]
    for place, job in zip(told, jobs, strict=True):
        found = detect_video(job.outfile, load_key(key), quiet=True)
        assert found.payload is not None and found.payload.text == place["payload"]
    assert not detect_video(jobs[0].outfile, quiet=True).found


def test_a_missing_key_stops_the_job_before_the_work(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tools,
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"mark_key": str(tmp_path / "gone.key")})
    with pytest.raises(UserError, match="cannot read the key file"):
        retalker.dub(make_video(talking_frames), make_speech(0.28), tmp_path / "out.mp4")
    assert tools.loads == 0


def test_fresh_marks_follow_the_settings() -> None:
    assert Marks.from_config(OutputConfig(mark="off")) is None
    first, second = (Marks.from_config(OutputConfig()) for _ in range(2))
    assert first is not None and second is not None
    assert first.payload != second.payload and first.key == PUBLIC_KEY

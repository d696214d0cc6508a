"""Pass 1 in a process of its own, against pass 1 in this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import fields
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_landmarks
from fakes import FakeTools

from videoretalking.core.errors import UserError
from videoretalking.faces.pieces import Piece
from videoretalking.media.video import VideoReader
from videoretalking.pipeline import Retalker, apart
from videoretalking.pipeline.analyze import begin_analysis, find_pieces
from videoretalking.pipeline.apart import FORCE_VARIABLE, PassOne, begin_apart, find_apart
from videoretalking.pipeline.config import AnalysisConfig

MakeFile = Callable[..., Path]


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[PassOne]:
    monkeypatch.setenv(FORCE_VARIABLE, "process")
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))  # for the fakes, over there
    process = begin_apart(FakeTools(), torch.device("cpu"))
    assert process is not None
    yield process
    process.close()


@pytest.fixture
def video(make_video: MakeFile) -> Path:
    """Three shots, so three pieces."""
    talking = [face_frame(face_landmarks(30 + index % 8, 20, 80), 160, 128) for index in range(20)]
    return make_video([*talking, *(255 - frame for frame in talking), *talking])


def _assert_same(found: list[tuple[Piece, float]], expected: list[tuple[Piece, float]]) -> None:
    assert len(found) == len(expected) == 3
    for (piece, duration), (want, wanted_duration) in zip(found, expected, strict=True):
        assert duration == wanted_duration and piece.whole == want.whole
        assert np.array_equal(piece.times, want.times) and np.array_equal(piece.shots, want.shots)
        assert len(piece.tracks) == len(want.tracks)
        for track, wanted in zip(piece.tracks, want.tracks, strict=True):
            for field in fields(track):
                assert np.array_equal(getattr(track, field.name), getattr(wanted, field.name)), field.name


def test_the_process_finds_what_is_found_here(process: PassOne, video: Path) -> None:
    arguments = VideoReader(video), AnalysisConfig()
    here = FakeTools()
    found = list(find_apart(process, *arguments, here))
    assert here.loads == 0  # nothing of it was done here
    _assert_same(found, list(find_pieces(*arguments, FakeTools())))
    assert any(track.present.any() for track in found[-1][0].tracks)


def test_what_a_process_that_dies_left_is_done_here(
    process: PassOne, video: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = VideoReader(video), AnalysisConfig()
    with caplog.at_level(logging.INFO):
        found = []
        for item in find_apart(process, *arguments, FakeTools()):
            found.append(item)
            process.close()
    _assert_same(found, list(find_pieces(*arguments, FakeTools())))
    assert "pass 1 goes on in this process" in caplog.text
    # and so is the next video
    _assert_same(list(find_apart(process, *arguments, FakeTools())), found)


def test_what_a_process_fails_at_is_tried_here(video: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = VideoReader(video), AnalysisConfig()
    expected = list(find_pieces(*arguments, FakeTools()))
    closed = []

    class Full:
        """A process without memory after the first piece."""

        def __call__(self, job: object) -> Iterator[tuple[Piece, float]]:
            yield expected[0]
            raise torch.OutOfMemoryError("CUDA out of memory")

        close = staticmethod(lambda: closed.append(True))

    found = list(find_apart(Full(), *arguments, FakeTools()))  # type: ignore[arg-type]
    _assert_same(found, expected)
    assert closed and "its own failed: OutOfMemoryError: CUDA out of memory" in caplog.text


def test_two_videos_at_a_time_share_the_work(process: PassOne, video: Path) -> None:
    arguments = VideoReader(video), AnalysisConfig()
    here = FakeTools()
    with closing(find_apart(process, *arguments, FakeTools())) as first:
        found = list(islice(first, 1))
        _assert_same(list(find_apart(process, *arguments, here)), [*found, *first])
    assert here.loads == 1


def test_a_video_that_cannot_be_read_says_so(process: PassOne, tmp_path: Path, video: Path) -> None:
    missing = VideoReader(video)
    missing.path = tmp_path / "gone.mkv"
    with pytest.raises(UserError, match=r"gone\.mkv"):
        list(find_apart(process, missing, AnalysisConfig(), FakeTools()))


def test_pass_2_begins_with_the_first_shot_of_it(process: PassOne, video: Path) -> None:
    find = partial(find_apart, process)
    with closing(begin_analysis(video, AnalysisConfig(), FakeTools(), find=find)) as running:
        running.go_on()
        assert running.result is None and 0 < running.ready < 20
        assert len(running.finish().times) == 60


def test_a_dub_is_the_same_with_it(
    make_retalker: Callable[..., Retalker], make_speech: MakeFile, process: PassOne, video: Path
) -> None:
    retalker = make_retalker(render={"neutralize": False, "enhance": False}, runtime={"refresh": True})
    speech = make_speech(2.4)
    expected = list(retalker.frames(video, speech))
    retalker.pass_1 = process
    found = list(retalker.frames(video, speech))
    assert len(found) == len(expected) == 60
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))
    assert [frame.report for frame in found] == [frame.report for frame in expected]


def test_a_machine_without_memory_or_without_python_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    tools, device = FakeTools(), torch.device("cpu")
    assert begin_apart(tools, device) is None  # both passes use all cores of a CPU
    monkeypatch.setattr(apart, "Companion", lambda build: build)
    gpu = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for gigabytes, there in ((8, False), (80, True)):
        free = {torch.device("cuda:1"): (gigabytes << 30, 80 << 30)}
        monkeypatch.setattr(torch.cuda, "mem_get_info", free.__getitem__)
        build = begin_apart(tools, gpu)
        assert (build is not None) == there
    assert build.args[1] == "cuda:1"  # type: ignore[union-attr]
    monkeypatch.setenv(FORCE_VARIABLE, "thread")
    assert begin_apart(tools, gpu) is None
    monkeypatch.setenv(FORCE_VARIABLE, "process")
    assert begin_apart(tools, device) is not None
    monkeypatch.setattr("sys.frozen", True, raising=False)
    assert begin_apart(tools, device) is None
    monkeypatch.delattr("sys.frozen")
    monkeypatch.setattr("sys.executable", None)
    assert begin_apart(tools, device) is None

"""Pass 2 that begins while pass 1 goes on, against the two passes one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeWeights
from drawn_face import face_frame, face_landmarks
from fakes import FakeDetector, FakeTools, NetworkTools

from videoretalking.core.coefficients import Drive
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import INNER_LIP_GAP, NOSE_TIP
from videoretalking.faces.types import Face
from videoretalking.media.video import VideoWriter
from videoretalking.pipeline import Retalker
from videoretalking.pipeline.analyze import Find, begin_analysis, find_pieces
from videoretalking.pipeline.apart import find_beside
from videoretalking.pipeline.config import AnalysisConfig
from videoretalking.pipeline.render import RenderedFrame, Renderer
from videoretalking.pipeline.stream import Stopwatch

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]

LIGHT = {"neutralize": False, "enhance": False}


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces within a shot after 25 frames, each of 5 or more."""
    monkeypatch.setattr("videoretalking.faces.pieces._STEP", 5)
    monkeypatch.setattr("videoretalking.faces.pieces._LEAST", 25)
    monkeypatch.setattr("videoretalking.faces.pieces._LEAST_TO_FIT", 25)


@pytest.fixture
def whole_shots(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Switches to pieces that end with their shot alone."""
    return lambda: monkeypatch.setattr("videoretalking.faces.pieces._STEP", 10_000)


def _talking(count: int, x: int = 30) -> list[np.ndarray]:
    return [face_frame(face_landmarks(x + index % 8, 20, 80), 160, 128) for index in range(count)]


def _faceless(count: int) -> list[np.ndarray]:
    return [255 - frame for frame in _talking(count)]  # other colors: a cut on both sides


def _assert_same(found: list[RenderedFrame], expected: list[RenderedFrame], levels: int) -> None:
    assert len(found) == len(expected)
    for frame, want in zip(found, expected, strict=True):
        assert np.abs(frame.image.astype(int) - want.image).max() <= levels
        assert (frame.time, frame.duration) == (want.time, want.duration)
        assert frame.report == want.report


@pytest.mark.parametrize("seconds", [0.5, 1.2])
def test_several_shots_become_what_they_become_in_turn(
    seconds: float, make_retalker: Make, make_video: MakeFile, make_speech: MakeFile
) -> None:
    frames = [*_talking(9), *_faceless(4), *_talking(8, x=50)]
    video, speech = make_video(frames), make_speech(seconds)
    retalker = make_retalker(runtime={"refresh": True})
    found = list(retalker.frames(video, speech))
    assert [len(frame.report.faces) for frame in found[:21]] == [1] * 9 + [0] * 4 + [1] * 8
    assert len(found) == max(21, round(25 * seconds))  # longer speech: back and forth
    retalker.in_turn = True
    _assert_same(found, list(retalker.frames(video, speech)), levels=0)


def test_a_long_shot_in_pieces_becomes_what_the_whole_shot_becomes(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, whole_shots: Callable[[], None]
) -> None:
    """Rows of a network are each frame's own."""
    video, speech = make_video(_talking(60)), make_speech(2.4)
    retalker = make_retalker(runtime={"refresh": True})
    retalker.tools = NetworkTools(FakeDetector())
    in_pieces = list(retalker.frames(video, speech))
    whole_shots()
    _assert_same(in_pieces, list(retalker.frames(video, speech)), levels=1)


def test_resting_mouths_do_not_depend_on_how_far_pass_1_is(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    tools: FakeTools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A closed mouth within reach is found by both, one beyond it by neither."""
    find = tools.detector.detect

    def detect(frame: np.ndarray, thorough: bool = False) -> list[Face]:
        faces = find(frame, thorough)
        for face in faces:  # open further the further to the right, so that it closes in steps
            face.landmarks[INNER_LIP_GAP[1], 1] += face.landmarks[NOSE_TIP, 0] - 60
        return faces

    monkeypatch.setattr(tools.detector, "detect", detect)
    monkeypatch.setattr(FakeWeights, "drive", Drive(from_rest=True))
    for module in ("render", "stages.rest"):
        monkeypatch.setattr(f"videoretalking.pipeline.{module}.AHEAD", 12)
    fetched: list[int] = []
    frame = Renderer._frame
    monkeypatch.setattr(
        Renderer, "_frame", lambda self, number: fetched.append(number) or frame(self, number)
    )
    frames = [face_frame(face_landmarks(46 - index // 4, 20, 80), 160, 128) for index in range(60)]
    retalker = make_retalker(runtime={"refresh": True})
    video, speech = make_video(frames), make_speech(3.0)  # the end is played backwards
    found = list(retalker.frames(video, speech))
    early, fetched[:] = fetched[:], []
    retalker.in_turn = True
    expected = list(retalker.frames(video, speech))
    assert early == fetched and early and max(early) < 12
    assert len(found) == len(expected) == 75
    for mine, want in zip(found, expected, strict=True):  # one identity was fitted to fewer frames
        assert np.abs(mine.image.astype(int) - want.image).mean() < 0.5


def test_the_face_model_is_fitted_to_the_first_piece(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    whole_shots: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("videoretalking.faces.pieces._LEAST_TO_FIT", 45)
    video, speech = make_video(_talking(60)), make_speech(2.4)
    retalker = make_retalker(runtime={"refresh": True})
    in_pieces = list(retalker.frames(video, speech))
    whole_shots()
    for frame, want in zip(in_pieces, retalker.frames(video, speech), strict=True):
        assert np.abs(frame.image.astype(int) - want.image).mean() < 0.5
        assert np.allclose(frame.report.faces[0].pose, want.report.faces[0].pose, atol=2.0)


def test_frames_come_while_pass_1_goes_on_and_it_never_runs_away(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, tools: FakeTools, tmp_path: Path
) -> None:
    video, speech = make_video(_talking(90)), make_speech(3.6)
    retalker = make_retalker(batch_size=2, render=LIGHT)
    ahead = [
        tools.detector.calls // 2 - place for place, _ in enumerate(retalker.frames(video, speech))
    ]  # each frame is searched and followed
    assert 25 <= ahead[0] < 60
    assert max(ahead) < 60
    assert retalker.analyze(video).cached
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [retalker.analyze(video).key]


@pytest.mark.parametrize(
    "render", [{"pad": "cut"}, {"one_shot": True}, {"face": "all"}, {"face": "1"}], ids=str
)
def test_what_needs_the_whole_of_pass_1_waits_for_it(
    render: dict[str, object],
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
) -> None:
    frames, empty = _talking(60), np.zeros((128, 160, 3), np.uint8)
    # the second face comes late
    others = [empty if index < 45 else frame for index, frame in enumerate(frames)]
    wide = [np.concatenate(pair, axis=1) for pair in zip(frames, others, strict=True)]
    retalker = make_retalker(render=LIGHT | render)
    stream = retalker.frames(make_video(wide), make_speech(2.4))
    next(iter(stream))
    (folder,) = Path(str(retalker.config.runtime.cache_dir)).iterdir()
    assert (folder / "analysis.json").exists()
    stream.close()  # type: ignore[attr-defined]


def test_a_failure_late_in_pass_1_leaves_nothing(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    tools: FakeTools,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video, speech, retalker = make_video(_talking(90)), make_speech(3.6), make_retalker(render=LIGHT)
    written = []
    original = VideoWriter._encode
    monkeypatch.setattr(
        VideoWriter, "_encode", lambda *arguments: (written.append(1), original(*arguments))[1]
    )
    monkeypatch.setattr(tools, "detector", Broken(after=140))
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the detector broke"):
        retalker.dub(video, speech, tmp_path / "out.mp4")
    assert written  # pass 2 was at work
    assert not list(tmp_path.glob("*out*")) and not (tmp_path / "cache").exists()
    assert threading.active_count() == before


class Broken(FakeDetector):
    """A detector that breaks after so many searches."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        if self.calls >= self.after:
            raise RuntimeError("the detector broke")
        return super().detect(frame, thorough)


def test_pass_2_waits_for_the_first_face(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, tools: FakeTools, tmp_path: Path
) -> None:
    video, speech = make_video([*_faceless(60), *_talking(40)]), make_speech(4.0)
    retalker = make_retalker(render=LIGHT)
    found = list(retalker.frames(video, speech))
    assert [len(frame.report.faces) for frame in found] == [0] * 60 + [1] * 40
    faceless = make_video(_faceless(80), name="faceless.mkv")
    with pytest.raises(UserError, match=r"faceless\.mkv: no face"):
        retalker.dub(faceless, speech, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_the_stream_can_be_left_while_pass_1_goes_on(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile
) -> None:
    before = threading.active_count()
    stream = make_retalker(render=LIGHT).frames(make_video(_talking(90)), make_speech(3.6))
    next(iter(stream))
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_report_tells_the_passes_apart(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, tmp_path: Path
) -> None:
    video, speech, retalker = make_video(_talking(60)), make_speech(2.4), make_retalker(render=LIGHT)
    retalker.stopwatch = Stopwatch()
    report = retalker.dub(video, speech, tmp_path / "out.mp4")
    assert len(report.frames) == 60 and report.notes == []
    assert report.seconds["analyze"] == pytest.approx(retalker.stopwatch.seconds["analyze"], abs=0.1)
    assert report.seconds["render"] > 0
    again = retalker.dub(video, speech, tmp_path / "out.mp4")
    assert again.notes == ["face tracks came from the cache"] and again.frames == report.frames


@pytest.mark.parametrize("find", [find_pieces, find_beside])
def test_pass_1_in_a_thread_of_its_own_finds_the_same(find: Find, make_video: MakeFile) -> None:
    video = make_video(_talking(80))
    with closing(begin_analysis(video, AnalysisConfig(), FakeTools(), find=find)) as running:
        known = []
        while running.result is None:
            running.go_on()
            known.append(running.ready)
    assert known == sorted(known) and known[0] < known[-1] == 79
    (track,) = running.result.tracks
    assert track.present.all() and len(track) == 80 and running.result.last_duration == pytest.approx(0.04)

"""Frames that come one after the other: what the stream gives against what the two passes give."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import FakeWeights
from drawn_face import face_frame, face_landmarks
from fakes import FakeTools

from videoretalking.core.coefficients import Drive
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import INNER_LIP_GAP, NOSE_TIP
from videoretalking.faces.types import Face
from videoretalking.media.audio import load_waveform
from videoretalking.pipeline import Retalker
from videoretalking.pipeline.render import Renderer

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]


def _talking(count: int, x: int = 30) -> list[np.ndarray]:
    return [face_frame(face_landmarks(x + index % 8, 20, 80), 160, 128) for index in range(count)]


def test_the_stream_gives_the_frames_of_the_two_passes(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile
) -> None:
    other_scene = [255 - frame for frame in _talking(6)]  # no face, and other colors: a cut on both sides
    frames = [*_talking(9), *other_scene, *_talking(8, x=50)]
    speech = make_speech(len(frames) / 25)
    retalker = make_retalker()
    expected = list(retalker.frames(make_video(frames), speech))
    found = list(retalker.stream(iter(frames), load_waveform(speech), fps=25.0, look_ahead=10))
    assert len(found) == len(expected) == len(frames)
    assert [len(frame.report.faces) for frame in found] == [1] * 9 + [0] * 6 + [1] * 8
    for frame, want in zip(found, expected, strict=True):
        # batches of other sizes round otherwise
        assert np.abs(frame.image.astype(int) - want.image).max() <= 1
        assert frame.time == pytest.approx(want.time) and frame.duration == pytest.approx(want.duration)
        assert (frame.report.index, frame.report.source) == (want.report.index, want.report.source)
        assert frame.report.faces == want.report.faces
    assert not np.array_equal(found[3].image, frames[3])


def test_what_stands_in_is_the_same_in_the_stream(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    tools: FakeTools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A D-Net that wants faces with a resting mouth gets them from later frames here and there."""
    openings = [9.0, 7.0, 8.0, 0.0, 9.0, 6.0, 8.0, 9.0]  # by the place of the nose
    find = tools.detector.detect

    def detect(frame: np.ndarray, thorough: bool = False) -> list[Face]:
        faces = find(frame, thorough)
        for face in faces:
            face.landmarks[INNER_LIP_GAP[1], 1] += openings[round(face.landmarks[NOSE_TIP, 0]) % 8]
        return faces

    monkeypatch.setattr(tools.detector, "detect", detect)
    monkeypatch.setattr(FakeWeights, "drive", Drive(from_rest=True))
    fetched: list[int] = []
    frame = Renderer._frame
    monkeypatch.setattr(
        Renderer, "_frame", lambda self, number: fetched.append(number) or frame(self, number)
    )
    frames = _talking(10)
    speech = make_speech(len(frames) / 25)
    retalker = make_retalker()
    expected = list(retalker.frames(make_video(frames), speech))
    found = list(retalker.stream(iter(frames), load_waveform(speech), fps=25.0, look_ahead=10))
    assert fetched and fetched[: len(fetched) // 2] == fetched[len(fetched) // 2 :]
    for mine, want in zip(found, expected, strict=True):
        assert np.abs(mine.image.astype(int) - want.image).max() <= 1
    monkeypatch.setattr(FakeWeights, "drive", Drive())
    plain = list(make_retalker().frames(make_video(frames), speech))
    assert any(
        not np.array_equal(mine.image, other.image) for mine, other in zip(expected, plain, strict=True)
    )


def test_a_long_shot_comes_with_the_stated_latency(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile
) -> None:
    frames, look_ahead = _talking(64), 40
    speech = make_speech(len(frames) / 25)
    taken = 0

    def camera() -> Iterator[np.ndarray]:
        nonlocal taken
        for frame in frames:
            taken += 1
            yield frame

    retalker = make_retalker()
    found, seen = [], []
    for frame in retalker.stream(camera(), load_waveform(speech), 25.0, look_ahead):
        seen.append(taken)
        found.append(frame)
    assert seen[0] == look_ahead + 1
    assert all(count <= index + look_ahead + 1 for index, count in enumerate(seen))
    assert seen[-1] == len(frames)
    expected = list(retalker.frames(make_video(frames), speech))
    assert len(found) == len(expected)
    for frame, want in zip(found, expected, strict=True):
        # one identity of the face model is fitted to the first frames, the other to all of them
        assert np.abs(frame.image.astype(int) - want.image).mean() < 0.5
        assert np.allclose(frame.report.faces[0].pose, want.report.faces[0].pose, atol=2.0)


def test_a_face_that_does_not_come_leaves_the_frames_as_they_are(
    make_retalker: Make, make_speech: MakeFile
) -> None:
    frames, wave = _talking(5), load_waveform(make_speech(0.2))
    for retalker, stream in (
        (make_retalker(render={"face": "1"}), frames),
        (make_retalker(), [np.zeros_like(frames[0])] * 5),
    ):
        found = list(retalker.stream(stream, wave))
        assert all(np.array_equal(one.image, frame) for one, frame in zip(found, stream, strict=True))


def test_mistakes_are_named(make_retalker: Make) -> None:
    retalker, frames, wave = make_retalker(), _talking(3), np.zeros(16_000, np.float32)
    for arguments, message in (
        ((frames, np.zeros((2, 100))), "one dimension"),
        ((frames, []), "one dimension"),
        ((frames, wave, 0.0), "fps above 0"),
        ((frames, wave, 25.0, 1), "look-ahead of 2"),
        (([frames[0], frames[0][:-2]], wave), "frame 1 of the stream has the size"),
        (([frames[0].astype(np.float32)], wave), "frame 0 of the stream is no"),
    ):
        with pytest.raises(UserError, match=message):
            list(retalker.stream(*arguments))
    with pytest.raises(UserError, match="unknown face choice"):
        list(make_retalker(render={"face": "biggest"}).stream(frames, wave))

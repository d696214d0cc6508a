from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_landmarks
from fakes import TINY

from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError
from videoretalking.core.locations import ROOT
from videoretalking.faces.align import box_crop, extract, lipsync_box
from videoretalking.faces.trust import LIMITS
from videoretalking.media.images import save_image
from videoretalking.media.video import VideoReader, VideoWriter
from videoretalking.models.catalog import build_network, save_network
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.lnet import LNetConfig, Painting
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline import schedule as schedule_module
from videoretalking.pipeline.config import WeightsConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.networks import Networks, load_networks
from videoretalking.pipeline.render import Renderer
from videoretalking.pipeline.stages.enhance import Enhancer
from videoretalking.pipeline.stages.lipsync import LipSyncer
from videoretalking.pipeline.weights import Weights

Make = Callable[..., Retalker]
MakeFile = Callable[..., Path]


def _images(path: Path) -> list[np.ndarray]:
    with VideoReader(path) as reader:
        return [frame.image for frame in reader]


def _outside(landmarks: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    x1, y1, x2, y2 = lipsync_box(landmarks)
    mask = np.ones(shape[:2], bool)
    mask[max(int(y1) - 1, 0) : int(y2) + 2, max(int(x1) - 1, 0) : int(x2) + 2] = False
    return mask


def test_the_mouth_region_changes_and_the_rest_keeps_its_bytes(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    frames = list(make_retalker().frames(make_video(talking_frames), make_speech(0.28)))
    assert [frame.report.index for frame in frames] == list(range(7))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(7) * 0.04, atol=1e-6)
    for index, (frame, original) in enumerate(zip(frames, talking_frames, strict=True)):
        landmarks = face_landmarks(30 + index, 20, 80)
        outside = _outside(landmarks, original.shape)
        assert np.array_equal(frame.image[outside], original[outside])
        x, y = landmarks[62].astype(int)
        assert not np.array_equal(
            frame.image[y - 3 : y + 3, x - 5 : x + 5], original[y - 3 : y + 3, x - 5 : x + 5]
        )


def test_the_identity_comes_from_the_frame_itself(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    class Spy(ENet):
        def __init__(self) -> None:
            super().__init__(ENetConfig(16, (4, 4, 4), 8, (4, 4)))
            self.seen: list[torch.Tensor] = []
            self.identity_encoder.register_forward_hook(lambda *call: self.seen.append(call[1][0]))

    spy = Spy().eval().requires_grad_(False)
    retalker = make_retalker(networks_={"enet": spy}, render={"identity_every": 1})
    analysis = retalker.analyze(make_video(talking_frames[:3]))
    list(retalker.frames(analysis, make_speech(0.12)))
    crop = box_crop(analysis.tracks[0].boxes[0], (384, 384))
    expected = torch.from_numpy(extract(talking_frames[0], crop)).permute(2, 0, 1) / 255.0
    torch.testing.assert_close(torch.cat(spy.seen)[0], expected)


def test_dub_writes_a_file_and_a_report(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"codec": "ffv1", "mark": "off"})
    report = retalker.dub(make_video(talking_frames), make_speech(0.28), tmp_path / "out.mkv")
    streamed = list(retalker.frames(make_video(talking_frames), make_speech(0.28)))
    assert all(
        np.array_equal(image, frame.image)
        for image, frame in zip(_images(tmp_path / "out.mkv"), streamed, strict=True)
    )
    report.save(tmp_path / "report.json")
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["summary"]["frames"] == 7
    assert content["summary"]["faces_edited"] == 7
    face = content["frames"][3]["faces"][0]
    assert face["score"] == pytest.approx(0.9)
    assert len(face["pose"]) == 3
    assert content["settings"]["render"]["pad"] == "pingpong"


def test_faceless_frames_pass_through_and_are_listed(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    black = [np.zeros_like(talking_frames[0])] * 8
    frames = [*black[:2], *talking_frames, *black, *talking_frames]
    retalker = make_retalker(output={"codec": "ffv1", "mark": "off"})
    report = retalker.dub(make_video(frames), make_speech(0.9), tmp_path / "out.mkv")
    assert report.summary()["untouched"] == "0-1, 9-16"
    result = _images(tmp_path / "out.mkv")
    assert len(result) == len(frames)
    for index in report.untouched:
        assert np.array_equal(result[index], frames[index])
    assert not np.array_equal(result[5], frames[5])


def test_a_video_without_a_face_is_refused_without_a_trace(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, tmp_path: Path
) -> None:
    video = make_video([np.zeros((64, 64, 3), np.uint8)] * 4)
    with pytest.raises(UserError, match=r"face\.mkv: no face"):
        make_retalker().dub(video, make_speech(0.2), tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


def test_pass_1_is_done_once_for_the_same_content_and_settings(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray], tools
) -> None:
    video = make_video(talking_frames)
    first = make_retalker().analyze(video)
    assert not first.cached and tools.loads == 1
    again = make_retalker().analyze(video.rename(video.with_name("renamed.mkv")))
    assert again.cached and tools.loads == 1
    assert np.array_equal(again.tracks[0].landmarks, first.tracks[0].landmarks)
    assert np.array_equal(again.times, first.times)
    assert not make_retalker(analysis={"smooth": False}).analyze(again.path).cached
    assert not make_retalker(runtime={"refresh": True}).analyze(again.path).cached
    changed = make_video(talking_frames[:5], name="renamed.mkv")
    assert not make_retalker().analyze(changed).cached


def test_a_damaged_cache_is_not_trusted(
    make_retalker: Make, make_video: MakeFile, talking_frames: list[np.ndarray], tmp_path: Path
) -> None:
    video = make_video(talking_frames)
    make_retalker().analyze(video)
    (track,) = (tmp_path / "cache").glob("*/track_000.npz")
    track.write_bytes(track.read_bytes()[:100])
    analysis = make_retalker().analyze(video)
    assert not analysis.cached
    assert analysis.tracks[0].present.all()


def test_a_run_killed_in_pass_2_leaves_no_file_and_keeps_pass_1(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
    tools,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retalker = make_retalker(output={"mark": "off"})
    video, speech = make_video(talking_frames), make_speech(0.28)
    with monkeypatch.context() as patch:
        patch.setattr("videoretalking.pipeline.stages.composite.Compositor.__call__", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            retalker.dub(video, speech, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))
    assert retalker.dub(video, speech, tmp_path / "out.mp4").notes == ["face tracks came from the cache"]
    assert tools.loads == 1


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_the_stream_can_be_left_early(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    stream = make_retalker().frames(make_video(talking_frames), make_speech(0.28))
    next(stream)
    stream.close()  # type: ignore[attr-defined]


def test_frames_never_pile_up(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded = []
    original = schedule_module.frames_in_order

    def counted(*arguments):  # type: ignore[no-untyped-def]
        for image in original(*arguments):
            decoded.append(1)
            yield image

    monkeypatch.setattr("videoretalking.pipeline.render.frames_in_order", counted)
    retalker = make_retalker(batch_size=1, render={"neutralize": False, "enhance": False})
    ahead = [
        len(decoded) - place
        for place, _ in enumerate(retalker.frames(make_video(talking_frames * 6), make_speech(1.6)))
    ]
    assert max(ahead) <= 12  # three stages with queues of one chunk, and of two between the networks


@pytest.mark.parametrize(
    ("pad", "sources"), [("pingpong", [5, 4, 3]), ("loop", [0, 1, 2]), ("hold", [6, 6, 6]), ("cut", [])]
)
def test_speech_longer_than_the_picture(
    pad: str,
    sources: list[int],
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
) -> None:
    retalker = make_retalker(render={"pad": pad, "enhance": False, "neutralize": False})
    frames = list(retalker.frames(make_video(talking_frames), make_speech(0.40)))
    assert [frame.report.source for frame in frames] == [*range(7), *sources]
    outside = _outside(face_landmarks(30, 20, 90), talking_frames[0].shape)
    for frame in frames:
        original = talking_frames[frame.report.source]
        assert np.array_equal(frame.image[outside], original[outside])


def test_a_still_image_speaks(make_retalker: Make, make_speech: MakeFile, tmp_path: Path) -> None:
    frame = face_frame(face_landmarks(30, 20, 80), 160, 128)
    save_image(tmp_path / "portrait.png", frame)
    retalker = make_retalker(output={"codec": "ffv1"}, analysis={"still_fps": 20.0})
    report = retalker.dub(tmp_path / "portrait.png", make_speech(0.5), tmp_path / "out.mkv")
    assert [entry.source for entry in report.frames] == [0] * 10
    with VideoReader(tmp_path / "out.mkv") as reader:
        images = [item.image for item in reader]
        assert reader.info.fps == 20
    assert any(not np.array_equal(images[0], image) for image in images[1:])  # the speech moves it


def test_choice_of_the_face(make_retalker: Make, make_video: MakeFile, make_speech: MakeFile) -> None:
    large, small = face_landmarks(10, 20, 80), face_landmarks(130, 20, 60)
    frame = face_frame(large, 220, 128)
    frame[:, 115:] = face_frame(small, 220, 128)[:, 115:]
    video, speech = make_video([frame] * 4), make_speech(0.16)

    def changed(face: str) -> tuple[bool, bool]:
        retalker = make_retalker(render={"face": face, "enhance": False, "neutralize": False})
        image = next(iter(retalker.frames(video, speech))).image
        different = (image != frame).any(axis=2)
        return bool(different[:, :115].any()), bool(different[:, 115:].any())

    assert changed("largest") == changed("0") == (True, False)
    assert changed("1") == (False, True)
    assert changed("all") == (True, True)
    with pytest.raises(UserError, match="face 2 does not exist"):
        changed("2")


def test_search_region(make_retalker: Make, make_video: MakeFile, make_speech: MakeFile) -> None:
    left, right = face_landmarks(5, 20, 80), face_landmarks(120, 20, 80)
    frame = face_frame(left, 220, 128)
    frame[:, 110:] = face_frame(right, 220, 128)[:, 110:]
    video = make_video([frame] * 4)
    (track,) = make_retalker(analysis={"region": (0, -1, 110, -1)}).analyze(video).tracks
    np.testing.assert_allclose(track.landmarks[0], right, atol=3)
    with pytest.raises(UserError, match="--crop"):
        make_retalker(analysis={"region": (0, -1, 500, 600)}).analyze(video)


@pytest.mark.parametrize(
    "render",
    [
        {"expression": "smile"},
        {"expression_blend": 0.6},
        {"one_shot": True},
        {"neutralize": False},
        {"enhance": False},
        {"identity_every": 1},
        {"color_match": 0.0},
    ],
)
def test_settings_change_pixels(
    render: dict[str, object],
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
) -> None:
    video, speech = make_video(talking_frames[:4]), make_speech(0.16)
    usual, changed = (
        [frame.image for frame in make_retalker(render=settings).frames(video, speech)]
        for settings in ({}, render)
    )
    assert any(not np.array_equal(a, b) for a, b in zip(usual, changed, strict=True))


def test_faces_nearly_in_profile_keep_their_pixels_and_the_report_says_so(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video, speech = make_video(talking_frames[:3]), make_speech(0.12)
    monkeypatch.setitem(LIMITS, "fake", (4.0, 5.0))  # the confidence of the fake detector is less
    monkeypatch.setattr("videoretalking.faces.trust.TURNED", -1.0)  # the fake face is a frontal one
    for keep in (True, False):
        frames = list(make_retalker(render={"keep_profiles": keep}).frames(video, speech))
        same = [np.array_equal(a.image, b) for a, b in zip(frames, talking_frames[:3], strict=True)]
        told = ["profile" in frame.report.faces[0].fallback for frame in frames]
        assert same == told == [keep] * 3


@pytest.mark.parametrize("emotion", ["sad", "angry", "surprise"])
def test_upper_face_emotions_change_the_upper_face(
    emotion: str,
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
) -> None:
    ganimation = build_network("ganimation", {"width": 4, "num_blocks": 1}).eval()
    retalker = make_retalker(networks_={"ganimation": ganimation}, render={"upper_face": emotion})
    frame = next(iter(retalker.frames(make_video(talking_frames[:3]), make_speech(0.12))))
    eyes = face_landmarks(30, 20, 80)[36:48].astype(int)
    rows, columns = slice(*eyes[:, 1][[1, 4]]), slice(eyes[:, 0].min(), eyes[:, 0].max())
    assert not np.array_equal(frame.image[rows, columns], talking_frames[0][rows, columns])


def test_the_restorer_changes_the_mouth_only(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    class White(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = type("Config", (), {"image_size": 128})

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.ones_like(image)

    video, speech = make_video(talking_frames[:3]), make_speech(0.12)
    plain = next(iter(make_retalker(render={"color_match": 0.0}).frames(video, speech))).image.astype(int)
    white = next(
        iter(
            make_retalker(networks_={"restorer": White()}, render={"color_match": 0.0}).frames(video, speech)
        )
    ).image.astype(int)
    half = make_retalker(networks_={"restorer": White()}, render={"restore": 0.5, "color_match": 0.0})
    gray = next(iter(half.frames(video, speech))).image.astype(int)
    landmarks = face_landmarks(30, 20, 80).astype(int)
    x, y = landmarks[62]
    assert white[y, x].min() > 240
    assert plain[y, x].min() < gray[y, x].min() < white[y, x].min()
    far = np.s_[: landmarks[33, 1] - 8]
    assert np.abs(white[far] - plain[far]).max() <= 2


def test_the_lips_are_those_of_enet_whatever_share_lnet_painted(
    monkeypatch: pytest.MonkeyPatch,
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
) -> None:
    def paint_nothing(self: LipSyncer, audio: torch.Tensor, frames: torch.Tensor, _: object) -> Painting:
        faces = frames[..., ::4, ::4]
        return Painting(faces, torch.zeros_like(faces[:, :1]), torch.zeros_like(faces[:, :2]))

    def white(
        self: Enhancer, faces: object, low: torch.Tensor, identity: torch.Tensor, _: object
    ) -> torch.Tensor:
        return torch.ones_like(identity)

    monkeypatch.setattr(LipSyncer, "__call__", paint_nothing)
    monkeypatch.setattr(Enhancer, "__call__", white)
    retalker = make_retalker(render={"color_match": 0.0, "neutralize": False})
    frame = next(iter(retalker.frames(make_video(talking_frames[:3]), make_speech(0.12)))).image
    landmarks = face_landmarks(30, 20, 80).astype(int)
    for x, y in landmarks[[51, 57, 62]]:
        assert frame[y, x].min() > 200
    chin, original = (
        frame[landmarks[8, 1] - 5, landmarks[8, 0]],
        talking_frames[0][landmarks[8, 1] - 5, landmarks[8, 0]],
    )
    assert np.abs(chin.astype(int) - original).max() <= 50  # the coarse bands reach so far


def test_faint_hiss_does_not_move_the_mouth(
    make_retalker: Make, make_video: MakeFile, make_speech: MakeFile, talking_frames: list[np.ndarray]
) -> None:
    class Ears(torch.nn.Module):
        """Paints the loudness that it hears."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))
            self.config = LNetConfig()

        def forward(self, audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
            return (audio.mean(dim=(1, 2, 3)) / 8 + 0.5).view(-1, 1, 1, 1).expand(-1, 3, 96, 96)

    def brightness(gate: bool) -> list[float]:
        retalker = make_retalker(
            networks_={"lnet": Ears()},
            render={"silence_gate": gate, "neutralize": False, "enhance": False, "color_match": 0.0},
        )
        x, y = face_landmarks(30, 20, 80)[62].astype(int)
        stream = retalker.frames(make_video([talking_frames[0]] * 25), make_speech(0.5, 0.2, 2e-3))
        return [float(frame.image[y, x].mean()) for frame in stream]

    open_, gated = brightness(gate=False), brightness(gate=True)
    assert gated[0] == open_[0] > 120
    assert open_[20] > 20
    assert gated[20] < 5


def test_every_network_of_pass_2_computes_in_the_chosen_number_format(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    """The parser and the restorer too; the lip-sync expert measures and stays exact."""
    others = {
        "gfpgan": {"widths": (4, 4, 4, 4), "style_size": 8},
        "ganimation": {"width": 4, "num_blocks": 1},
        "bisenet": {"context_channels": 16, "fusion_channels": 16, "auxiliary_channels": 8},
        "lipsync_expert": {"audio_widths": (4, 4, 4, 4, 8), "face_widths": (4, 4, 4, 4, 8)},
    }
    for name, sizes in {**TINY, **others}.items():
        save_network(tmp_path / f"{name}.safetensors", build_network(name, sizes), "test")
    engine = Engine(torch.device("cpu"), torch.bfloat16, batch_size=3)
    retalker = make_retalker(render={"upper_face": "angry"})
    retalker.networks = load_networks(
        Weights("test", tmp_path, WeightsConfig()), retalker.config.render, engine
    )
    computed: dict[str, set[torch.dtype]] = {}

    def listen(name: str, network: torch.nn.Module) -> None:
        first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
        first.register_forward_hook(lambda *call: computed.setdefault(name, set()).add(call[2].dtype))

    names = [field.name for field in fields(Networks) if field.name != "engine"]
    for name in names:
        listen(name, getattr(retalker.networks, name).network)
    list(retalker.frames(make_video(talking_frames), make_speech(0.28)))
    expected = {name: {torch.bfloat16} for name in names} | {"expert": {torch.float32}}
    assert computed == expected


def test_the_networks_run_in_the_thread_that_asks(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    """The C library keeps freed memory in the main thread only: elsewhere every map would be touched anew."""
    retalker = make_retalker()
    threads: set[int] = set()
    for runner in (retalker.networks.dnet, retalker.networks.lnet, retalker.networks.enet):
        assert runner is not None
        runner.network.register_forward_hook(lambda *_: threads.add(threading.get_ident()))
    retalker.dub(make_video(talking_frames), make_speech(0.28), tmp_path / "out.mp4")
    assert threads == {threading.get_ident()}


def test_mistakes_are_found_before_the_long_work(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
    tools,
) -> None:
    video, speech = make_video(talking_frames), make_speech(0.2)
    silent = tmp_path / "silent.txt"
    silent.write_text("no sound")
    for arguments in (
        (tmp_path / "absent.mp4", speech, tmp_path / "out.mp4"),
        (video, silent, tmp_path / "out.mp4"),
        (video, speech, tmp_path / "out.docx"),
        (video, speech, speech / "out.mp4"),
    ):
        with pytest.raises(UserError):
            make_retalker().dub(*arguments)
    assert tools.loads == 0
    assert not list(tmp_path.glob("*out*"))


def test_a_result_that_is_an_input_is_refused(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker, video, speech = make_retalker(), make_video(talking_frames), make_speech(0.2)
    (tmp_path / "link.mp4").symlink_to(video)
    (tmp_path / "sound.mp4").hardlink_to(speech)
    before = video.read_bytes(), speech.read_bytes()
    places = {video: "the video", tmp_path / "link.mp4": "the video", tmp_path / "sound.mp4": "the sound"}
    for outfile, name in places.items():
        with pytest.raises(UserError, match=f"is the same file as {name}"):
            retalker.dub(video, speech, outfile)
        with pytest.raises(UserError, match=f"is the same file as {name}"):
            retalker.render(retalker.analyze(video), speech, outfile)
    report = retalker.dub(video, speech, tmp_path / "new.mp4")
    for path in (video, speech, tmp_path / "new.mp4"):
        with pytest.raises(UserError, match=r"the report .* is the same file as"):
            report.save(path)
    assert (video.read_bytes(), speech.read_bytes()) == before


@pytest.mark.parametrize(
    ("device", "cpus", "speed", "preset"),
    [
        ("cpu", 64, "auto", "medium"),
        ("cuda", 16, "auto", "superfast"),
        ("cuda", 64, "auto", "veryfast"),
        ("cuda", 16, "slow", "slow"),
    ],
)
def test_the_encoder_is_as_fast_as_the_networks(
    device: str,
    cpus: int,
    speed: str,
    preset: str,
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    presets = []

    class Spy(VideoWriter):
        def __init__(self, *args: Any, **options: Any) -> None:
            presets.append(options["preset"])
            super().__init__(*args, **options)

    monkeypatch.setattr("videoretalking.pipeline.retalker.VideoWriter", Spy)
    monkeypatch.setattr("videoretalking.pipeline.retalker.usable_cpus", lambda: cpus)
    retalker = make_retalker(output={"speed": speed})
    analysis = retalker.analyze(make_video(talking_frames))
    renderer = Renderer.__init__
    engine = replace(retalker.networks.engine, device=torch.device(device))

    def on_cpu(self: Renderer, *args: Any) -> None:  # only the encoder is to see the device
        renderer(
            self, *args[:2], replace(args[2], engine=replace(engine, device=torch.device("cpu"))), *args[3:]
        )

    monkeypatch.setattr(Renderer, "__init__", on_cpu)
    retalker.networks = replace(retalker.networks, engine=engine)
    retalker.render(analysis, make_speech(0.28), tmp_path / "out.mp4")
    assert presets == [preset]


def test_an_unknown_speed_is_named_with_those_there_are(
    make_retalker: Make,
    make_video: MakeFile,
    make_speech: MakeFile,
    talking_frames: list[np.ndarray],
    tmp_path: Path,
) -> None:
    retalker = make_retalker(output={"speed": "quick"})
    with pytest.raises(UserError, match="'quick', choose auto, ultrafast"):
        retalker.dub(make_video(talking_frames), make_speech(0.28), tmp_path / "out.mp4")


def test_the_config_of_inference_holds_the_defaults() -> None:
    written = load_config(InferenceConfig, ROOT / "configs" / "inference.yaml")
    assert written == InferenceConfig()

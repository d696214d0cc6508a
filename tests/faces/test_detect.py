"""Detection: the bundled backend with a landmark network whose behavior is known, and the choice of backend."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import face_alignment
import numpy as np
import pytest
import torch
from skimage import data

from videoretalking.core.config import load_config
from videoretalking.core.errors import UserError
from videoretalking.evaluation.config import EvaluationConfig
from videoretalking.faces import detect, detect_bundled, detect_face_alignment
from videoretalking.faces.align import landmark_crop, landmarks_box
from videoretalking.faces.detect import FaceDetector, choose_detector
from videoretalking.faces.detect_bundled import BundledDetector
from videoretalking.faces.types import Face
from videoretalking.media.picture import Picture
from videoretalking.models.catalog import build_network, save_network
from videoretalking.models.landmarks import Landmarks
from videoretalking.pipeline.flags import parse


class DiscFinder(torch.nn.Module):
    """Takes a bright green disc for a face: landmarks fit into it; no disc, no confidence."""

    def __init__(self, shape: np.ndarray) -> None:
        super().__init__()
        box = landmarks_box(shape)
        self.shape = torch.from_numpy((shape - (box[:2] + box[2:]) / 2) / (box[3] - box[1])).float()
        self.calls = 0

    def forward(self, crops: torch.Tensor) -> Landmarks:
        self.calls += 1
        assert crops.shape[1:] == (3, 128, 128) and crops.max() <= 1
        mass = ((crops[:, 1] > 0.6) & (crops[:, 0] < 0.4)).float()
        total = mass.sum(dim=(1, 2)).clamp(min=1.0)
        grid = torch.arange(128.0)
        x, y = (mass.sum(dim=1) * grid).sum(1) / total, (mass.sum(dim=2) * grid).sum(1) / total
        diameter = 2 * (total / np.pi).sqrt()
        points = self.shape * diameter[:, None, None] + torch.stack([x, y], 1)[:, None]
        return Landmarks(points, torch.where(total > 400, 5.0, -5.0))


def disc_frame(x: float, y: float, diameter: float, size: tuple[int, int] = (320, 240)) -> np.ndarray:
    frame = np.full((size[1], size[0], 3), 60, dtype=np.uint8)
    cv2.circle(frame, (round(x), round(y)), round(diameter / 2), (30, 220, 30), -1, cv2.LINE_AA)
    return frame


@pytest.fixture
def detector(frontal: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> BundledDetector:
    """A detector whose cascade proposes one box around the disc and one in the empty corner."""

    class Proposals:
        def detect_multi_scale(self, image: np.ndarray, **settings: object) -> list[dict[str, int]]:
            rows, columns = np.nonzero(image > 120)
            corner = {"r": 0, "c": 0, "width": 30, "height": 30}
            if len(rows) == 0:
                return [corner]
            width = int(np.ptp(columns)) + 1
            # a cascade's box sits higher than the face and wobbles
            return [corner, {"r": int(rows.min() - 0.1 * width), "c": int(columns.min()) + 2, "width": width}]

    monkeypatch.setattr(detect_bundled, "_load_cascade", Proposals)
    return BundledDetector(DiscFinder(frontal))


def test_detection_lands_on_the_face_in_frame_pixels(detector: BundledDetector) -> None:
    for size, diameter in (((320, 240), 100.0), ((1280, 960), 400.0)):
        faces = detector.detect(disc_frame(size[0] * 0.6, size[1] * 0.5, diameter, size))
        assert len(faces) == 1  # the corner is rejected
        center = (faces[0].box[:2] + faces[0].box[2:]) / 2
        assert np.abs(center - [size[0] * 0.6, size[1] * 0.5]).max() < 0.02 * diameter
        assert faces[0].box[3] - faces[0].box[1] == pytest.approx(diameter, rel=0.03)
        assert faces[0].landmarks is not None and faces[0].landmarks.shape == (68, 2)
        assert faces[0].score > 0.99
    assert detector.detect(np.full((240, 320, 3), 60, dtype=np.uint8)) == []


def test_following_keeps_up_with_motion_and_size_and_gives_up(detector: BundledDetector) -> None:
    face: Face | None = detector.detect(disc_frame(100, 120, 90))[0]
    network = detector.network
    assert isinstance(network, DiscFinder)
    calls = network.calls
    for step in range(12):
        assert face is not None
        x, diameter = 105 + 6 * step, 90 + 2 * step
        face = detector.follow(Picture(disc_frame(x, 120, diameter)), face)
        assert face is not None
        assert abs((face.box[0] + face.box[2]) / 2 - x) < 2
        assert face.box[3] - face.box[1] == pytest.approx(diameter, rel=0.05)
    assert network.calls - calls == 12  # one look a frame
    assert face is not None
    assert detector.follow(Picture(np.full((240, 320, 3), 60, dtype=np.uint8)), face) is None
    assert detector.follow(Picture(disc_frame(30, 30, 90)), face) is None  # jumped away


def test_two_proposals_of_one_face_become_one(
    detector: BundledDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = [np.array([110.0, 70, 210, 170]), np.array([115.0, 75, 205, 165])]
    monkeypatch.setattr(detector, "_candidates", lambda *_: boxes)
    assert len(detector.detect(disc_frame(160, 120, 100))) == 1


def test_what_was_prepared_is_not_looked_for_again(
    detector: BundledDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = [disc_frame(150 + number, 110, 80) for number in range(5)]
    expected = [detector.detect(frame) for frame in frames]
    pictures = [Picture(frame) for frame in frames]
    asked = []
    original = BundledDetector._candidates
    monkeypatch.setattr(
        BundledDetector, "_candidates", lambda self, *rest: asked.append(rest[0]) or original(self, *rest)
    )
    for number in (1, 3, 4):
        detector.prepare(pictures[number])
    asked.clear()
    for frame, (wanted,) in zip(frames, expected, strict=True):
        (found,) = detector.detect(frame)
        assert np.array_equal(found.box, wanted.box) and np.array_equal(found.landmarks, wanted.landmarks)
    assert [next(n for n in range(5) if frames[n] is frame) for frame in asked] == [0, 1, 2]  # two are kept


def test_thorough_search_goes_on_only_when_asked(
    detector: BundledDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides: list[int] = []

    def nothing(frame: np.ndarray, side: int, step: float) -> list[np.ndarray]:
        sides.append(side)
        return []

    monkeypatch.setattr(detector, "_candidates", nothing)
    frame = disc_frame(160, 120, 100)
    assert detector.detect(frame) == [] and sides == [320]
    assert detector.detect(frame, thorough=True) == [] and sides == [320, 320, 240, 640]


def test_implausible_landmarks_are_no_face(frontal: np.ndarray) -> None:
    inside = landmark_crop(frontal).to_crop(frontal).astype(np.float32)
    assert detect_bundled._plausible(inside, 128)
    assert not detect_bundled._plausible((inside - 64) * 0.4 + 64, 128)
    assert not detect_bundled._plausible(inside + 40, 128)


def test_real_cascade_proposes_the_portrait(frontal: np.ndarray) -> None:
    detector = BundledDetector(DiscFinder(frontal))
    portrait = data.astronaut()
    boxes = detector._candidates(portrait, 320, 1.5)
    centers = [(box[:2] + box[2:]) / 2 for box in boxes]
    # the astronaut's landmarks are centered near (223, 125) and about 85 pixels wide
    near = [box for box, center in zip(boxes, centers, strict=True) if np.abs(center - [223, 125]).max() < 20]
    assert near and any(60 < box[2] - box[0] < 120 for box in near)


def test_choice_of_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(detect_face_alignment.FaceAlignmentDetector, "is_available", lambda: False)
    weights = tmp_path / "landmarks.safetensors"
    save_network(weights, build_network("landmarks", {"width_multiplier": 0.25}), license="test")
    with caplog.at_level("INFO"):
        chosen: FaceDetector = choose_detector("auto", weights=weights)
    assert chosen.name == "bundled" and "bundled" in caplog.text
    face = Face(
        np.zeros(4, np.float32), 1.0, np.random.default_rng(0).uniform(20, 90, (68, 2)).astype(np.float32)
    )
    chosen.follow(Picture(np.zeros((100, 100, 3), np.uint8)), face)  # the real network fits the detector
    with pytest.raises(UserError, match="unknown face backend"):
        choose_detector("dlib")
    monkeypatch.setattr("videoretalking.models.catalog.checkpoint_folders", lambda: (tmp_path / "none",))
    with pytest.raises(UserError, match="landmarks"):
        choose_detector("bundled")


def test_missing_weights_of_face_alignment_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:

    def offline(*_: object, **settings: object) -> None:
        assert settings["compile"] is False and settings["device"] == "cpu"
        raise OSError("<urlopen error>")

    monkeypatch.setattr(face_alignment, "FaceAlignment", offline)
    with pytest.raises(UserError, match="s3fd-619a316812"):
        choose_detector("face-alignment")
    monkeypatch.setattr(detect_face_alignment.FaceAlignmentDetector, "is_available", lambda: True)
    monkeypatch.setattr(detect_bundled, "load_network", lambda *_: torch.nn.Identity())
    assert choose_detector("auto").name == "bundled"  # falls back


def test_face_alignment_backend_scales_boxes_and_scores(
    frontal: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:

    class Aligner:
        """Returns the landmarks of a face of the box's size; heatmaps are high unless the box is small."""

        def __init__(self, *_: object, **__: object) -> None:
            self.face_detector = self

        def detect_from_image(self, image: np.ndarray) -> list[np.ndarray]:
            assert max(image.shape) == 640
            return [np.array([100, 50, 300, 290, 0.99]), np.array([0, 0, 20, 20, 0.6])]

        def get_landmarks_from_image(
            self, image: np.ndarray, boxes: list[np.ndarray], return_landmark_score: bool
        ) -> tuple[list[np.ndarray], list[np.ndarray], None]:
            shape = (frontal - [160, 120]) / 140
            points = [shape * (box[3] - box[1]) + (box[:2] + box[2:]) / 2 for box in boxes]
            return points, [np.full(68, 0.45 if box[3] - box[1] > 100 else 0.1) for box in boxes], None

    monkeypatch.setattr(face_alignment, "FaceAlignment", Aligner)
    detector = choose_detector("face-alignment")
    faces = detector.detect(np.zeros((720, 1280, 3), np.uint8))
    assert len(faces) == 1 and faces[0].score == pytest.approx(0.9)
    assert faces[0].landmarks is not None
    assert np.allclose(faces[0].landmarks[:, 0].mean(), 400, atol=20)  # 200 in the half-size copy
    followed = detector.follow(Picture(np.zeros((720, 1280, 3), np.uint8)), faces[0])
    assert followed is not None and detector.search_every > 50  # searching is dear on a CPU


class NewDetector:
    """All that a further detector is: its class and one row of the table."""

    name = "new"
    search_every = 5

    def __init__(self, device: torch.device | str) -> None:
        self.device = device

    @classmethod
    def is_available(cls) -> bool:
        return True

    @classmethod
    def load(cls, device: torch.device | str, weights: str | Path) -> NewDetector:
        return cls(device)

    def detect(self, frame: np.ndarray, thorough: bool = False) -> list[Face]:
        return [Face(np.array([0, 0, *frame.shape[1::-1]], np.float32), 1.0, None)]

    def follow(self, frame: Picture, face: Face) -> Face | None:
        return face


def test_a_detector_is_a_row_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"choose one of auto, face-alignment, bundled$"):
        choose_detector("new")
    monkeypatch.setitem(detect.BACKENDS, "new", (__name__, "NewDetector"))
    found = choose_detector("new", "cpu").detect(np.zeros((20, 30, 3), np.uint8))
    assert found[0].box.tolist() == [0, 0, 30, 20]

    # the command lines and the settings know it without a further change
    job = parse(["--face", "f.mp4", "--audio", "a.wav", "--face-backend", "new"])
    assert job.config.analysis.backend == "new"
    assert load_config(EvaluationConfig, None, ["face_backend=new"]).face_backend == "new"
    with pytest.raises(UserError, match=r"auto, face-alignment, bundled"):
        parse(["--face", "f.mp4", "--audio", "a.wav", "--face-backend", "dlib"])


def test_auto_takes_the_first_that_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"new": (__name__, "NewDetector"), **detect.BACKENDS}
    monkeypatch.setattr(detect, "BACKENDS", rows)
    assert choose_detector().name == "new"
    monkeypatch.setattr(NewDetector, "is_available", lambda: False)
    monkeypatch.setattr(detect_face_alignment.FaceAlignmentDetector, "is_available", lambda: False)
    assert choose_detector().name == "bundled"


def test_the_names_of_detectors_need_no_pytorch() -> None:
    program = (
        "import sys; from videoretalking.faces.detect import backend_names; print(backend_names());"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["('auto',", "'face-alignment',", "'bundled')"]

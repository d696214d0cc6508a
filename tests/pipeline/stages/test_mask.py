from __future__ import annotations

from dataclasses import replace
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from drawn_face import face_frame, face_job, face_landmarks

from videoretalking.faces.align import extract
from videoretalking.faces.types import Crop
from videoretalking.models import bisenet, parsenet
from videoretalking.models.bisenet import CLASSES, BiSeNetOutput
from videoretalking.models.catalog import build_network
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages.mask import FACE_CLASSES, MOUTH_CLASSES, FaceMasker, scene

CPU = Engine(torch.device("cpu"), torch.float32, batch_size=2)
ARRAYS = ArrayRaster(CPU.device)


class _SeesGreen(torch.nn.Module):
    """A parser that calls green pixels lips, and counts its calls."""

    classes = CLASSES

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, image: torch.Tensor) -> BiSeNetOutput:
        self.batches.append(len(image))
        assert image.shape[1:] == (3, 512, 512)
        logits = torch.zeros(len(image), len(CLASSES), 512, 512)
        green = (image[:, 1] > 0.8) & (image[:, 0] < 0.3)
        logits[:, CLASSES.index("upper_lip")] = torch.where(green, 30.0, -30.0)
        return BiSeNetOutput(logits, logits, logits)


def _produced() -> tuple:  # type: ignore[type-arg]
    landmarks = face_landmarks()
    frame = face_frame(landmarks)
    face = face_job(frame, landmarks, size=128)
    patch = extract(frame, face.crop).astype(np.float32) / 255.0
    patch[70:90, 40:60] = [0.0, 1.0, 0.0]
    return face, patch


def _masker(network: torch.nn.Module) -> FaceMasker:
    return FaceMasker(CPU.prepare(network), ARRAYS)  # type: ignore[arg-type]


def test_the_produced_face_is_segmented_not_the_original() -> None:
    face, patch = _produced()
    network = _SeesGreen()
    masker = _masker(network)
    mask = masker([face], patch[None]).mouth[0]
    assert mask.shape == (128, 128)
    assert mask[80, 50] > 0.9
    assert mask[80, 90] < 0.2 and mask[30, 50] < 0.2
    masker([face] * 3, np.stack([patch] * 3))
    assert network.batches == [1, 2, 1]  # both masks from one look


def test_between_parses_the_masks_move_with_the_face() -> None:
    face, patch = _produced()
    matrix = face.crop.matrix.copy()
    matrix[:, 2] += [6, -4]
    moved = replace(face, index=1, crop=Crop(matrix, face.crop.size))
    stranger = replace(face, track=1)
    network = _SeesGreen()
    masker = FaceMasker(CPU.prepare(network), ARRAYS, every=2)  # type: ignore[arg-type]
    masks = masker([face, moved, stranger], np.stack([patch] * 3))
    assert network.batches == [2]
    np.testing.assert_allclose(masks.mouth[1][20:100, 30:110], masks.mouth[0][24:104, 24:104], atol=1e-6)
    assert np.array_equal(masks.mouth[0], masks.mouth[2])
    later = masker([moved, moved, stranger], np.stack([np.zeros_like(patch), patch, patch]))
    assert network.batches == [2, 1]  # the third frame of the first person; the stranger's serve once more
    assert later.mouth[0].max() < 0.2 and later.mouth[1].max() < 0.2 and later.mouth[2].max() > 0.9


def test_without_a_network_masks_follow_the_landmarks() -> None:
    face, patch = _produced()
    masker = FaceMasker(None, ARRAYS)
    masks = masker([face], patch[None])
    (mouth,), (whole,) = masks.mouth, masks.face
    x, y = face.crop.to_crop(face.landmarks[62]).astype(int)
    assert mouth[y, x] > 0.9 and whole[y, x] > 0.9
    x, y = face.crop.to_crop(face.landmarks[30]).astype(int)
    assert mouth[y, x] < 0.1 and whole[y, x] > 0.9


def test_a_real_parser_runs() -> None:
    face, patch = _produced()
    network = build_network("bisenet").eval().requires_grad_(False)
    mask = _masker(network)([face], patch[None]).face[0]
    assert mask.shape == (128, 128)
    assert mask.min() >= 0.0 and mask.max() <= 1.0


def test_a_scene_shows_the_new_face_within_the_frame() -> None:
    face, patch = _produced()
    (view,) = scene([face], patch[None], [face.crop], ARRAYS)
    np.testing.assert_allclose(view[80, 50], [0, 1, 0], atol=0.02)
    np.testing.assert_allclose(view[0], extract(face.frame, face.crop)[0] / 255.0, atol=0.02)


@pytest.mark.parametrize("module", [bisenet, parsenet])
def test_the_masks_add_up_the_classes_in_the_network_s_own_order(module: ModuleType) -> None:
    class Sees(torch.nn.Module):
        """Sees one class everywhere."""

        classes = module.CLASSES

        def __init__(self, name: str) -> None:
            super().__init__()
            self.number = self.classes.index(name)

        def forward(self, image: torch.Tensor) -> SimpleNamespace:
            logits = torch.full((len(image), len(self.classes), 512, 512), -20.0)
            logits[:, self.number] = 20.0
            return SimpleNamespace(logits=logits)

    face, patch = _produced()
    middle = np.s_[50:80, 50:80]
    for name in module.CLASSES:
        masker = _masker(Sees(name))
        masks = masker([face], patch[None])
        assert masks.mouth[0][middle].mean() == pytest.approx(float(name in MOUTH_CLASSES), abs=1e-3), name
        assert masks.face[0][middle].mean() == pytest.approx(float(name in FACE_CLASSES), abs=1e-3), name

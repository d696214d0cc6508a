"""Masks by a parsing network arrive in the right place; without one they are polygons."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.faces.align import box_crop
from videoretalking.faces.masks import face_polygon_mask, mouth_polygon_mask
from videoretalking.faces.parsing import FaceParser, choose_parser
from videoretalking.models import bisenet, parsenet
from videoretalking.models.bisenet import BiSeNet, BiSeNetConfig


class ColorParser(torch.nn.Module):
    """Sees skin where the picture is green and an upper lip where it is red."""

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        assert image.shape[1:] == (3, 512, 512)
        logits = torch.zeros(len(image), 19, 512, 512)
        logits[:, parsenet.CLASSES.index("skin")] = 30 * image[:, 1]
        logits[:, parsenet.CLASSES.index("upper_lip")] = 30 * image[:, 0]
        logits[:, parsenet.CLASSES.index("background")] = 10
        return SimpleNamespace(logits=logits)


def painted(landmarks: np.ndarray) -> np.ndarray:
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    face, mouth = face_polygon_mask(landmarks, (320, 240), 0), mouth_polygon_mask(landmarks, (320, 240), 0)
    frame[face > 0.5] = [0, 255, 0]
    frame[mouth > 0.5] = [255, 0, 0]
    return frame


def test_network_masks_land_on_the_face(frontal: np.ndarray) -> None:
    frame = painted(frontal)
    crop = box_crop([80, 20, 240, 220], (160, 200))
    parser = FaceParser(ColorParser())
    mouth = parser.mouth_mask(frame, frontal, crop)
    face = parser.face_mask(frame, frontal, crop)
    assert mouth.shape == face.shape == (200, 160) and mouth.dtype == np.float32
    view = frame[20:220, 80:240]
    red = view[..., 0] > 128
    overlap = ((mouth > 0.5) & red).sum() / ((mouth > 0.5) | red).sum()
    assert overlap > 0.85
    any_face = (view > 128).any(axis=2)
    assert ((face > 0.5) & any_face).sum() / ((face > 0.5) | any_face).sum() > 0.95
    assert face.min() >= 0 and face.max() <= 1


def test_without_network_the_landmarks_decide(frontal: np.ndarray) -> None:
    crop = box_crop([80, 20, 240, 220], (160, 200))
    frame = np.zeros((240, 320, 3), dtype=np.uint8)
    inside = crop.to_crop(frontal)
    assert np.array_equal(FaceParser().face_mask(frame, frontal, crop), face_polygon_mask(inside, (160, 200)))
    assert np.array_equal(
        FaceParser().mouth_mask(frame, frontal, crop), mouth_polygon_mask(inside, (160, 200))
    )


def test_class_order_follows_the_network() -> None:
    logits = torch.full((1, 19, 512, 512), -20.0)
    logits[:, bisenet.CLASSES.index("mouth")] = 20.0

    class Fixed(BiSeNet):
        def forward(self, image: torch.Tensor) -> SimpleNamespace:  # type: ignore[override]
            return SimpleNamespace(logits=logits)

    picture = np.zeros((512, 512, 3), dtype=np.uint8)
    parser = FaceParser(Fixed(BiSeNetConfig()))
    assert parser.parse([picture], {"mouth"})[0].min() > 0.99
    assert parser.parse([picture], {"skin"})[0].max() < 0.01


def test_choice(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert choose_parser("auto").network is None
    assert choose_parser("landmarks").network is None
    with pytest.raises(UserError, match="bisenet"):
        choose_parser("bisenet")
    with pytest.raises(UserError, match="unknown face parser"):
        choose_parser("dlib")

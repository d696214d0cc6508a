"""The bundled face detector, which needs no download.

A cascade of local binary patterns that scikit-image carries proposes face boxes on a small gray copy of the frame;
our landmark network finds the points and rejects what is no face.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from videoretalking.core.arrays import Floats64, Image8
from videoretalking.core.devices import OwnStream
from videoretalking.core.graphs import GraphedFunction, record_on
from videoretalking.core.landmarks import NUM_LANDMARKS
from videoretalking.faces.align import box_landmark_crop, landmark_crop, landmarks_box
from videoretalking.faces.boxes import suppress
from videoretalking.faces.parts import extract_part
from videoretalking.faces.types import Crop, Face
from videoretalking.media.picture import Picture
from videoretalking.models.catalog import load_network


@dataclass(frozen=True)
class BundledConfig:
    """Settings of the bundled detector.

    Attributes:
        side: longest side in pixels of the copy that is searched.
        min_score: confidence that makes a candidate a face.
        keep_score: confidence that keeps a followed face.
        max_candidates: candidates of one search that the landmark network looks at.
    """

    side: int = 320
    min_score: float = 0.8
    keep_score: float = 0.4
    max_candidates: int = 12


# The cascade's square box against the landmarks' box, measured on talking clips: the landmarks lie lower by
# a share of its side and span a share of it.
_CASCADE_SHIFT, _CASCADE_SHARE = 0.15, 0.87
_CASCADE_MIN_FACE = 24  # pixels of the searched copy; the cascade's own window
_CASCADE_SCALE_STEP = 1.2
# (factor on the side of the copy, step of the window) of the two further searches when a thorough one is
# allowed: a fine one of large faces and a usual one of small faces.
_THOROUGH = ((0.75, 1.0), (2.0, 1.5))
_USUAL_STEP = 1.5

_FIRST_LOOK_SCORE = 0.2  # confidence that earns a candidate a second look, centered on its own landmarks
_MOST_PREPARED = 2  # frames: one every second is searched, and whoever prepares is a few frames ahead
_SAME_FACE = 0.4  # overlap of two candidates that are one face
# Plausible sizes of the landmarks' box against the crop they were found in, whose nominal share is 1 / 1.6.
_MIN_SHARE, _MAX_SHARE = 0.35, 0.95
_MAX_DRIFT = 0.25  # distance of the landmarks' center from that of the crop, as share of its side


class BundledDetector:
    """Cascade and landmark network.

    Args:
        network: [B, 3, 128, 128] RGB in [0, 1] -> points [B, 68, 2] in crop pixels and confidence logits
            [B], such as :class:`models.landmarks.LandmarkNet`.
        device: where the network runs.
        config: settings.
    """

    name = "bundled"
    search_every = 25

    def __init__(
        self,
        network: nn.Module,
        device: torch.device | str = "cpu",
        config: BundledConfig | None = None,
    ) -> None:
        self.network = network
        self.device = device
        self.config = config or BundledConfig()
        self._cascade = _load_cascade()
        self._cascade_lock = threading.Lock()
        # frames that were prepared, by their identity, with their candidates
        self._prepared: dict[int, tuple[Image8, list[Floats64]]] = {}
        self._stream = OwnStream(device)
        self._measure = GraphedFunction(
            type(network).__name__, partial(_measure, network), record_on(torch.device(device))
        )

    @classmethod
    def is_available(cls) -> bool:
        """Always: the weights ship with the program."""
        return True

    @classmethod
    def load(cls, device: torch.device | str, weights: str | Path) -> BundledDetector:
        """See :class:`faces.detect.Backend`."""
        network = _fused(load_network(weights, "landmarks", device))
        if torch.device(device).type == "cpu":
            network = network.to(memory_format=torch.channels_last)
        return cls(network, device)

    def detect(self, frame: Image8, thorough: bool = False) -> list[Face]:
        """See :class:`faces.detect.FaceDetector`."""
        faces = self._search(frame, self.config.side, _USUAL_STEP)
        if faces or not thorough:
            return faces
        for factor, step in _THOROUGH:
            faces = self._search(frame, round(self.config.side * factor), step)
            if faces:
                return faces
        return []

    def prepare(self, frame: Picture) -> None:
        """See :class:`faces.detect.PreparingDetector`."""
        image = frame.image_ahead()
        candidates = self._candidates(image, self.config.side, _USUAL_STEP)
        for old in list(self._prepared)[: 1 - _MOST_PREPARED]:  # searched for something else, or not at all
            self._prepared.pop(old, None)
        self._prepared[id(image)] = image, candidates

    def follow(self, frame: Picture, face: Face) -> Face | None:
        """See :class:`faces.detect.FaceDetector`."""
        assert face.landmarks is not None
        found = self._locate(frame, [landmark_crop(face.landmarks)], self.config.keep_score)
        return found[0] if found else None

    def _search(self, frame: Image8, side: int, step: float) -> list[Face]:
        usual = (side, step) == (self.config.side, _USUAL_STEP)
        known = self._prepared.pop(id(frame), None) if usual else None
        boxes = self._candidates(frame, side, step) if known is None else known[1]
        picture = Picture(frame)
        first = self._locate(picture, [box_landmark_crop(box) for box in boxes], _FIRST_LOOK_SCORE)
        crops = [landmark_crop(face.landmarks) for face in first if face.landmarks is not None]
        faces = self._locate(picture, crops, self.config.min_score)
        if not faces:
            return []
        found = np.stack([face.box for face in faces])
        keep = suppress(found, [face.score for face in faces], _SAME_FACE)
        return [faces[index] for index in keep]

    def _candidates(self, frame: Image8, side: int, step: float) -> list[Floats64]:
        """Expected landmark boxes, [4] each, in frame pixels."""
        height, width = frame.shape[:2]
        scale = min(1.0, side / max(height, width))
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)
        if min(small.shape) < _CASCADE_MIN_FACE:
            return []
        with self._cascade_lock:
            found = self._cascade.detect_multi_scale(
                small,
                scale_factor=_CASCADE_SCALE_STEP,
                step_ratio=step,
                min_size=(_CASCADE_MIN_FACE, _CASCADE_MIN_FACE),
                max_size=(min(small.shape), min(small.shape)),
                min_neighbor_number=1,
            )
        boxes = []
        for box in sorted(found, key=lambda box: -box["width"])[: self.config.max_candidates]:
            length = box["width"]
            x, y = box["c"] + length / 2, box["r"] + length * (0.5 + _CASCADE_SHIFT)
            half = length * _CASCADE_SHARE / 2
            boxes.append(np.array([x - half, y - half, x + half, y + half]) / scale)
        return boxes

    def _locate(self, frame: Picture, crops: Sequence[Crop], min_score: float) -> list[Face]:
        """Landmarks in each crop; those that are no face are left out."""
        if not crops:
            return []
        pixels = torch.from_numpy(np.stack([extract_part(frame, crop) for crop in crops]))
        with self._stream():
            results = self._measure(pixels.to(self.device)).cpu().numpy()
        faces = []
        for crop, numbers in zip(crops, results, strict=True):
            found, score = numbers[:-1].reshape(NUM_LANDMARKS, 2), numbers[-1]
            if score >= min_score and _plausible(found, crop.size[0]):
                landmarks = crop.to_image(found).astype(np.float32)
                faces.append(Face(landmarks_box(landmarks), float(score), landmarks))
        return faces


def _measure(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """[B, 128, 128, 3] uint8 -> [B, 137] points and score, in one tensor: each transfer waits for the device."""
    points, confidence = network(pixels.permute(0, 3, 1, 2).float() / 255.0)
    return torch.cat([points.float().flatten(1), torch.sigmoid(confidence.float())[:, None]], dim=1)


def _fused(network: nn.Module) -> nn.Module:
    """The network with its batch norms in the convolutions before them: as many operations less for each frame."""
    for pair in network.modules():
        if isinstance(pair, nn.Sequential) and len(pair) == 2 and isinstance(pair[1], nn.BatchNorm2d):
            assert isinstance(pair[0], nn.Conv2d)
            pair[0], pair[1] = fuse_conv_bn_eval(pair[0], pair[1]), nn.Identity()
    return network


def _load_cascade() -> Any:
    import skimage.data
    from skimage.feature import Cascade

    return Cascade(skimage.data.lbp_frontal_face_cascade_filename())


def _plausible(points: npt.NDArray[np.float32], side: int) -> bool:
    """Whether landmarks found in a crop fill it about as a face should."""
    x1, y1, x2, y2 = landmarks_box(points)
    share = max(x2 - x1, y2 - y1) / side
    drift = max(abs((x1 + x2) / 2 - side / 2), abs((y1 + y2) / 2 - side / 2)) / side
    return bool(_MIN_SHARE <= share <= _MAX_SHARE and drift <= _MAX_DRIFT)

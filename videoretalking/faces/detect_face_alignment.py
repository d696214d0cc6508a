"""S3FD and FAN of the package ``face-alignment``, with its own weights where they are present or can be fetched."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Image8
from videoretalking.core.devices import OwnStream
from videoretalking.core.errors import UserError
from videoretalking.faces.align import detector_box, landmarks_box
from videoretalking.faces.types import Face
from videoretalking.media.picture import Picture

_WEIGHT_FILES = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")
_WEIGHT_HOST = "https://www.adrianbulat.com/downloads/python-fan/"
_PROBE_SECONDS = 3.0
_S3FD_SIDE = 640  # longest side of the copy that is searched
_FAN_FULL_PEAK = 0.5  # mean height of the heatmaps' peaks that counts as full confidence
_FAN_KEEP_SCORE = 0.5


class FaceAlignmentDetector:
    """S3FD and FAN of the ``face-alignment`` package.

    Args:
        device: where the networks run.

    Raises:
        UserError: the package or its weights cannot be had.
    """

    name = "face-alignment"

    def __init__(self, device: torch.device | str = "cpu") -> None:
        device = torch.device(device)
        # S3FD takes seconds a frame on a CPU
        self.search_every = 25 if device.type == "cuda" else 100
        try:
            import face_alignment

            self._aligner = face_alignment.FaceAlignment(
                face_alignment.LandmarksType.TWO_D, device=str(device), compile=False, flip_input=False
            )
        except ImportError:
            raise UserError(
                "the package face-alignment is not installed: install it or choose --face-backend bundled"
            ) from None
        except (OSError, RuntimeError, EOFError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"the weights of face-alignment cannot be loaded ({reason}): put {' and '.join(_WEIGHT_FILES)} "
                f"into {_weight_folder()}, as python -m scripts.download_checkpoints does, or choose "
                "--face-backend bundled"
            ) from None

        self._stream = OwnStream(device)

    @classmethod
    def is_available(cls) -> bool:
        """Whether the weights are on disk or their server answers."""
        if all((_weight_folder() / name).is_file() for name in _WEIGHT_FILES):
            return True
        from urllib.request import Request, urlopen

        try:
            with urlopen(Request(_WEIGHT_HOST, method="HEAD"), timeout=_PROBE_SECONDS):
                return True
        except OSError:
            return False

    @classmethod
    def load(cls, device: torch.device | str, weights: str | Path) -> FaceAlignmentDetector:
        """See :class:`faces.detect.Backend`; ``weights`` are those of the bundled detector and not used."""
        return cls(device)

    def detect(self, frame: Image8, thorough: bool = False) -> list[Face]:
        """See :class:`faces.detect.FaceDetector`; ``thorough`` changes nothing."""
        height, width = frame.shape[:2]
        scale = min(1.0, _S3FD_SIDE / max(height, width))
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        with self._stream():
            found = self._aligner.face_detector.detect_from_image(small)
        boxes = [np.asarray(box[:4], dtype=np.float64) / scale for box in found]
        return sorted(self._locate(frame, boxes), key=lambda face: -face.score)

    def follow(self, frame: Picture, face: Face) -> Face | None:
        """See :class:`faces.detect.FaceDetector`."""
        assert face.landmarks is not None
        found = self._locate(frame.image, [detector_box(face.landmarks).astype(np.float64)])
        return found[0] if found else None

    def _locate(self, frame: Image8, boxes: list[npt.NDArray[np.float64]]) -> list[Face]:
        if not boxes:
            return []
        with self._stream():
            points, scores, _ = self._aligner.get_landmarks_from_image(
                frame, boxes, return_landmark_score=True
            )
        faces = []
        for landmarks, peaks in zip(points, scores, strict=True):
            score = min(float(np.mean(peaks)) / _FAN_FULL_PEAK, 1.0)
            if score >= _FAN_KEEP_SCORE:
                landmarks = np.asarray(landmarks, dtype=np.float32)
                faces.append(Face(landmarks_box(landmarks), score, landmarks))
        return faces


def _weight_folder() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"

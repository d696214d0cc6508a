"""Face detector and 3DMM stage of a family of weights, loaded when pass 1 needs them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from videoretalking.core.errors import UserError
from videoretalking.faces.detect import FaceDetector, choose_detector
from videoretalking.faces.face_model import FaceModel
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor
from videoretalking.pipeline.analyze import Reconstructor, file_digest
from videoretalking.pipeline.weights import Weights


@dataclass(frozen=True)
class PretrainedFaceTools:
    """Detector and 3DMM stage that belong to a family of weights.

    Attributes:
        weights: the family.
        backend: face detector.
        device: where their networks run.
    """

    weights: Weights
    backend: str
    device: torch.device

    @property
    def identity(self) -> str:
        """Changes with the backend and with the content of the checkpoints."""
        files = [self.weights.path("landmarks"), self._regressor(), self._face_model()]
        return "|".join([self.backend, *("-" if path is None else file_digest(path) for path in files)])

    def load(self) -> tuple[FaceDetector, Reconstructor]:
        """Load the networks.

        Raises:
            UserError: missing or damaged weights.
        """
        landmarks = self.weights.path("landmarks")
        detector = choose_detector(self.backend, self.device, landmarks or "landmarks")
        regressor = self._regressor()
        if regressor is not None:
            return detector, NetworkReconstructor(self.weights.load("reconnet", self.device), self.device)
        model = self._face_model()
        if model is None:
            raise UserError(f"{self.weights.folder} has neither reconnet nor face_model.safetensors")
        return detector, FitReconstructor(FaceModel.load(model))

    def _regressor(self) -> Path | None:
        given = self.weights.options.reconnet
        path = Path(given) if given else self.weights.folder / "reconnet.safetensors"
        return path if given or path.is_file() else None

    def _face_model(self) -> Path | None:
        path = self.weights.folder / "face_model.safetensors"
        return path if path.is_file() else None

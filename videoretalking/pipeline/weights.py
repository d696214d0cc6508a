"""Which weights run: the converted official ones where they are, else the bundled ones; and pass 1 from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from videoretalking.core.checkpoint import read_checkpoint, read_metadata
from videoretalking.core.coefficients import NUM_EXPRESSION, OFFICIAL_WINDOW, Drive
from videoretalking.core.errors import UserError
from videoretalking.core.locations import checkpoint_folder
from videoretalking.faces.detect import FaceDetector, choose_detector
from videoretalking.faces.face_model import FaceModel
from videoretalking.faces.reconstruct import FitReconstructor, NetworkReconstructor
from videoretalking.models.catalog import NETWORKS, find_checkpoint, load_network
from videoretalking.pipeline.analyze import Reconstructor, file_digest
from videoretalking.pipeline.config import WeightsConfig

logger = logging.getLogger(__name__)

NEEDED = ("dnet", "lnet", "enet")
# Files that hold the expression templates "neutral" and "smile", [64] each: the converted release, and the
# bundled face model, whose coefficients mean something else. D-Net, templates and 3DMM stage belong together.
_TEMPLATE_FILES = ("expressions.safetensors", "face_model.safetensors")
_RECONSTRUCTION_FILES = ("reconnet.safetensors", "face_model.safetensors")


@dataclass(frozen=True)
class Weights:
    """The checkpoints of one run.

    Attributes:
        family: ``official``, ``demo``, or the path of a folder.
        folder: where bare names are searched first.
        options: single files that replace those of the family.
    """

    family: str
    folder: Path
    options: WeightsConfig

    def path(self, name: str) -> Path | None:
        """The checkpoint of a network; None if there is none. Helpers missing in the family may be bundled."""
        given = getattr(self.options, name, None)
        if given is not None:
            return Path(given)
        for folder in (self.folder, checkpoint_folder("demo")):
            path = folder / f"{name}.safetensors"
            if path.is_file() and (folder == self.folder or name not in NEEDED):
                return path
        return None

    def load(self, name: str, device: torch.device) -> nn.Module:
        """A network in eval mode.

        Raises:
            UserError: missing, damaged or wrong file.
        """
        path = self.path(name) or find_checkpoint(name, (self.folder,))
        network = load_network(path, expected=None if name == "lnet" else name, device=device)
        if name == "lnet" and type(network).__name__ not in ("LNet", "Wav2Lip"):
            raise UserError(f"checkpoint {path} holds {type(network).__name__}, needed is L-Net or Wav2Lip")
        return network

    def templates(self) -> dict[str, npt.NDArray[np.float32]]:
        """The expression templates ``neutral`` and ``smile``, [64] float32 each.

        Raises:
            UserError: the family has no file of templates, or a damaged one.
        """
        for name in _TEMPLATE_FILES:
            path = self.folder / name
            if path.is_file():
                tensors, _ = read_checkpoint(path)
                return {key: _template(tensors, key, path) for key in ("neutral", "smile")}
        raise UserError(
            f"no expression templates in {self.folder} ({' or '.join(_TEMPLATE_FILES)}); "
            "see checkpoints/README.md for how to get them"
        )

    @property
    def drive(self) -> Drive:
        """How D-Net is driven, as its checkpoint says; as in the paper where there is no D-Net."""
        path = self.path("dnet")
        if path is None:
            return Drive()
        config = read_metadata(path)["config"]
        window, overshoot = config.get("window", OFFICIAL_WINDOW), config.get("overshoot", 0.0)
        return Drive(window, overshoot, config.get("from_rest", False))

    def describe(self) -> dict[str, str]:
        """Network -> file, for the report."""
        found = {name: self.path(name) for name in NETWORKS}
        return {name: str(path) for name, path in found.items() if path is not None}


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
        return self._identity() if self.device.type == "cpu" else self._loaded_identity

    @cached_property
    def _loaded_identity(self) -> str:
        return self._identity()

    def _identity(self) -> str:
        files = [self.weights.path("landmarks"), self._regressor(), self._face_model()]
        return "|".join([self.backend, *("-" if path is None else file_digest(path) for path in files)])

    def load(self) -> tuple[FaceDetector, Reconstructor]:
        """Load the networks; on a GPU once, since what was recorded of them there serves all videos.

        Raises:
            UserError: missing or damaged weights.
        """
        return self._load() if self.device.type == "cpu" else self._loaded

    @cached_property
    def _loaded(self) -> tuple[FaceDetector, Reconstructor]:
        return self._load()

    def _load(self) -> tuple[FaceDetector, Reconstructor]:
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


def choose_weights(
    options: WeightsConfig, root: Path | None = None, networks: Sequence[str] = NEEDED
) -> Weights:
    """Pick the family of weights and say which.

    Args:
        options: settings; ``family`` is ``auto``, ``official``, ``demo`` or a folder.
        root: folder that holds ``official`` and ``demo``; None for :func:`core.locations.checkpoint_folder`.
        networks: those that will run; a family without one of them is not complete.

    Raises:
        UserError: the family does not exist or is not complete.
    """
    folders = {name: root / name if root else checkpoint_folder(name) for name in ("official", "demo")}
    if options.family == "auto":
        lacking_of = {name: missing(folder, networks) for name, folder in folders.items()}
        family = next((name for name, lacking in lacking_of.items() if not lacking), None)
        if family is None:
            sets = ", ".join(
                f"{folders[name]} lacks {_list(lacking)}" for name, lacking in lacking_of.items()
            )
            raise UserError(f"no complete set of weights: {sets}; see checkpoints/README.md")
        folder = folders[family]
        if family == "demo" and any(folders["official"].glob("*.safetensors")):
            logger.warning(
                "the released weights in %s are not complete (%s missing), so the small bundled networks of %s run "
                "instead",
                folders["official"],
                _list(lacking_of["official"]),
                folder,
            )
    else:
        family = options.family
        folder = folders.get(family, Path(family))
        if not folder.is_dir():
            raise UserError(f"--weights {family}: the folder {folder} does not exist")
        given = {name for name in networks if getattr(options, name)}
        lacking = [
            name for name in missing(folder, networks) if name.removesuffix(".safetensors") not in given
        ]
        if lacking:
            raise UserError(f"--weights {family}: {folder} lacks {_list(lacking)}; see checkpoints/README.md")
    _announce(family, folder)
    return Weights(family, folder, options)


def missing(folder: Path, networks: Sequence[str] = NEEDED) -> list[str]:
    """Files that a folder lacks to run the main job with these networks."""
    absent = [f"{name}.safetensors" for name in networks if not (folder / f"{name}.safetensors").is_file()]
    for files in (_TEMPLATE_FILES, _RECONSTRUCTION_FILES):
        if not any((folder / name).is_file() for name in files):
            absent.append(" or ".join(files))
    return list(dict.fromkeys(absent))


def _announce(family: str, folder: Path) -> None:
    if family == "demo":
        logger.info(
            "weights: bundled demo set (%s), small networks for trying things out; convert the released files "
            "into checkpoints/official for the paper's quality",
            folder,
        )
    else:
        logger.info("weights: %s (%s)", family, folder)


def _template(tensors: dict[str, Any], key: str, path: Path) -> npt.NDArray[np.float32]:
    if key not in tensors or tensors[key].numel() != NUM_EXPRESSION:
        raise UserError(f"{path} holds no template {key!r} of {NUM_EXPRESSION} numbers")
    values: npt.NDArray[np.float32] = tensors[key].float().numpy().reshape(NUM_EXPRESSION)
    return values


def _list(names: list[str]) -> str:
    return ", ".join(names)

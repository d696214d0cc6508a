"""Finding faces and their 68 landmarks in a frame: what a detector does, and the one table of detectors.

Every detector also follows a face from frame to frame by its landmarks, which is much cheaper than searching again
and steadier. This module imports no PyTorch, so that a command line can list the names.
"""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from videoretalking.core.arrays import Image8
from videoretalking.core.errors import UserError

if TYPE_CHECKING:
    import torch

    from videoretalking.faces.types import Face
    from videoretalking.media.picture import Picture

logger = logging.getLogger(__name__)

# Name -> module and class, imported on first use. ``auto`` tries them in this order.
BACKENDS: dict[str, tuple[str, str]] = {
    "face-alignment": ("videoretalking.faces.detect_face_alignment", "FaceAlignmentDetector"),
    "bundled": ("videoretalking.faces.detect_bundled", "BundledDetector"),
}
AUTO = "auto"


class FaceDetector(Protocol):
    """What the tracker needs of a detector.

    Attributes:
        name: for logs and reports.
        search_every: frames between searches for further faces while some are being followed; chosen by what
            a search costs.
    """

    name: str
    search_every: int

    def detect(self, frame: Image8, thorough: bool = False) -> list[Face]:
        """All faces of a frame, [H, W, 3] uint8 RGB, with landmarks, best first.

        ``thorough`` allows a slower search where the usual one finds nothing.
        """
        ...

    def follow(self, frame: Picture, face: Face) -> Face | None:
        """A face of the previous frame found again near its old place, or None if it is lost.

        Whoever reads only a part of the frame (:meth:`media.picture.Picture.part`) saves converting the rest.
        """
        ...


@runtime_checkable
class PreparingDetector(FaceDetector, Protocol):
    """A detector that can do a part of a search ahead, in another thread, since it needs nothing but the frame."""

    def prepare(self, frame: Picture) -> None:
        """Do so for a frame that will probably be searched soon."""
        ...


class Backend(Protocol):
    """What the class of a detector offers, so that a row of :data:`BACKENDS` suffices to add one."""

    def is_available(self) -> bool:
        """Whether ``auto`` may try this detector here."""
        ...

    def load(self, device: torch.device | str, weights: str | Path) -> FaceDetector:
        """The detector with its networks.

        Args:
            device: where they run.
            weights: of the bundled landmark network, a name of the catalog or a file.

        Raises:
            UserError: packages or weights are missing or damaged.
        """
        ...


def backend_names() -> tuple[str, ...]:
    """What a setting may say: ``auto`` and the keys of :data:`BACKENDS`."""
    return (AUTO, *BACKENDS)


def check_backend(name: str) -> None:
    """Refuse a name that is in no row of the table.

    Raises:
        UserError: names the choices.
    """
    if name not in backend_names():
        raise UserError(f"unknown face backend {name!r}, choose one of {', '.join(backend_names())}")


def choose_detector(
    name: str = AUTO, device: torch.device | str = "cpu", weights: str | Path = "landmarks"
) -> FaceDetector:
    """The face detector that can be had here.

    Args:
        name: a key of :data:`BACKENDS`; ``auto`` takes the first that is available and loads.
        device: where networks run.
        weights: of the bundled landmark network, a name of the catalog or a file.

    Raises:
        UserError: unknown name, or weights that are missing or damaged.
    """
    check_backend(name)
    candidates = [name] if name != AUTO else [key for key in BACKENDS if _backend(key).is_available()]
    for candidate in candidates[:-1]:
        try:
            return _load(candidate, device, weights)
        except UserError as error:
            logger.warning("%s", error)
    return _load(candidates[-1], device, weights)


def _load(name: str, device: torch.device | str, weights: str | Path) -> FaceDetector:
    detector = _backend(name).load(device, weights)
    logger.info("faces by the detector %s on %s", name, device)
    return detector


def _backend(name: str) -> Backend:
    module, class_name = BACKENDS[name]
    backend: Backend = getattr(import_module(module), class_name)
    return backend

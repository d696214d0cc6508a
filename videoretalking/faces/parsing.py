"""Masks of face and mouth: by a parsing network where its weights are present, else from landmarks.

The paper names BiSeNet (section 3.1), the published code runs ParseNet; both work here.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from videoretalking.core.arrays import Image8, Mask
from videoretalking.core.constants import RESTORER_SIZE
from videoretalking.core.errors import UserError
from videoretalking.faces.align import enhancer_crop, extract, warp
from videoretalking.faces.masks import eye_distance, face_polygon_mask, mouth_polygon_mask, soften
from videoretalking.faces.types import Crop
from videoretalking.models import bisenet, parsenet
from videoretalking.models.catalog import load_network

# What the published code pastes back, and what it hands to the restorer of the teeth.
MOUTH_CLASSES = frozenset({"mouth", "upper_lip", "lower_lip"})
FACE_CLASSES = MOUTH_CLASSES | {
    "skin",
    "nose",
    "glasses",
    "left_eye",
    "right_eye",
    "left_brow",
    "right_brow",
}
PARSERS = ("auto", "parsenet", "bisenet", "landmarks")

_SOFTNESS = 0.05  # blur of a parsed mask's edge in eye distances

logger = logging.getLogger(__name__)


class FaceParser:
    """Makes masks of a face in any crop of its frame.

    Args:
        network: ParseNet or BiSeNet in eval mode; None draws polygons around the landmarks.
        device: where the network runs.
    """

    def __init__(self, network: nn.Module | None = None, device: torch.device | str = "cpu") -> None:
        self.network = network.to(device) if network is not None else None
        self.device = device

    def face_mask(self, frame: Image8, landmarks: npt.ArrayLike, crop: Crop) -> Mask:
        """The face with chin, without hair, ears and neck.

        Args:
            frame: [H, W, 3] uint8 RGB.
            landmarks: [68, 2] pixels of the frame.
            crop: the view that the mask is for.

        Returns:
            [height, width] float32 in [0, 1] of the crop's size.
        """
        if self.network is None:
            return face_polygon_mask(crop.to_crop(landmarks), crop.size)
        return self._parsed(frame, landmarks, crop, FACE_CLASSES)

    def mouth_mask(self, frame: Image8, landmarks: npt.ArrayLike, crop: Crop) -> Mask:
        """The mouth with its lips; arguments as in :meth:`face_mask`."""
        if self.network is None:
            return mouth_polygon_mask(crop.to_crop(landmarks), crop.size)
        return self._parsed(frame, landmarks, crop, MOUTH_CLASSES)

    def _parsed(self, frame: Image8, landmarks: npt.ArrayLike, crop: Crop, classes: Collection[str]) -> Mask:
        """Parse the face in the alignment that the network was trained with, and bring the mask into the crop."""
        aligned = enhancer_crop(landmarks, RESTORER_SIZE)
        mask = self.parse([extract(frame, aligned)], classes)[0]
        linear = crop.matrix[:, :2] @ aligned.inverse
        linear[:, 2] += crop.matrix[:, 2]
        in_crop = warp(mask, linear, crop.size, edge=False)
        return soften(in_crop, _SOFTNESS * eye_distance(crop.to_crop(landmarks)))

    def parse(self, images: Sequence[Image8], classes: Collection[str]) -> list[Mask]:
        """Probability that a pixel belongs to one of some classes.

        Args:
            images: [512, 512, 3] uint8 RGB faces in the enhancers' alignment.
            classes: names.

        Returns:
            [512, 512] float32 masks.
        """
        assert self.network is not None
        chosen = [_class_names(self.network).index(name) for name in sorted(classes)]
        pixels = torch.from_numpy(np.stack(images)).to(self.device).permute(0, 3, 1, 2).float() / 255.0
        with torch.inference_mode():
            shares = self.network(pixels).logits.softmax(dim=1)[:, chosen].sum(dim=1)
        return list(shares.float().cpu().numpy())


def _class_names(network: nn.Module) -> tuple[str, ...]:
    return bisenet.CLASSES if isinstance(network, bisenet.BiSeNet) else parsenet.CLASSES


def choose_parser(name: str = "auto", device: torch.device | str = "cpu") -> FaceParser:
    """The parser that can be had here.

    Args:
        name: one of :data:`PARSERS`; ``auto`` takes the first whose weights are present.
        device: of the network.

    Raises:
        UserError: unknown name, or the named network has no weights.
    """
    if name not in PARSERS:
        raise UserError(f"unknown face parser {name!r}, choose one of {', '.join(PARSERS)}")
    for candidate in PARSERS[1:-1] if name == "auto" else (name,):
        if candidate == "landmarks":
            break
        try:
            network = load_network(candidate)
        except UserError:
            if name != "auto":
                raise
            continue
        logger.info("face masks by %s", candidate)
        return FaceParser(network, device)
    logger.info("face masks from landmarks")
    return FaceParser()

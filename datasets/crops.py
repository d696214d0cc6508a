"""Cutting network inputs out of prepared clips, with jitter (geometry: ``faces/align.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import ENET_SIZE, LNET_SIZE
from videoretalking.datasets.clips import PreparedClip, Version
from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.types import Crop


@dataclass(frozen=True)
class Jitter:
    """A change of view in the plane of the crop.

    Attributes:
        shift_x: the view moves to the right by this part of its width.
        shift_y: the view moves down by this part of its height.
        scale: the view grows by this factor.
        angle: the view turns by this many radians, clockwise on the screen.
    """

    shift_x: float = 0.0
    shift_y: float = 0.0
    scale: float = 1.0
    angle: float = 0.0

    @staticmethod
    def draw(rng: np.random.Generator, amount: float, angle: float = 0.0) -> Jitter:
        """Uniform shifts and growth within +-amount and rotation within +-angle; always four draws."""
        shift_x, shift_y, growth, turn = rng.uniform(-1.0, 1.0, 4)
        return Jitter(amount * shift_x, amount * shift_y, 1.0 + amount * growth, angle * turn)

    def apply(self, crop: Crop) -> Crop:
        """The changed view, same size in pixels."""
        width, height = crop.size
        cosine, sine = np.cos(self.angle) / self.scale, np.sin(self.angle) / self.scale
        linear = np.array([[cosine, sine], [-sine, cosine]])  # old crop pixels -> new crop pixels
        center = np.array([(width - 1) / 2, (height - 1) / 2])
        new_center = center + np.array([self.shift_x * width, self.shift_y * height])
        return crop.then(np.column_stack([linear, center - linear @ new_center]))


def face_crop(clip: PreparedClip, index: int, size: int = ENET_SIZE, jitter: Jitter | None = None) -> Crop:
    """The view of L-Net, Wav2Lip, the expert and E-Net: the face box of one frame, square in pixels.

    The first three see it at 96 pixels; :func:`cut_low` reduces it from 384 for them.
    """
    crop = box_crop(clip.boxes[index], (size, size))
    return jitter.apply(crop) if jitter else crop


def face_views(
    clip: PreparedClip, frames: Sequence[int], jitter: Jitter, mirrored: bool, size: int = ENET_SIZE
) -> list[Crop]:
    """:func:`face_crop` of several frames under one jitter, as a mirror shows them if so wanted."""
    crops = [face_crop(clip, frame, size, jitter) for frame in frames]
    return [mirror(crop) for crop in crops] if mirrored else crops


def cut(clip: PreparedClip, index: int, crop: Crop, version: Version = "frames") -> Image8:
    """Decode one frame of a clip and take a crop from it.

    Where the crop shrinks the frame by two or more, the frame is decoded at 1/2, 1/4 or 1/8 of its size,
    which is faster.

    Args:
        clip: the clip.
        index: frame number.
        crop: the view, in stored pixels.
        version: of the frame.

    Returns:
        uint8 RGB [height, width, 3]; border pixels are repeated outside the frame.
    """
    window, size = clip.view(index, version)
    inside = crop.after(box_crop(window, size))
    frame = clip.frame(index, max_reduction=1.0 / inside.scale, version=version)
    if frame.shape[1::-1] != size:
        inside = crop.after(box_crop(window, (frame.shape[1], frame.shape[0])))
    return extract(frame, inside)


def cut_low(
    clip: PreparedClip, index: int, view: Crop, antialias: bool, version: Version = "frames"
) -> Image8:
    """A face as L-Net, Wav2Lip and the expert see it, cut as the product cuts it: at E-Net's size, then reduced.

    Args:
        clip: the clip.
        index: frame number.
        view: the crop, 384 x 384.
        antialias: the mean of the pixels that each new one covers, or bilinear, as the networks' ``shrink`` does.
        version: of the frame.

    Returns:
        uint8 RGB [96, 96, 3].
    """
    method = cv2.INTER_AREA if antialias else cv2.INTER_LINEAR
    return np.asarray(
        cv2.resize(cut(clip, index, view, version), (LNET_SIZE, LNET_SIZE), interpolation=method), np.uint8
    )


def mirror(crop: Crop) -> Crop:
    """The same view seen in a mirror."""
    return crop.then(np.array([[-1.0, 0.0, crop.size[0] - 1.0], [0.0, 1.0, 0.0]]))

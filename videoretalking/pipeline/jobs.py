"""What the stages of pass 2 hand to each other, and the step between byte images and tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import AnyImage
from videoretalking.faces.types import Crop


@dataclass
class FaceJob:
    """One face of one output frame on its way through the networks.

    Attributes:
        frame: [H, W, 3] uint8 RGB, the decoded frame (shared by the faces in it; never changed).
        track: number of the face track.
        index: number of the source frame.
        stretch: first frame of the stretch, without cut or gap, that the frame lies in: one person.
        time: time in the output in seconds, which places the audio window.
        landmarks: [68, 2] pixels of the frame.
        crop: frame -> L-Net's and E-Net's face crop.
        patch: [S, S, 3] float32 RGB in [0, 1]: the new face in the crop, set by the networks.
        mask: [S, S] float32 weights of the new face in the crop, set with the patch.
        sync: cosine of the lip-sync expert in [-1, 1], None where it was not computed.
    """

    frame: AnyImage
    track: int
    index: int
    stretch: int
    time: float
    landmarks: npt.NDArray[np.float32]
    crop: Crop
    patch: AnyImage | None = None
    mask: AnyImage | None = None
    sync: float | None = None


@dataclass
class FrameJob:
    """One output frame.

    Attributes:
        frame: [H, W, 3] uint8 RGB.
        index: number of the source frame.
        time: time in the output in seconds.
        faces: the faces to edit; empty frames pass through untouched.
    """

    frame: AnyImage
    index: int
    time: float
    faces: list[FaceJob] = field(default_factory=list)


def to_tensor(images: Sequence[AnyImage], device: torch.device) -> torch.Tensor:
    """[H, W, 3] images of one size, uint8 or float32 in [0, 1] -> [N, 3, H, W] float32 in [0, 1]."""
    batch = torch.from_numpy(np.stack(images)).to(device)
    batch = batch.permute(0, 3, 1, 2)
    return batch.float().div_(255.0) if batch.dtype == torch.uint8 else batch


def to_images(batch: torch.Tensor) -> list[AnyImage]:
    """[N, 3, H, W] -> N images [H, W, 3] float32."""
    return list(batch.permute(0, 2, 3, 1).contiguous().cpu().float().numpy())

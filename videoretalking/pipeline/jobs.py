"""What the stages of pass 2 hand to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import SupportsFloat

import numpy as np
import numpy.typing as npt

from videoretalking.faces.types import Crop
from videoretalking.pipeline.raster import Pixels


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
        trust: how far the face may be painted, 0 .. 1 (:mod:`faces.trust`).
        patch: [S, S, 3] float32 RGB in [0, 1]: the new face in the crop, set by the networks.
        mask: [S, S] float32 weights of the new face in the crop, set with the patch.
        sync: cosine of the lip-sync expert in [-1, 1], maybe still on its way from the device; None where it was
            not computed.
    """

    frame: Pixels
    track: int
    index: int
    stretch: int
    time: float
    landmarks: npt.NDArray[np.float32]
    crop: Crop
    trust: float = 1.0
    patch: Pixels | None = None
    mask: Pixels | None = None
    sync: SupportsFloat | None = None


@dataclass
class FrameJob:
    """One output frame.

    Attributes:
        frame: [H, W, 3] uint8 RGB.
        index: number of the source frame.
        time: time in the output in seconds.
        duration: seconds that it is shown.
        faces: the faces to edit; empty frames pass through untouched.
    """

    frame: Pixels
    index: int
    time: float
    duration: float
    faces: list[FaceJob] = field(default_factory=list)

"""The one interface of all video metrics: ``reset(clip)``, ``update(chunk)`` as frames stream by, ``compute()``.

The evaluator decodes the generated and the source video once, in step, and hands every metric the same chunks,
so memory does not grow with the length of a video. Frames stay uint8 as decoded, because most metrics are
defined on 8-bit values; networks get them through :func:`to_float`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from videoretalking.core.arrays import Image8
from videoretalking.core.colors import BT601_LUMA
from videoretalking.core.constants import TRAIN_FPS
from videoretalking.faces.types import Face
from videoretalking.metrics.face_tracks import SyncTrack

_LUMA = [round(weight * 2**16) for weight in BT601_LUMA]  # 19595, 38470, 7471
_TIE = 1e-6  # seconds, well below any frame duration and above rounding


@dataclass(frozen=True)
class Clip:
    """What is known about a generated video before its frames are seen.

    Attributes:
        times: [N] float64 presentation time of each frame in seconds; the sound starts at 0.
        speech: [samples] int16, 16 kHz mono: the sound of the generated video; None if it has none.
        tracks: face tracks for the sync scores, on the 25 fps grid of :func:`frame_grid`.
    """

    times: npt.NDArray[np.float64]
    speech: npt.NDArray[np.int16] | None = None
    tracks: Sequence[SyncTrack] = field(default_factory=tuple)


@dataclass(frozen=True)
class Chunk:
    """Consecutive frames of the generated video with the frames of the source that they replace.

    Attributes:
        start: index of the first frame.
        generated: [N, H, W, 3] uint8 RGB.
        source: the same of the source video; None where there is none to compare with.
        faces: the edited face in each generated frame, None where there is none.
        source_faces: the same face in the source frames.
    """

    start: int
    generated: Image8
    source: Image8 | None = None
    faces: Sequence[Face | None] = ()
    source_faces: Sequence[Face | None] = ()

    def __len__(self) -> int:
        return len(self.generated)

    def every(self, stride: int) -> slice:
        """The chunk's frames whose index in the video is a multiple of ``stride``."""
        return slice(-self.start % stride, None, stride)


class Metric(ABC):
    """One quantity, or a few that share their work, of one video at a time."""

    @abstractmethod
    def reset(self, clip: Clip) -> None:
        """Forget the last video and begin one."""

    @abstractmethod
    def update(self, chunk: Chunk) -> None:
        """Take the next frames."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Name -> value of the video; a quantity that the video does not define is left out."""


def to_float(frames: Image8, device: torch.device | None = None) -> torch.Tensor:
    """[N, H, W, C] uint8 -> [N, C, H, W] float32 in [0, 1] on ``device``."""
    return torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float().div_(255.0)


def luma(image: Image8) -> Image8:
    """[..., 3] uint8 RGB -> [...] uint8 luma (ITU-R 601 weights in 16-bit fixed point)."""
    red, green, blue = (image[..., channel].astype(np.int32) * _LUMA[channel] for channel in range(3))
    return ((red + green + blue + 32768) >> 16).astype(np.uint8)


def frame_grid(times: npt.NDArray[np.float64], fps: float = TRAIN_FPS) -> npt.NDArray[np.int64]:
    """The frame nearest to each multiple of 1 / ``fps`` seconds, from 0 to the end of the last frame.

    The published sync scores are defined at 25 frames a second; other videos are brought there by repeating and
    dropping whole frames.

    Args:
        times: [N] presentation times in seconds, increasing.
        fps: frames a second of the grid.

    Returns:
        [M] int64 indices into the frames, never decreasing.
    """
    if len(times) == 0:
        return np.zeros(0, dtype=np.int64)
    last_duration = float(np.median(np.diff(times))) if len(times) > 1 else 1.0 / fps
    count = max(1, round((times[-1] + last_duration) * fps))
    midpoints = (
        times[1:] + times[:-1]
    ) / 2 + _TIE  # halfway between two frames the earlier one is still shown
    return np.searchsorted(midpoints, np.arange(count) / fps).astype(np.int64)

"""What the face tools hand to each other: a detected face, a crop, and one tracked face over a video.

Coordinates are pixels of the decoded frame, x to the right and y down, with pixel centers at integers (see
:mod:`faces.align`). Needs numpy only.
"""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Flags, Floats32, Floats64, Ints64
from videoretalking.core.coefficients import ROW_LENGTH
from videoretalking.core.errors import UserError
from videoretalking.core.files import atomic_path
from videoretalking.core.landmarks import NUM_LANDMARKS

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Face:
    """One face in one frame.

    Attributes:
        box: [4] float32 x1, y1, x2, y2 in pixels.
        score: confidence in [0, 1].
        landmarks: [68, 2] float32 pixels in the iBUG scheme, or None where only a box was found.
    """

    box: Floats32
    score: float
    landmarks: Floats32 | None = None


@dataclass(frozen=True)
class Crop:
    """An affine crop: where each pixel of the frame lands in a small image.

    Attributes:
        matrix: [2, 3] float64, frame pixel (x, y, 1) -> crop pixel (x, y).
        size: (width, height) of the crop in pixels.
    """

    matrix: Floats64
    size: tuple[int, int]

    @property
    def inverse(self) -> Floats64:
        """[2, 3] float64, crop pixel -> frame pixel."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return np.concatenate([linear, -linear @ self.matrix[:, 2:]], axis=1)

    @property
    def scale(self) -> float:
        """Crop pixels per frame pixel (square root of the change of area)."""
        return float(np.sqrt(abs(np.linalg.det(self.matrix[:, :2]))))

    def to_crop(self, points: npt.ArrayLike) -> Floats64:
        """Frame points [..., 2] -> crop points [..., 2]."""
        return np.asarray(points, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def to_image(self, points: npt.ArrayLike) -> Floats64:
        """Crop points [..., 2] -> frame points [..., 2]."""
        inverse = self.inverse
        return np.asarray(points, dtype=np.float64) @ inverse[:, :2].T + inverse[:, 2]

    def then(self, matrix: Floats64, size: tuple[int, int] | None = None) -> Crop:
        """This crop followed by a further map.

        Args:
            matrix: [2, 3], pixels of this crop -> pixels of the result.
            size: (width, height) of the result; None keeps this crop's.
        """
        moved = matrix[:, :2] @ self.matrix
        moved[:, 2] += matrix[:, 2]
        return Crop(moved, self.size if size is None else size)

    def after(self, image: Crop) -> Crop:
        """The same view when only the pixels of ``image``, another crop of the same frame, are at hand.

        Its matrix takes pixels of ``image`` to pixels of this crop.
        """
        return Crop(image.inverse, image.size).then(self.matrix, self.size)


@dataclass(frozen=True)
class FaceTrack:
    """One face followed through a video of N frames; everything the second pass needs besides the frames.

    Rows of frames in which the face is absent hold zeros. A frame that lies in a short gap and was filled by
    interpolation is present with score 0.

    Attributes:
        times: [N] float64 presentation time of each frame in seconds.
        present: [N] bool, whether the face can be edited in the frame.
        scores: [N] float32 confidence of the landmarks in [0, 1].
        landmarks: [N, 68, 2] float32 pixels, smoothed over time.
        landmarks_raw: [N, 68, 2] float32 pixels as the detector gave them (gaps filled).
        boxes: [N, 4] float32 x1, y1, x2, y2 in pixels: the lip-sync boxes of the landmarks, smoothed.
        rows: [N, 262] float32 stored 3DMM rows (layout: :mod:`core.coefficients`), zeros until reconstructed.
        shots: [N] int64 number of the shot that the frame belongs to, counting from 0.
        frame_size: (width, height) of the video in pixels.
        backend: name of the detector that made the track.
        settings: hash of what shaped the track (video content and settings), used as the cache key.
    """

    times: Floats64
    present: Flags
    scores: Floats32
    landmarks: Floats32
    landmarks_raw: Floats32
    boxes: Floats32
    rows: Floats32
    shots: Ints64
    frame_size: tuple[int, int]
    backend: str = ""
    settings: str = ""

    def __post_init__(self) -> None:
        count = len(self.times)
        for name, (shape, kind) in _ARRAYS.items():
            array = getattr(self, name)
            if array.shape != (count, *shape) or array.dtype != kind:
                raise ValueError(
                    f"FaceTrack.{name} must be {(count, *shape)} {np.dtype(kind)}, "
                    f"got {array.shape} {array.dtype}"
                )

    def __len__(self) -> int:
        return len(self.times)

    @classmethod
    def empty(cls, times: npt.ArrayLike, frame_size: tuple[int, int], backend: str = "") -> FaceTrack:
        """A track of the given frame times in which the face is nowhere present."""
        times = np.asarray(times, dtype=np.float64)
        count = len(times)
        arrays: dict[str, Any] = {
            name: np.zeros((count, *shape), dtype=kind) for name, (shape, kind) in _ARRAYS.items()
        }
        arrays["times"] = times
        return cls(frame_size=frame_size, backend=backend, **arrays)

    def with_rows(self, rows: Floats32) -> FaceTrack:
        """The same track with its 3DMM rows [N, 262]."""
        return replace(self, rows=np.asarray(rows, dtype=np.float32))

    def shot_slices(self) -> Iterator[slice]:
        """The frame range of each shot, in order."""
        yield from runs(self.shots)

    def present_slices(self) -> Iterator[slice]:
        """The frame ranges, none crossing a shot cut, in which the face is present throughout."""
        for span in runs(np.where(self.present, self.shots, -1)):
            if self.present[span.start]:
                yield span

    def save(self, path: str | Path) -> None:
        """Write the track as a compressed ``.npz``, atomically."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with atomic_path(Path(path).with_suffix(".npz")) as temporary:
            np.savez_compressed(
                temporary,
                version=np.int64(FORMAT_VERSION),
                frame_size=np.asarray(self.frame_size, dtype=np.int64),
                backend=np.str_(self.backend),
                settings=np.str_(self.settings),
                **arrays,
            )

    @classmethod
    def load(cls, path: str | Path) -> FaceTrack:
        """Read a track written by :meth:`save`.

        Raises:
            UserError: the file is missing, damaged, of another format version, or not a face track.
        """
        advice = "delete it and run the analysis again"
        try:
            with np.load(Path(path), allow_pickle=False) as archive:
                content: dict[str, Any] = {key: archive[key] for key in archive.files}
        except FileNotFoundError:
            raise UserError(f"face track {path} does not exist") from None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise UserError(f"face track {path} is damaged ({error}): {advice}") from None
        names = {*_ARRAYS, "version", "frame_size", "backend", "settings"}
        if set(content) != names:
            odd = ", ".join(sorted(set(content) ^ names))
            raise UserError(f"{path} is not a face track of this program (fields {odd}): {advice}")
        if int(content.pop("version")) != FORMAT_VERSION:
            raise UserError(f"face track {path} was written by another version: {advice}")
        width, height = content.pop("frame_size").tolist()
        content.update({name: str(content[name]) for name in ("backend", "settings")})
        try:
            return cls(frame_size=(width, height), **content)
        except ValueError as error:
            raise UserError(f"face track {path} is damaged ({error}): {advice}") from None


# Field -> (shape of one frame's entry, type).
_ARRAYS: dict[str, tuple[tuple[int, ...], type]] = {
    "times": ((), np.float64),
    "present": ((), np.bool_),
    "scores": ((), np.float32),
    "landmarks": ((NUM_LANDMARKS, 2), np.float32),
    "landmarks_raw": ((NUM_LANDMARKS, 2), np.float32),
    "boxes": ((4,), np.float32),
    "rows": ((ROW_LENGTH,), np.float32),
    "shots": ((), np.int64),
}


def runs(labels: Ints64) -> Iterator[slice]:
    """The maximal ranges of equal neighboring labels, in order.

    Args:
        labels: [N] integers.

    Yields:
        slices that together cover 0..N.
    """
    if len(labels) == 0:
        return
    cuts = np.flatnonzero(np.diff(labels)) + 1
    edges = [0, *cuts.tolist(), len(labels)]
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)

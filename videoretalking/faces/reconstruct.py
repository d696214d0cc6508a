"""3DMM coefficients of tracked faces, by the released regressor or by fitting the compact face model.

Both give *stored rows* of 262 numbers (layout in :mod:`core.coefficients`). With the compact model identity
and expression are those of :class:`faces.face_model.FaceModel`, texture and lighting are zero. Angles and
translation mean the same in both: the face turns by Rz Ry Rx about its origin and stands in front of the
regressor's camera.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from videoretalking.core.arrays import Floats32, Floats64, Image8
from videoretalking.core.coefficients import ALIGNMENT, ANGLES, EXPRESSION, ROW_LENGTH, TRANSLATION
from videoretalking.core.constants import RECON_SIZE
from videoretalking.core.devices import OwnStream
from videoretalking.core.errors import UserError
from videoretalking.core.graphs import GraphedFunction, record_on
from videoretalking.core.locations import checkpoint_folder
from videoretalking.faces.align import (
    ReconAlignment,
    ReconAlignments,
    flip_y,
    recon_alignment,
    recon_crop,
    recon_part,
)
from videoretalking.faces.face_model import FaceModel, Pose, rotation_angles, rotation_matrices
from videoretalking.faces.recon_torch import recon_crops
from videoretalking.faces.types import Crop, FaceTrack
from videoretalking.media.picture import Picture, as_picture
from videoretalking.media.upload import upload_pictures
from videoretalking.models.catalog import load_network

# Camera of the regressor (Deng et al. 2019): focal length in crop pixels, distance in model units.
_FOCAL = 1015.0
_DISTANCE = 10.0
_CENTER = RECON_SIZE / 2

_MAX_WORKERS = 4  # threads that cut crops
_NOISE = 1.5  # standard deviation of a landmark in pixels of the 224 x 224 crop

logger = logging.getLogger(__name__)


class NetworkReconstructor:
    """Rows from pixels by ReconNet on the published crop; called with a few frames at a time while tracking.

    Args:
        network: ReconNet with weights, in eval mode.
        device: where it runs.
    """

    name = "reconnet"

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.network = network.to(self.device)
        self._pool = ThreadPoolExecutor(min(_MAX_WORKERS, os.cpu_count() or 1))
        self._stream = OwnStream(device)
        self._measure = GraphedFunction(
            type(network).__name__, partial(_measure, self.network), record_on(self.device)
        )

    def __call__(self, frame: Image8, landmarks: npt.ArrayLike) -> Floats32:
        """The stored row of one face.

        Args:
            frame: [H, W, 3] uint8 RGB.
            landmarks: [68, 2] pixels.

        Returns:
            [262] float32.
        """
        return np.asarray(self.rows([frame], [landmarks])[0])

    def rows(self, frames: Sequence[Image8 | Picture], landmarks: Iterable[npt.ArrayLike]) -> Floats32:
        """The stored rows of one face in each of N frames, in one batch.

        Args:
            frames: N times [H, W, 3] uint8 RGB.
            landmarks: N times [68, 2] pixels.

        Returns:
            [N, 262] float32.
        """
        pictures = [as_picture(frame) for frame in frames]
        alignments = [
            recon_alignment(points, picture.size) for picture, points in zip(pictures, landmarks, strict=True)
        ]
        with self._stream():
            coefficients = self._measure(self._crops(pictures, alignments)).cpu().numpy()
        return np.concatenate([coefficients, np.stack([item.params for item in alignments])], axis=1)

    def _crops(self, pictures: Sequence[Picture], alignments: Sequence[ReconAlignment]) -> torch.Tensor:
        """[N, 224, 224, 3] uint8 on the device, cut there where that is a GPU with float64."""
        if self.device.type == "cuda":
            frames = {id(picture): picture for picture in pictures}  # each may show several faces
            uploaded = upload_pictures(list(frames.values()), self.device)
            images = dict(zip(frames, uploaded, strict=True))
            return recon_crops([images[id(picture)] for picture in pictures], alignments)
        crops = list(self._pool.map(_crop, pictures, alignments))
        return torch.from_numpy(np.stack(crops)).to(self.device)


def _measure(network: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
    """[B, 224, 224, 3] uint8 -> [B, 257] coefficients."""
    coefficients: torch.Tensor = network(pixels.permute(0, 3, 1, 2).float() / 255.0).float()
    return coefficients


def _crop(picture: Picture, alignment: ReconAlignment) -> Image8:
    box = recon_part(alignment) or (0, 0, 1, 1)
    return recon_crop(picture.part(box), alignment, box[:2])


class FitReconstructor:
    """Rows from landmarks by fitting the compact face model; called once the track is complete.

    Args:
        model: the face model.
    """

    name = "fit"

    def __init__(self, model: FaceModel) -> None:
        self.model = model

    def __call__(self, track: FaceTrack, person: Floats32 | None = None) -> FaceTrack:
        """The track with its rows; a shot's frames share one identity, absent frames keep zeros.

        Args:
            track: the face.
            person: [262] an earlier row of the person, whose identity is kept; None fits one.
        """
        rows = np.zeros((len(track), ROW_LENGTH), dtype=np.float32)
        for shot in track.shot_slices():
            frames = shot.start + np.flatnonzero(track.present[shot])
            if len(frames):
                rows[frames] = self.rows(track.landmarks[frames], track.frame_size, person)
        return track.with_rows(rows)

    def rows(
        self, landmarks: npt.ArrayLike, size: tuple[int, int], person: Floats32 | None = None
    ) -> Floats32:
        """Rows of one person's frames.

        Args:
            landmarks: [N, 68, 2] pixels of the frame or of any view of it, N >= 1.
            size: (width, height) of that frame or view.
            person: [262] an earlier row of the person, whose identity is kept; None fits one.

        Returns:
            [N, 262] float32.
        """
        points = np.asarray(landmarks, dtype=np.float64)
        identity = None if person is None else person[: len(self.model.identity_basis)].astype(np.float64)
        alignments = [recon_alignment(face, size) for face in points]
        in_crop = np.stack(
            [
                alignment.to_crop_up(face)
                for alignment, face in zip(alignments, flip_y(points, size[1]), strict=True)
            ]
        )
        fit = self.model.fit(in_crop, _NOISE, identity)
        rows = np.zeros((len(points), ROW_LENGTH), dtype=np.float32)
        rows[:, : len(fit.identity)] = fit.identity
        rows[:, EXPRESSION.start : EXPRESSION.start + fit.expression.shape[1]] = fit.expression
        rows[:, ANGLES] = fit.pose.angles
        rows[:, TRANSLATION] = _translation(fit.pose)
        rows[:, ALIGNMENT] = np.stack([alignment.params for alignment in alignments])
        return rows


def _translation(pose: Pose) -> Floats64:
    """[N, 3] translation in front of the regressor's camera that gives the weak-perspective scale and shift."""
    depth = _FOCAL / pose.scale
    return np.concatenate(
        [(pose.shift - _CENTER) / pose.scale[:, None], (_DISTANCE - depth)[:, None]], axis=1
    )


def _pose(rows: Floats64) -> Pose:
    """Inverse of :func:`_translation`, with the rotation, from [N, 262] rows."""
    x, y, z = rows[:, TRANSLATION].T
    scale = _FOCAL / (_DISTANCE - z)
    shift = np.stack([x, y], axis=1) * scale[:, None] + _CENTER
    return Pose(rotation_matrices(rows[:, ANGLES]), scale, shift)


def rows_in_view(rows: npt.ArrayLike, landmarks: npt.ArrayLike, views: Crop | list[Crop]) -> Floats32:
    """Rows of a frame as they would be measured inside a view of it, such as D-Net's crop.

    D-Net sees position and scale of the face *inside its own image*, so the rows that drive it must be
    measured there. The coefficients describe the aligned face and stay; the alignment, the roll and the
    translation change.

    Args:
        rows: [N, 262] measured on frames.
        landmarks: [N, 68, 2] pixels of the frames.
        views: one similarity crop of the frames for all rows, or one for each.

    Returns:
        [N, 262] float32.
    """
    values = np.array(rows, dtype=np.float64)
    pose = _pose(values)
    crops = [views] * len(values) if isinstance(views, Crop) else views
    matrices = np.stack([view.matrix for view in crops])
    linear, shift = matrices[:, :, :2], matrices[:, :, 2]
    sizes = np.array([view.size for view in crops], dtype=np.float64)
    points = np.asarray(landmarks, np.float64) @ linear.mT + shift[:, None]
    old, new = ReconAlignments.from_params(values[:, ALIGNMENT]), ReconAlignments.fit(points, sizes)
    origins = old.from_crop_up(pose.shift)
    origins[:, 1] = old.frame_sizes[:, 1] - 1 - origins[:, 1]
    moved = (origins[:, None] @ linear.mT)[:, 0] + shift
    moved[:, 1] = sizes[:, 1] - 1 - moved[:, 1]
    # y points down in crops and up here, so turns change their sign
    rolls = -np.arctan2(linear[:, 1, 0], linear[:, 0, 0])
    turns = rotation_matrices(np.stack([np.zeros_like(rolls), np.zeros_like(rolls), rolls], axis=1))
    scales = np.sqrt(np.abs(np.linalg.det(linear)))
    pose = Pose(
        rotation=turns @ pose.rotation,
        scale=pose.scale * (scales * new.scales / old.scales),
        shift=new.to_crop_up(moved),
    )
    values[:, ALIGNMENT] = new.params
    values[:, ANGLES] = rotation_angles(pose.rotation)
    values[:, TRANSLATION] = _translation(pose)
    return values.astype(np.float32)


def load_face_model(path: str | Path | None = None) -> FaceModel:
    """The face model of a file, or the bundled one.

    Raises:
        UserError: missing or damaged.
    """
    if path is None:
        path = checkpoint_folder("demo") / "face_model.safetensors"
    return FaceModel.load(path)


def choose_reconstructor(
    name: str = "auto", device: torch.device | str = "cpu"
) -> NetworkReconstructor | FitReconstructor:
    """The released regressor where its converted weights are present, else the bundled face model.

    Args:
        name: auto, reconnet or fit.
        device: of the regressor.

    Raises:
        UserError: unknown name, or the wanted weights are missing.
    """
    if name not in ("auto", NetworkReconstructor.name, FitReconstructor.name):
        raise UserError(f"unknown reconstruction {name!r}, choose auto, reconnet or fit")
    if name != FitReconstructor.name:
        try:
            network = load_network("reconnet")
            logger.info("3DMM coefficients by the released regressor")
            return NetworkReconstructor(network, device)
        except UserError:
            if name == NetworkReconstructor.name:
                raise
    logger.info("3DMM coefficients by fitting the bundled face model")
    return FitReconstructor(load_face_model())

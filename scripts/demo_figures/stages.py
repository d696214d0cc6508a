"""What each network of the main job makes of a face, beside source and result: a line of a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.constants import ENET_SIZE
from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import OUTER_LIPS
from videoretalking.faces.align import box_crop, extract
from videoretalking.faces.masks import eye_distance
from videoretalking.faces.track import select_tracks
from videoretalking.faces.types import FaceTrack
from videoretalking.media.picture import as_picture
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.expression import choose_expression
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.raster import Pixels
from videoretalking.pipeline.raster_torch import choose_raster
from videoretalking.pipeline.retalker import Retalker
from videoretalking.pipeline.speech import load_speech
from videoretalking.pipeline.stages.enhance import Enhancer
from videoretalking.pipeline.stages.lipsync import LipSyncer
from videoretalking.pipeline.stages.neutralize import DrivingWindows, Neutralizer
from videoretalking.pipeline.stages.rest import RestingMouths

COLUMNS = ("source", "D-Net", "L-Net", "E-Net", "result", "mouth of source above that of result")
_MOUTH_MARGIN = 0.25  # eye distances around the lips


@torch.inference_mode()
def stage_line(retalker: Retalker, face: Path, speech: Path, result: Path, moments: int, size: int) -> Image8:
    """Some moments of a dub, each through all networks.

    The networks run anew on these frames alone. E-Net therefore takes the style of the person from each of them
    and not from the frames before, and its picture is shown before detail of the source is given back.

    Args:
        retalker: with the weights and settings of the dub.
        face: video that was dubbed.
        speech: its new sound.
        result: the dub.
        moments: frames of it, evenly spaced.
        size: pixels of a tile.

    Returns:
        [size, moments * 6 * size, 3] uint8 RGB, :data:`COLUMNS` for each moment.

    Raises:
        UserError: unreadable files, or no face.
    """
    tracks = retalker.analyze(face).tracks
    if not tracks:
        raise UserError(f"{face}: no face was found")
    (track, *_) = select_tracks(tracks, retalker.config.render.face)
    sources, results = _frames(face), _frames(result)
    shown = np.flatnonzero(track.present[: min(len(sources), len(results))])
    if not len(shown):
        raise UserError(f"{face}: no face in the frames that {result} has, too")
    places = (np.arange(moments) + 0.5) / moments * len(shown)
    numbers = [int(shown[place]) for place in places.astype(int)]
    jobs = [
        FaceJob(
            frame=sources[number],
            track=0,
            index=number,
            stretch=0,
            time=float(track.times[number]),
            landmarks=track.landmarks[number],
            crop=box_crop(track.boxes[number], (ENET_SIZE, ENET_SIZE)),
        )
        for number in numbers
    ]
    tiles = []
    for number, job, painted in zip(
        numbers, jobs, _paint(retalker, track, jobs, speech, sources), strict=True
    ):
        pair = sources[number], results[number]
        faces = [extract(pair[0], job.crop), *painted, extract(pair[1], job.crop)]
        tiles += [cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA) for image in faces]
        tiles.append(np.vstack([_mouth(frame, job.landmarks, size) for frame in pair]))
    return np.hstack(tiles).astype(np.uint8)


def _frames(path: Path) -> list[Image8]:
    with VideoReader(path) as video:
        return [frame.image for frame in video]


def _paint(
    retalker: Retalker, track: FaceTrack, jobs: Sequence[FaceJob], speech: Path, frames: Sequence[Image8]
) -> list[tuple[Image8, ...]]:
    """What D-, L- and E-Net make of each face of a video with these frames, uint8 [S, S, 3] each."""
    options, networks = retalker.config.render, retalker.networks
    raster = choose_raster(networks.engine.device)
    uploaded = raster.upload([as_picture(np.asarray(job.frame)) for job in jobs])
    raster.receive(uploaded)
    for job, image in zip(jobs, uploaded, strict=True):
        job.frame = image
    crops = raster.cut([job.frame for job in jobs], [job.crop for job in jobs])
    original = reference = raster.tensor(crops)
    if networks.dnet is not None:
        expression = choose_expression(options, retalker.weights.templates, retalker.tools)
        drive = retalker.weights.drive
        windows = DrivingWindows(track, expression, options.one_shot, drive.length, drive.overshoot)
        rest = None
        if drive.from_rest and not options.one_shot:

            def fetch(numbers: Sequence[int]) -> list[Pixels]:
                images = raster.upload([as_picture(frames[number]) for number in numbers])
                raster.receive(images)
                return images

            rest = RestingMouths(raster, fetch)
        reference = raster.tensor(Neutralizer(networks.dnet, [windows], raster, rest)(jobs, crops))
    heard = load_speech(speech, options.silence_gate).windows([job.time for job in jobs])
    painting = LipSyncer(networks.lnet, options.least_share)(heard, original, reference)
    large = Enhancer(networks.enet, 1)(jobs, painting.image, original)
    images = [
        reference,
        painting.over(original, reference),
        replace(painting, image=large).over(original, reference),
    ]
    return list(zip(*(_images(batch) for batch in images), strict=True))


def _images(batch: torch.Tensor) -> list[Image8]:
    levels = (255.0 * batch.float().clamp(0.0, 1.0)).round().to(torch.uint8)
    return list(levels.permute(0, 2, 3, 1).cpu().numpy())


def _mouth(frame: Image8, landmarks: Floats32, size: int) -> Image8:
    """The mouth at [size / 2, size, 3], enlarged."""
    lips = landmarks[OUTER_LIPS]
    width = np.ptp(lips[:, 0]) + 2 * _MOUTH_MARGIN * eye_distance(landmarks)
    middle, half = (lips.min(axis=0) + lips.max(axis=0)) / 2, np.array([width, width / 2]) / 2
    crop = box_crop(np.concatenate([middle - half, middle + half]), (size, size // 2))
    return extract(frame, crop)

"""Step 9, for little data: every frame as D-Net renders it with a neutral expression.

In use L-Net's reference is the frame itself through D-Net, whose picture is softer than a frame and whose mouth is
at rest. An L-Net that saw real frames alone copies that softness. ``neutral_references`` of its small-data step
mixes these frames in. The step runs on finished prepared data, with the D-Net, the templates and the 3DMM rows that
belong together::

    python -m scripts.preprocess.neutral --root data/demo/small --weights demo
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.coefficients import driving_window
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import DNET_SIZE, LANDMARK_SIZE
from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.core.hashing import file_hash
from videoretalking.datasets.clips import ClipWriter, PreparedClip
from videoretalking.datasets.manifest import read_manifest
from videoretalking.faces.align import box_crop
from videoretalking.faces.types import Crop
from videoretalking.losses.landmarks import LandmarkLoss
from videoretalking.media.picture import as_picture
from videoretalking.models.dnet import DNet
from videoretalking.pipeline.config import WeightsConfig
from videoretalking.pipeline.raster_torch import choose_raster
from videoretalking.pipeline.stages.detail import keep_detail
from videoretalking.pipeline.stages.neutralize import insert_renderings
from videoretalking.pipeline.weights import choose_weights

logger = logging.getLogger(__name__)

_BATCH = 32  # frames rendered at once
_ORIGIN = "neutral_dnet.txt"  # in a clip's folder: which D-Net rendered it


@dataclass(frozen=True)
class Renderer:
    """What renders neutral frames.

    Attributes:
        digest: of D-Net's file.
        dnet: D-Net.
        expression: [64] the neutral template.
        landmarks: finds the landmarks of what was rendered.
        device: of both networks.
    """

    digest: str
    dnet: DNet
    expression: Floats32
    landmarks: LandmarkLoss
    device: torch.device

    @torch.inference_mode()
    def __call__(self, clip: PreparedClip, frames: range) -> tuple[list[Image8], Floats32]:
        """Render some frames of a clip.

        Args:
            clip: with frames, landmarks, boxes and rows.
            frames: numbers of N frames.

        Returns:
            N times [H, W, 3] RGB as large as the stored frames, and their landmarks [N, 68, 2] in pixels.
        """
        raster = choose_raster(self.device)
        stored = raster.upload([as_picture(clip.frame(index)) for index in frames])
        raster.receive(stored)
        view = box_crop(clip.meta.dnet_window, (DNET_SIZE, DNET_SIZE))
        config = self.dnet.config
        windows = np.stack(
            [
                driving_window(
                    clip.rows, index, self.expression, length=config.window, overshoot=config.overshoot
                )
                for index in frames
            ]
        )
        sources = raster.tensor(raster.cut(stored, [view] * len(frames)))
        rendered = self.dnet(sources, torch.from_numpy(windows).to(self.device))
        points = [clip.landmarks[index] for index in frames]
        edited, warped = (
            raster.pixels(images.float().clamp(0.0, 1.0)) for images in (rendered.image, rendered.warped)
        )
        images = keep_detail(raster, edited, warped, [view.to_crop(found) for found in points])
        whole = Crop(np.eye(2, 3), (clip.meta.width, clip.meta.height))
        originals = raster.cut(stored, [whole] * len(frames))
        inserted = insert_renderings(
            raster,
            images,
            [view] * len(frames),
            [whole] * len(frames),
            points,
            originals,
        )
        faces = [box_crop(clip.boxes[index], (LANDMARK_SIZE, LANDMARK_SIZE)) for index in frames]
        found = self.landmarks.find(raster.tensor(raster.view(inserted, faces))).cpu().numpy() * LANDMARK_SIZE
        landmarks = np.stack([face.to_image(lips) for face, lips in zip(faces, found, strict=True)])
        levels = raster.to_bytes(inserted)
        finished = raster.download(levels)
        return [np.ascontiguousarray(ready()) for ready in finished], landmarks.astype(np.float32)


def choose_renderer(family: str, device: str) -> Renderer:
    """The networks and the template of a family of weights.

    Args:
        family: ``auto``, ``official``, ``demo`` or a folder, as of inference.
        device: ``auto``, ``cpu``, ``cuda`` ...

    Raises:
        UserError: a file is missing or holds something else.
    """
    weights, place = choose_weights(WeightsConfig(family=family), networks=("dnet",)), choose_device(device)
    path, dnet = weights.path("dnet"), weights.load("dnet", place)
    assert path is not None and isinstance(dnet, DNet)
    landmarks = LandmarkLoss(weights.load("landmarks", place))
    return Renderer(file_hash(path), dnet, weights.templates()["neutral"], landmarks, place)


def render_clip(clip: PreparedClip, renderer: Renderer) -> None:
    """Write the neutral frames of one clip and their landmarks.

    The index of the frames, which says that all is there, comes last.
    """
    landmarks: list[Floats32] = []

    def images() -> Iterator[Image8]:
        for first in range(0, len(clip), _BATCH):
            rendered, points = renderer(clip, range(first, min(first + _BATCH, len(clip))))
            landmarks.append(points)
            yield from rendered

    writer = ClipWriter(clip.folder)
    frames = list(images())
    writer.write_per_frame("neutral_landmarks", np.concatenate(landmarks))
    writer.write_frames(frames, "neutral")


def run(root: Path, renderer: Renderer) -> int:
    """Render those training clips of a prepared data set that this D-Net has not rendered yet.

    Args:
        root: of the data set.
        renderer: the networks.

    Returns:
        The number of clips that were rendered.

    Raises:
        UserError: no clip for training.
    """
    clips = [PreparedClip(root / entry.clip) for entry in read_manifest(root) if entry.split == "train"]
    if not clips:
        raise UserError(f"{root} has no clips for training")
    wanted = [clip for clip in clips if clip.has("rows") and _made_by(clip) != renderer.digest]
    for clip in tqdm(wanted, desc="neutral", unit="clip"):
        render_clip(clip, renderer)
        with atomic_path(clip.folder / _ORIGIN) as temporary:
            temporary.write_text(renderer.digest, encoding="utf-8")
    logger.info("%s: %d clips rendered, %d were there", root, len(wanted), len(clips) - len(wanted))
    return len(wanted)


def _made_by(clip: PreparedClip) -> str:
    """Digest of the D-Net that rendered a clip, or an empty string."""
    path = clip.folder / _ORIGIN
    return path.read_text(encoding="utf-8") if path.is_file() and clip.has("neutral_index") else ""


def main() -> None:
    """Command line of step 9."""
    parser = CommandParser(description="Step 9: every frame through D-Net, references for L-Net's training")
    parser.add_argument("--root", type=Path, required=True, help="prepared data set")
    parser.add_argument(
        "--weights", default="demo", help="auto, official, demo, or a folder, as of inference"
    )
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    run(arguments.root, choose_renderer(arguments.weights, arguments.device))


if __name__ == "__main__":
    run_command(main)

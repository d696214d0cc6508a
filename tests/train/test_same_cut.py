"""What a network was trained on is what it sees in use: one frame, cut by the data set and by the pipeline."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import ENET_SIZE, MEL_BANDS, MEL_WINDOW
from videoretalking.core.quality import psnr
from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.clips import ClipMeta, ClipWriter, PreparedClip
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.degradations import degrade
from videoretalking.datasets.enet import ENetClips
from videoretalking.datasets.expert import SyncWindows
from videoretalking.datasets.lnet import LNetClips
from videoretalking.datasets.manifest import ManifestEntry, write_manifest
from videoretalking.faces.align import box_crop
from videoretalking.models.layers.blocks import shrink
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.raster import ArrayRaster
from videoretalking.pipeline.stages.lipsync import LipSyncer

PORTRAIT = Path(__file__).resolve().parents[2] / "examples" / "portrait.jpg"
FRAMES = 10
WIDTHS = [90, 150, 260, 450, 600]  # of the face in pixels
LEAST = 45.0  # dB
MARGIN = 12  # pixels


def photo(width: int) -> Image8:
    """The portrait with a margin around ``width`` pixels."""
    image = cv2.imread(str(PORTRAIT))
    side = width + 2 * MARGIN
    method = cv2.INTER_AREA if side < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (side, side), interpolation=method), np.uint8)[..., ::-1]


def write_photo(root: Path, width: int) -> PreparedClip:
    """A clip in which the portrait stands still, with a face box between the pixels."""
    frame = np.ascontiguousarray(photo(width))
    side = len(frame)
    writer = ClipWriter(root / "a")
    writer.write_frames([frame] * FRAMES)
    box = np.array([0.0, 0.0, width, width]) + MARGIN + 0.3
    writer.write_per_frame("boxes", np.tile(box.astype(np.float32), (FRAMES, 1)))
    writer.write_per_frame("landmarks", np.float32(width * np.random.default_rng(0).random((FRAMES, 68, 2))))
    writer.write_audio(np.zeros(640 * FRAMES, np.float32), np.zeros((MEL_BANDS, 60), np.float32))
    window = (0.0, 0.0, float(side), float(side))
    writer.finish(ClipMeta("a", FRAMES, side, side, window, "portrait", "none", release_training=True))
    write_manifest(root, [ManifestEntry("a", "train", "a", FRAMES, True)])
    return PreparedClip(root / "a")


class Recorder(nn.Module):
    """Stands for L-Net and keeps what it was shown."""

    def __init__(self, antialias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace(antialias=antialias)
        self.seen = torch.empty(0)

    def forward(self, audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        self.seen = faces
        return faces[:, 3:]


def seen_in_use(clip: PreparedClip, antialias: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The crop that the pipeline takes, [1, 3, 384, 384], and what L-Net sees of it, [1, 3, 96, 96]."""
    raster = ArrayRaster(torch.device("cpu"))
    crops = raster.cut([clip.frame(0)], [box_crop(clip.boxes[0], (ENET_SIZE, ENET_SIZE))])
    large = raster.tensor(crops)
    lnet = Recorder(antialias)
    engine = Engine(torch.device("cpu"), torch.float32, batch_size=1)
    LipSyncer(engine.prepare(lnet))(torch.zeros(1, MEL_BANDS, MEL_WINDOW), large, large)
    return large, lnet.seen[:, 3:]


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_face_is_cut_the_same_way_in_training_and_in_use(
    tmp_path: Path, width: int, antialias: bool
) -> None:
    clip = write_photo(tmp_path, width)
    source = SampleSource(DataConfig(str(tmp_path), val_split=""))
    large, low = seen_in_use(clip, antialias)

    lnet = torch.from_numpy(LNetClips(source, antialias).preview(0, 1)["target"][:, :, 0])
    assert psnr(lnet, low).item() > LEAST
    expert = SyncWindows(source, num_windows=2, min_shift=1, antialias=antialias)[(0, 0)]["faces"]
    assert psnr(torch.from_numpy(expert[:1, :3]), low[:, :, 48:]).item() > LEAST
    target = torch.from_numpy(ENetClips(source, "original", num_frames=1)[(0, 0)]["target"][None, :, 0])
    assert psnr(degrade(target, torch.zeros(1), 96, antialias), low).item() > LEAST
    assert psnr(target, large).item() > LEAST


def test_the_two_ways_differ_on_large_faces(tmp_path: Path) -> None:
    large, filtered = seen_in_use(write_photo(tmp_path, 340), antialias=True)
    assert psnr(shrink(large, 96, antialias=False), filtered).item() < LEAST - 10.0

"""What is made on the GPU beside networks: samples from memory, measures, the mark of tensors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import lpips
import numpy as np
import pytest
import torch
from gpu_compare import CPU, ERROR, Compare
from media_clips import picture
from metric_samples import make_face, smooth_frame
from tiny_weights import DEMO
from torch.utils.data import default_collate

from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.base import ClipDataset, SampleSource
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.degradations import blur, degrade, recolor
from videoretalking.datasets.dnet import DNetPairs
from videoretalking.datasets.enet import ENetClips
from videoretalking.datasets.lnet import LNetClips
from videoretalking.datasets.resident import load_resident
from videoretalking.datasets.small_data import NearLNetClips
from videoretalking.metrics.base import Chunk, Clip, Metric
from videoretalking.metrics.fid import FidFeatures
from videoretalking.metrics.identity import Identity
from videoretalking.metrics.inception import RandomFeatures
from videoretalking.metrics.lpips import Lpips, lpips_distance
from videoretalking.metrics.lse import ExpertScore, SyncNetScore
from videoretalking.metrics.ssim import Similarity
from videoretalking.models.arcface import ArcFace, ArcFaceConfig
from videoretalking.models.catalog import load_network
from videoretalking.models.syncnet import SyncNet, SyncNetConfig
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video_torch import TensorMark

CHANGES = AugmentConfig(flip=0.5, color=1.0, crop_jitter=0.1, blur=0.5, jpeg=0.5, occlusion=0.5)
FRAMES = 32


@pytest.mark.gpu
@pytest.mark.parametrize(
    "make",
    [
        lambda source: LNetClips(source, antialias=True),
        lambda source: NearLNetClips(source, antialias=False, far_references=0.5, with_points=True),
        lambda source: ENetClips(source, num_frames=2, size=192),
        lambda source: DNetPairs(source, size=64),
    ],
    ids=["lnet", "near", "enet", "dnet"],
)
def test_samples_from_memory_are_those_from_files(
    make: Callable[[SampleSource], ClipDataset], prepared_root: Path, device: torch.device
) -> None:
    files, here, there = (make(SampleSource(DataConfig(str(prepared_root)), CHANGES)) for _ in range(3))
    keys = [(epoch, index) for epoch in range(2) for index in range(3)]
    rooms = [load_resident(dataset, where) for dataset, where in ((here, device), (there, CPU))]
    found, on_cpu = (
        room.render(default_collate([dataset[key] for key in keys]))
        for room, dataset in zip(rooms, (here, there), strict=True)
    )
    wanted = default_collate([files[key] for key in keys])
    for name in files.layouts:
        assert found[name].device.type == device.type and found[name].shape == wanted[name].shape
        # a level that lies between two may round either way, and JPEG makes a block of it
        difference = 255.0 * (found[name].cpu() - on_cpu[name]).abs()
        assert difference.mean() < 0.02 and (difference > 1.01).float().mean() < 0.01, name
        assert 255.0 * (found[name].cpu() - wanted[name]).abs().mean() < 2.0, name


def clip_of_faces() -> tuple[Clip, Chunk]:
    """A clip with a tone that rises, its frames and those of its source."""
    face = make_face()
    source = np.stack([smooth_frame(192, 192, seed) for seed in range(FRAMES)])
    noise = np.random.default_rng(0).integers(-9, 10, source.shape)
    generated = np.clip(source.astype(np.int64) + noise, 0, 255).astype(np.uint8)
    generated[:, 96:160, 64:128] = np.stack([cv2.flip(frame, 1)[96:160, 64:128] for frame in generated])
    time = np.arange(FRAMES * 640) / 16000
    speech = (8000 * np.sin(2 * np.pi * (200 + 400 * time) * time)).astype(np.int16)
    chunk = Chunk(0, generated, source, [face] * FRAMES, [face] * FRAMES)
    return Clip(times=np.arange(FRAMES) / 25, speech=speech), chunk


def _identity(device: torch.device) -> Metric:
    network = ArcFace(ArcFaceConfig(widths=(8, 8, 16, 16), depths=(1, 1, 1, 1), embedding_size=32))
    return Identity(network.eval().to(device), 4, device)


def _fid(device: torch.device) -> Metric:
    extractor = RandomFeatures().to(device)
    return FidFeatures(lambda images: extractor(images.to(device)), stride=4)


def _syncnet(device: torch.device) -> Metric:
    network = SyncNet(SyncNetConfig((8,) * 6, (8,) * 6, 16)).eval()
    return SyncNetScore(network, "frame", device=device)


def _expert(device: torch.device) -> Metric:
    network: Any = load_network(DEMO / "lipsync_expert.safetensors", device=device)
    return ExpertScore(network, device)


MEASURES: dict[str, Callable[[torch.device], Metric]] = {
    "similarity": Similarity,
    "identity": _identity,
    "fid": _fid,
    "lpips": lambda device: Lpips(lpips_distance(device, "squeeze"), stride=4),
    "syncnet": _syncnet,
    "expert": _expert,
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", MEASURES)
def test_measures_are_those_of_the_cpu(
    name: str, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lpips, "LPIPS", partial(lpips.LPIPS, pnet_rand=True))
    clip, chunk = clip_of_faces()
    values = []
    for where in (device, CPU):
        torch.manual_seed(0)
        metric = MEASURES[name](where)
        metric.reset(clip)
        metric.update(chunk)
        values.append(metric.compute())
        if isinstance(metric, FidFeatures):
            values[-1] |= {
                f"feature {index}": float(value) for index, value in enumerate(metric.features[-1])
            }
    found, wanted = values
    assert wanted and found.keys() == wanted.keys()
    for key, value in wanted.items():
        if key in ("av_offset", "av_in_sync"):  # an untrained network finds all offsets alike
            continue
        assert found[key] == pytest.approx(value, rel=10 * ERROR, abs=10 * ERROR), key


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_mark_of_tensors_is_that_of_the_cpu(
    dtype: torch.dtype, device: torch.device, compare: Compare
) -> None:
    frames = torch.from_numpy(np.stack([picture(321, 255, seed) for seed in range(2)]))
    frames = (frames.permute(0, 3, 1, 2) / 255.0).to(dtype)
    masks = torch.zeros(1, 1, 255, 321)
    masks[..., 100:] = 1.0
    mark = TensorMark(PUBLIC_KEY, Payload(77))
    found = mark.apply(frames.to(device), masks.to(device))
    assert found.device.type == device.type
    compare("marked", found, mark.apply(frames, masks), ERROR if dtype == torch.float32 else 1e-2)
    assert torch.equal(found[..., :100].cpu(), frames[..., :100])


@pytest.mark.gpu
def test_inputs_are_spoiled_alike(device: torch.device, compare: Compare) -> None:
    frames = torch.from_numpy(np.stack([picture(192, 192, seed) for seed in range(2)]))
    frames = frames.permute(0, 3, 1, 2) / 255.0
    spoilers: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "blur": lambda image: blur(image, torch.tensor([0.0, 1.5], device=image.device)),
        "color": lambda image: recolor(image, 0.9 * torch.eye(3, 4, device=image.device).expand(2, 3, 4)),
    }
    for name, spoil in spoilers.items():
        compare(name, spoil(frames.to(device)), spoil(frames), ERROR)
    quality = torch.tensor([0.0, 60.0])
    found = degrade(frames.to(device), quality.to(device), 96, antialias=True).cpu()
    assert (found - degrade(frames, quality, 96, antialias=True)).abs().mean() < 1e-3

"""The regressor's crops as tensors, against those of Pillow's arithmetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from videoretalking.faces.align import ReconAlignment, recon_alignment, recon_crop
from videoretalking.faces.recon_torch import recon_crops
from videoretalking.faces.reconstruct import NetworkReconstructor
from videoretalking.media.video import VideoReader

EXAMPLE = Path(__file__).parents[2] / "examples" / "speaker.mp4"
FRAME = (331, 257)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(request.param)


def alignments(frontal: np.ndarray) -> list[ReconAlignment]:
    """Small, large and shifted faces, one half outside, one outside."""
    centered = frontal - frontal.mean(axis=0)
    places = [(0.4, 160, 120), (1.0, 165, 130), (2.5, 150, 128), (1.2, 20, 30), (0.8, 330, 250)]
    found = [recon_alignment(centered * scale + [x, y], FRAME) for scale, x, y in places]
    return [*found, ReconAlignment(FRAME, 1.5, np.array([5000.0, 100.0]))]


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("pixels", [4 << 20, 1])  # in one group, and each face alone
def test_crops_have_the_very_bytes(
    frontal: np.ndarray, together: bool, pixels: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("videoretalking.faces.recon_torch._PIXELS_TOGETHER", pixels)
    rng = np.random.default_rng(0)
    wanted = alignments(frontal)
    images = [rng.integers(0, 256, (*FRAME[::-1], 3), dtype=np.uint8) for _ in wanted]
    images[1] = np.where(images[1] > 127, 255, 0).astype(np.uint8)  # sums beyond both ends
    frames = [torch.from_numpy(image).to(device) for image in images]
    if together:
        found = recon_crops(frames, wanted)
    else:
        found = torch.cat([recon_crops([frame], [face]) for frame, face in zip(frames, wanted, strict=True)])
    assert found.dtype == torch.uint8 and found.device.type == device.type
    for crop, image, alignment in zip(found.cpu().numpy(), images, wanted, strict=True):
        assert np.array_equal(crop, recon_crop(image, alignment))
    assert not found[-1].any() and all(crop.any() for crop in found[:-1])


class Samples(nn.Module):
    """Coefficients that are pixels of the crop."""

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return crops.flatten(1)[:, : 257 * 500 : 500]


@pytest.mark.gpu
def test_rows_on_a_gpu_are_those_of_the_cpu(frontal: np.ndarray) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    landmarks = [frontal + np.array([3.0 * number, 2.0]) for number in range(5)]
    rows = []
    for device in ("cpu", "cuda"):
        with VideoReader(EXAMPLE) as reader:
            pictures = [look.picture for look, _ in zip(reader.looks(), landmarks, strict=False)]
        pictures[3] = pictures[2]  # a frame with two faces
        rows.append(NetworkReconstructor(Samples(), device).rows(pictures, landmarks))
    assert np.array_equal(*rows)

"""The mark on tensors is that on bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from media_clips import picture

from videoretalking.core.arrays import Image8
from videoretalking.media.images import save_image
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.video import VideoMark
from videoretalking.provenance.video_detector import detect_video
from videoretalking.provenance.video_torch import TensorMark

PAYLOAD = Payload(77)
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def to_tensor(images: list[Image8], device: str = "cpu") -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).to(device) / 255.0


def to_bytes(frames: torch.Tensor) -> Image8:
    return (frames.permute(0, 2, 3, 1) * 255.0).round().byte().cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("width", "height"), [(320, 256), (301, 199), (64, 64), (9, 7)])
def test_tensors_get_the_mark_of_bytes(width: int, height: int, device: str) -> None:
    images = [picture(width, height, seed, grain=4.0) for seed in range(2)]
    marked = TensorMark(PUBLIC_KEY, PAYLOAD).apply(to_tensor(images, device))
    assert marked.device.type == device and marked.dtype == torch.float32
    for image, got in zip(images, to_bytes(marked), strict=True):
        expected = VideoMark(PUBLIC_KEY, PAYLOAD).apply(image)
        difference = np.abs(expected.astype(int) - got)
        assert difference.max() <= 2 and difference.mean() < 0.15
        if min(width, height) >= 64:
            change = expected.astype(float) - image
            assert np.corrcoef(change.ravel(), (got.astype(float) - image).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("device", DEVICES)
def test_the_detector_reads_it_and_masked_pixels_keep_their_values(tmp_path: Path, device: str) -> None:
    frames = to_tensor([picture(320, 320)], device)
    mark = TensorMark(PUBLIC_KEY, PAYLOAD)
    save_image(tmp_path / "marked.png", to_bytes(mark.apply(frames))[0])
    assert detect_video(tmp_path / "marked.png", quiet=True).payload == PAYLOAD
    masks = torch.zeros(1, 1, 320, 320, device=device)
    masks[..., 100:200] = 1.0
    marked = mark.apply(frames, masks)
    assert torch.equal(marked[..., :100], frames[..., :100])
    assert (marked[..., 100:200] != frames[..., 100:200]).float().mean() > 0.5


def test_frames_marked_together_are_those_marked_alone() -> None:
    frames = to_tensor([picture(161, 129, seed, grain=8.0 * seed) for seed in range(3)])
    masks = torch.stack([torch.full((1, 129, 161), strength) for strength in (0.0, 0.5, 1.0)])
    mark = TensorMark(PUBLIC_KEY, PAYLOAD)
    together = mark.apply(frames, masks)
    alone = [mark.apply(*one) for one in zip(frames.split(1), masks.split(1), strict=True)]
    assert torch.equal(together[0], frames[0])
    assert torch.allclose(together, torch.cat(alone), rtol=0.0, atol=1e-6)


def test_half_precision_stays_half() -> None:
    frames = to_tensor([picture(64, 64)]).half()
    assert TensorMark(PUBLIC_KEY, PAYLOAD).apply(frames).dtype == torch.float16

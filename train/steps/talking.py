"""What the steps of L-Net and Wav2Lip share: their input and their pictures."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.lnet import LNetClips
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lnet import Painting, lnet_input
from videoretalking.train.steps.base import as_tensors


def paint(network: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """The output [B, 3, T, 96, 96] of L-Net or Wav2Lip for a batch of :class:`LNetClips`."""
    image: torch.Tensor = network(batch["audio"], lnet_input(batch["frame"], batch["reference"]))
    return image


def paint_parts(network: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, Painting]:
    """:func:`paint` for L-Net, and the parts [T * B, ...] that the output is made of, time-major."""
    faces = lnet_input(batch["frame"], batch["reference"])
    shown, painting = network(batch["audio"], faces, parts=True)
    return shown, painting


def dub_clip(network: nn.Module, dataset: ClipDataset, num_frames: int, device: torch.device) -> torch.Tensor:
    """The first clip of :class:`LNetClips` with its own speech.

    Args:
        network: L-Net or Wav2Lip.
        dataset: where the clip is.
        num_frames: most frames.
        device: where the network is.

    Returns:
        [T, 3, H, 3 * W]: reference, output, target side by side.
    """
    assert isinstance(dataset, LNetClips)
    batch = as_tensors(dataset.preview(0, num_frames), device)
    return unroll_clip(torch.cat([batch["reference"], paint(network, batch), batch["target"]], dim=4))


def show_clips(batch: dict[str, Any], output: torch.Tensor) -> dict[str, torch.Tensor]:
    """Grid rows of the first frame of each clip: input, reference, output, target."""
    return {
        "input": lnet_input(batch["frame"], batch["reference"])[:, :3, 0],
        "reference": batch["reference"][:, :, 0],
        "output": output[:, :, 0],
        "target": batch["target"][:, :, 0],
    }

"""What the steps of L-Net and Wav2Lip share: their input, their pictures and how they are validated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import nn

from videoretalking.core.quality import detail
from videoretalking.datasets.base import ClipDataset
from videoretalking.datasets.lnet import LNetClips
from videoretalking.models.layers.blocks import unroll_clip
from videoretalking.models.lnet import Painting, lnet_input
from videoretalking.train.score import SyncJudge, choose_judge, score_speech
from videoretalking.train.steps.base import as_tensors, image_metrics
from videoretalking.train.steps.sync import SyncStep


class TalkingStep(SyncStep):
    """A step whose samples are :class:`LNetClips`."""

    samples: ClassVar[type[ClipDataset]] = LNetClips

    @cached_property
    def judge(self) -> SyncJudge | None:
        """Who gives the sync scores of validation."""
        return choose_judge(self.device)

    def score(self, network: nn.Module, dataset: ClipDataset, clips: Sequence[int]) -> dict[str, float]:
        """LSE-D and LSE-C of whole clips."""
        assert isinstance(dataset, LNetClips)
        if not clips or self.judge is None:
            return {}
        frames = self.config.loop.score_frames
        return score_speech(lambda batch: paint(network, batch), self.judge, dataset, clips, frames)

    def preview(self, network: nn.Module, dataset: ClipDataset) -> torch.Tensor | None:
        """The first clip with its own speech: reference, output, target side by side."""
        assert isinstance(dataset, LNetClips)
        batch = as_tensors(dataset.preview(0, self.config.loop.preview_frames), self.device)
        return unroll_clip(torch.cat([batch["reference"], paint(network, batch), batch["target"]], dim=4))


def paint(network: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    """The output [B, 3, T, 96, 96] of L-Net or Wav2Lip for a batch of :class:`LNetClips`."""
    image: torch.Tensor = network(batch["audio"], lnet_input(batch["frame"], batch["reference"]))
    return image


def paint_parts(network: nn.Module, batch: dict[str, Any]) -> tuple[torch.Tensor, Painting]:
    """:func:`paint` for L-Net, and the parts [T * B, ...] that the output is made of, time-major."""
    faces = lnet_input(batch["frame"], batch["reference"])
    shown, painting = network(batch["audio"], faces, parts=True)
    return shown, painting


def show_clips(batch: dict[str, Any], output: torch.Tensor) -> dict[str, torch.Tensor]:
    """Grid rows of the first frame of each clip: input, reference, output, target."""
    return {
        "input": lnet_input(batch["frame"], batch["reference"])[:, :3, 0],
        "reference": batch["reference"][:, :, 0],
        "output": output[:, :, 0],
        "target": batch["target"][:, :, 0],
    }


_MOUTH = (slice(48, 96), slice(24, 72))  # rows and columns of a face of 96 pixels


@torch.no_grad()
def face_metrics(network: nn.Module, output: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
    """:func:`image_metrics` of faces [N, 3, 96, 96], and how sharp their mouths are against the target's.

    ``mouth_sharpness`` is the detail of the mouths over that of the target's: 1 is as sharp, less is blurred, more
    is noise. Nothing while ``network`` trains.
    """
    metrics = image_metrics(network, output, target)
    if metrics:
        rows, columns = _MOUTH
        shown, wanted = (detail(faces[:, :, rows, columns].float()).mean() for faces in (output, target))
        metrics["mouth_sharpness"] = shown / wanted.clamp_min(1e-6)
    return metrics

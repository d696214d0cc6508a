"""Stage 2 of the paper: the mouth that speaks the audio, by L-Net at 96x96 (section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from videoretalking.core.constants import LNET_SIZE
from videoretalking.core.devices import autocast
from videoretalking.models.blocks import shrink
from videoretalking.models.int8 import Int8Trial
from videoretalking.models.lnet import lnet_input
from videoretalking.pipeline.batching import BatchRunner


class LipSyncer:
    """Paints the lower half of each face so that it speaks.

    Args:
        lnet: L-Net, or a Wav2Lip generator (the baseline), on its device.
        batch_size: faces in one call.
        dtype: number format of the network.
    """

    def __init__(self, lnet: nn.Module, batch_size: int, dtype: torch.dtype) -> None:
        self.lnet = lnet
        self.runner = BatchRunner(batch_size)
        self.dtype = dtype
        self.trial = Int8Trial(lnet, dtype == torch.int8)
        self.device = next(lnet.parameters()).device
        config: Any = lnet.config
        self.antialias: bool = config.antialias

    def __call__(self, audio: torch.Tensor, original: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Run L-Net.

        Args:
            audio: [N, 80, 16] log-mel windows in [-4, 4].
            original: [N, 3, S, S] crops of the frames in [0, 1].
            reference: [N, 3, S, S] the same faces with the canonical expression.

        Returns:
            [N, 3, 96, 96] in [0, 1].
        """
        low = shrink(lnet_input(original, reference), LNET_SIZE, self.antialias)
        return self.runner(self._run, audio[:, None].to(self.device), low)

    def _run(self, audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        self.trial(audio, faces)
        with torch.inference_mode(), autocast(self.device, self.dtype):
            image: torch.Tensor = self.lnet(audio, faces)
        return image.float()

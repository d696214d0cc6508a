"""Stage 2 of the paper: the mouth that speaks the audio, by L-Net at 96x96 (section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from videoretalking.core.constants import LNET_SIZE
from videoretalking.models.blocks import shrink
from videoretalking.models.lnet import lnet_input
from videoretalking.pipeline.engine import Runner


class LipSyncer:
    """Paints the lower half of each face so that it speaks.

    Args:
        lnet: L-Net, or a Wav2Lip generator (the baseline).
    """

    def __init__(self, lnet: Runner[nn.Module]) -> None:
        self.lnet = lnet
        config: Any = lnet.network.config
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
        return self.lnet(audio[:, None], shrink(lnet_input(original, reference), LNET_SIZE, self.antialias))

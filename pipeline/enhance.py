"""Stage 3 of the paper: from 96x96 to 384x384 by E-Net (section 3.3)."""

from __future__ import annotations

import torch
from torch import nn

from core.constants import ENET_SIZE
from core.devices import autocast
from models.blocks import resize
from pipeline.batching import BatchRunner


class Enhancer:
    """Enlarges L-Net's faces under the identity of the frame.

    Args:
        enet: E-Net on its device; None enlarges bilinearly (ablation of table 3).
        runner: batches.
        dtype: number format of the network.
    """

    def __init__(self, enet: nn.Module | None, runner: BatchRunner, dtype: torch.dtype) -> None:
        self.enet = enet
        self.runner = runner
        self.dtype = dtype

    def __call__(self, low_res: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """Enhance.

        Args:
            low_res: [N, 3, 96, 96] in [0, 1], L-Net's faces.
            identity: [N, 3, 384, 384] in [0, 1], sharp crops of the same person.

        Returns:
            [N, 3, 384, 384] in [0, 1].
        """
        if self.enet is None:
            return resize(low_res, ENET_SIZE)
        return self.runner(self._run, low_res, identity)

    def _run(self, low_res: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        assert self.enet is not None
        with torch.inference_mode(), autocast(low_res.device, self.dtype):
            image: torch.Tensor = self.enet(low_res, identity)
        return image.float().clamp(0.0, 1.0)

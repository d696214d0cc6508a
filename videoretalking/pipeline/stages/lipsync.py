"""Stage 2 of the paper: the mouth that speaks the audio, by L-Net at 96x96 (section 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from videoretalking.core.constants import LNET_SIZE
from videoretalking.models.layers.blocks import shrink
from videoretalking.models.lnet import LNet, Painting, lnet_input
from videoretalking.pipeline.engine import Runner


class LipSyncer:
    """Paints the lower half of each face so that it speaks.

    Args:
        lnet: L-Net, or a Wav2Lip generator (the baseline).
        least_share: shares of the painting up to this one become 0, so that nothing has to be painted there; the
            others move down with it.
    """

    def __init__(self, lnet: Runner[nn.Module], least_share: float = 0.0) -> None:
        network = lnet.network
        config: Any = network.config
        self.antialias: bool = config.antialias
        self.least_share = least_share
        self.blends = isinstance(network, LNet) and network.config.blend_reference
        self.lnet = lnet.using(_layers(network)) if isinstance(network, LNet) and self.blends else lnet

    def __call__(self, audio: torch.Tensor, original: torch.Tensor, reference: torch.Tensor) -> Painting:
        """Run L-Net.

        Args:
            audio: [N, 80, 16] log-mel windows in [-4, 4].
            original: [N, 3, S, S] crops of the frames in [0, 1].
            reference: [N, 3, S, S] the same faces with the canonical expression.

        Returns:
            The faces at 96x96; from an L-Net that paints a share of each pixel, with share and flow.
        """
        faces = shrink(lnet_input(original, reference), LNET_SIZE, self.antialias)
        layers = self.lnet(audio[:, None], faces)
        if not self.blends:
            return Painting(layers)
        image, share, flow = layers.split((3, 1, 2), dim=1)
        if self.least_share > 0.0:
            share = ((share - self.least_share) / (1.0 - self.least_share)).clamp(min=0.0)
        return Painting(image, share, flow)


def _layers(network: LNet) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """L-Net as a function with one output [N, 6, 96, 96]: the face, the share of the painting, the flow."""

    def run(audio: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        painting = network.paint(audio, faces)
        image = painting.over(*faces.split(3, dim=1))
        assert painting.share is not None
        flow = image.new_zeros(len(image), 2, *image.shape[2:]) if painting.flow is None else painting.flow
        return torch.cat([image, painting.share, flow], dim=1)

    return run

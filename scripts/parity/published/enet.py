"""L-Net and E-Net as one network, which is how E-Net was released."""

from __future__ import annotations

import torch

from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import resize, roll_clip, unroll_audio, unroll_clip
from videoretalking.models.lnet import LNet


def enhance_from_audio(
    lnet: LNet, enet: ENet, audio: torch.Tensor, faces: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """L-Net at low resolution, then E-Net (paper, figure 12).

    Args:
        lnet: the frozen lip-sync network.
        enet: the enhancement network.
        audio: [B, 1, 80, 16] log-mel window; clips [B, T, 1, 80, 16].
        faces: [B, 6, 384, 384] RGB in [0, 1]: masked frame, then the reference whose identity is kept; clips
            [B, 6, T, 384, 384].
        target: [B, 3, 384, 384] L-Net's reference: the ground truth in training, at inference again the
            reference; clips [B, 3, T, 384, 384].

    Returns:
        Enhanced image [B, 3, 384, 384] (not clipped) and L-Net's image [B, 3, 96, 96]; for clips with a time
        axis after the channels.
    """
    if faces.dim() == 5:
        num_frames = faces.shape[2]
        image, low_res = enhance_from_audio(
            lnet, enet, unroll_audio(audio), unroll_clip(faces), unroll_clip(target)
        )
        return roll_clip(image, num_frames), roll_clip(low_res, num_frames)
    masked, reference = faces.split(3, dim=1)
    low_res = lnet(audio, resize(torch.cat([masked, target], dim=1), enet.config.low_size))
    return enet(low_res, reference), low_res

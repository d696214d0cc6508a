"""Losses of L-Net's share and flow (``blend_reference``, ``warp_reference``); none is part of the paper.

Pixels alone teach neither in some thousand steps: a share that shows the reference everywhere is nearly right, and
the gradient of a flow reaches only as far as neighboring pixels are alike. Landmarks of both pictures say both.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

_LEAST = 1e-4  # of a share and of the rest, so that no logarithm is infinite
# The ellipse that is to be painted: larger than the lips by a factor and by parts of the image's side, with an edge
# of about a quarter of its radius.
_GROWTH = 1.3
_MARGIN = 1.5 / 96
_EDGE = 8.0


def reference_flow_loss(flow: torch.Tensor, reference: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far a flow misses the landmarks: where those of the target are, it has to fetch those of the reference.

    Args:
        flow: [B, 2, S, S] (dx, dy) in pixels, where each pixel of the reference comes from.
        reference: [B, N, 2] landmarks (x, y) of the reference; -1 to 1 is the image from border to border.
        target: [B, N, 2] the same of the target.

    Returns:
        Scalar >= 0: mean smooth L1 distance of the coordinates in pixels, quadratic below one; lower is better.
    """
    fetched = F.grid_sample(flow.float(), target[:, None].float(), padding_mode="border", align_corners=False)
    wanted = (reference - target) * (flow.shape[-1] / 2)
    return F.smooth_l1_loss(fetched[:, :, 0].transpose(1, 2), wanted.float())


def flow_variation(flow: torch.Tensor) -> torch.Tensor:
    """How much a flow differs between neighboring pixels: what no landmark says, its neighbors say.

    Args:
        flow: [B, 2, S, S] in pixels.

    Returns:
        Scalar >= 0: mean absolute difference to the right plus that to below, lower is better.
    """
    flow = flow.float()
    return flow.diff(dim=2).abs().mean() + flow.diff(dim=3).abs().mean()


def share_loss(share: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the share of the painting.

    Args:
        share: [B, 1, S, S] in [0, 1].
        wanted: [B, 1, S, S] in [0, 1] (:func:`mouth_ellipse`).

    Returns:
        Scalar in [0, 9.2], lower is better.
    """
    share = share.float().clamp(_LEAST, 1.0 - _LEAST)
    return -(wanted * share.log() + (1.0 - wanted) * (1.0 - share).log()).mean()


def mouth_ellipse(lips: torch.Tensor, size: int) -> torch.Tensor:
    """Where mouths are: an upright ellipse around all points of each image, with a soft edge.

    Args:
        lips: [B, N, 2] (x, y) of the lips, of frame and reference together where both are to be covered; -1 to 1 is
            the image from border to border.
        size: S, side of the result.

    Returns:
        [B, 1, S, S] in [0, 1], 1 on the mouth, 0.5 on the ellipse.
    """
    least, most = lips.float().amin(dim=1), lips.float().amax(dim=1)
    center = (least + most) / 2
    half = (most - least) / 2 * _GROWTH + 2.0 * _MARGIN
    pixels = (2.0 * torch.arange(size, device=lips.device) + 1.0) / size - 1.0
    x, y = ((pixels - center[:, axis, None]) / half[:, axis, None] for axis in (0, 1))  # [B, S]
    radius = (x[:, None, None, :] ** 2 + y[:, None, :, None] ** 2).sqrt()
    return torch.sigmoid(_EDGE * (1.0 - radius))

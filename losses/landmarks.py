"""Losses of the bundled landmark network, and of lips as it sees them; none is part of the paper."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.landmarks import INNER_LIP_PAIRS, LIPS, OUTER_EYE_CORNERS
from videoretalking.models.layers.blocks import resize

# A standard deviation or distance, of landmarks in parts of the image's side or of pixels in parts of white, that
# counts as none; it keeps the gradient of the root finite.
_STILL = 1e-4
_MOUTH_MARGIN = 1.6  # side of a mouth's crop over the longer side of the lips


class LandmarkLoss(nn.Module):
    """Distance between the landmarks that a fixed network finds in two images.

    A small mouth has few pixels, so a pixel loss is nearly minimal for lips halfway between open and closed. With
    little data this loss makes a network move the lips sooner.

    Args:
        network: fixed :class:`models.landmarks.LandmarkNet`.
        points: which of the 68 points count; all by default.
    """

    def __init__(self, network: nn.Module, points: slice | None = None) -> None:
        super().__init__()
        self.network = network
        self.points = points or slice(None)

    def forward(self, output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Compare two batches of images.

        Args:
            output: [B, 3, H, H] in [0, 1], a face with some margin; gradients flow here only.
            target: the same shape.

        Returns:
            Scalar >= 0: mean absolute difference of the coordinates in parts of the image's side, lower is better.
        """
        with torch.no_grad():
            wanted = self.find(target)
        return F.l1_loss(self.find(output), wanted)

    def find(self, image: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, H] in [0, 1] -> [B, N, 2], the points in parts of the image's side."""
        # half precision would round away what lips move between two frames
        with torch.autocast(image.device.type, enabled=False):
            points: torch.Tensor = self.network(resize(image.float(), LANDMARK_SIZE)).points
        return points[:, self.points].float() / LANDMARK_SIZE


def parts_of_side(points: torch.Tensor) -> torch.Tensor:
    """Landmarks in the units of the prepared data as :class:`LandmarkLoss` has them.

    Args:
        points: [B, N, 2] of :func:`datasets.mouths.border_points`, -1 to 1 from border to border.

    Returns:
        [B, N, 2] in parts of the image's side.
    """
    return (points + 1.0 - 1.0 / LANDMARK_SIZE) / 2.0


def cut_mouths(images: torch.Tensor, lips: torch.Tensor) -> torch.Tensor:
    """Enlarge the mouths in a batch of faces to the size of the images.

    Args:
        images: [B, 3, H, H].
        lips: [B, N, 2] landmarks of the lips in parts of the image's side, as :class:`LandmarkLoss` finds them.

    Returns:
        [B, 3, H, H]: upright squares around the lips, 1.6 times their longer side; the image's border is repeated.
    """
    least, most = lips.amin(dim=1), lips.amax(dim=1)
    half = (most - least).amax(dim=1) * (_MOUTH_MARGIN / 2)
    center = (least + most) / 2 + 0.5 / LANDMARK_SIZE  # pixel centers count from 0 in landmarks
    # in affine_grid's units the image reaches from -1 to 1
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 2.0 * half
    theta[:, :, 2] = 2.0 * center - 1.0
    # autocast would round the places to a tenth of a pixel
    with torch.autocast(images.device.type, enabled=False):
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def movement_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Difference between how much each value changes within clips.

    Where frames are compared one by one, a network that cannot read the speech yet minimizes the loss by painting
    the mean of all mouths, which does not move. This loss compares how much the lips move, whenever they do.

    Args:
        output: [B, T, ...] anything measured in T consecutive frames: landmarks of the lips, pixels of the mouth.
        target: the same of the true frames.

    Returns:
        Scalar >= 0: mean absolute difference of the standard deviations over time, in the unit of the values, lower
        is better. When something moves does not count.
    """
    return F.l1_loss(_deviation(output), _deviation(target))


def opening_loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Difference of how far mouths are open: the gaps between the inner lips alone.

    Among the forty coordinates of the lips the opening is lost, and it is what speech decides.

    Args:
        output: [B, 20, 2] landmarks of the lips in parts of the image's side, as :class:`LandmarkLoss` finds them.
        target: the same of the true images.

    Returns:
        Scalar >= 0: difference of the mean of three gaps, in parts of the image's side, lower is better.
    """
    return F.l1_loss(_opening(output), _opening(target))


def _opening(lips: torch.Tensor) -> torch.Tensor:
    """[B, 20, 2] -> [B]."""
    upper, lower = ([pair[side] - LIPS.start for pair in INNER_LIP_PAIRS] for side in (0, 1))
    squared = (lips[:, upper].float() - lips[:, lower].float()).square().sum(dim=2)
    return (squared + _STILL**2).sqrt().mean(dim=1)


def flow_loss(grid: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How far a warp misses the landmarks: where those of the target are, it has to fetch those of the source.

    The gradient of a pixel loss reaches only as far as neighboring pixels are alike, so a flow learns slowly from
    it.

    Args:
        grid: [B, 2, H, W] where each pixel of the warped image comes from (:func:`models.dnet.sampling_grid`).
        source: [B, N, 2] landmarks (x, y) of the image that is warped; -1 to 1 is the image from border to border.
        target: [B, N, 2] the same of the image that it should become.

    Returns:
        Scalar >= 0: mean absolute difference of the coordinates in parts of the image's side, lower is better.
    """
    fetched = F.grid_sample(grid.float(), target[:, None].float(), padding_mode="border", align_corners=False)
    return F.l1_loss(fetched[:, :, 0].transpose(1, 2), source.float()) / 2


def _deviation(values: torch.Tensor) -> torch.Tensor:
    return (values.float().var(dim=1, unbiased=False) + _STILL**2).sqrt()


def wing_loss(
    points: torch.Tensor,
    target: torch.Tensor,
    sample_weight: torch.Tensor,
    width: float = 0.05,
    curvature: float = 0.01,
) -> torch.Tensor:
    """Logarithmic near zero, linear far away (Feng et al. 2018), so that small errors keep a strong gradient.

    Args:
        points: [B, N, 2] predicted positions, in parts of the crop's side.
        target: [B, N, 2] true positions in the same unit.
        sample_weight: [B] 1 for faces, 0 for crops without one; the mean stays over all B samples.
        width: error where the logarithmic part ends, in the same unit.
        curvature: smaller is steeper at zero, in the same unit.

    Returns:
        Scalar >= 0, 0 for equal points, lower is better.
    """
    error = (points.float() - target.float()).abs()
    ratio = torch.tensor(width / curvature)
    offset = width - width * torch.log1p(ratio)
    loss = torch.where(error < width, width * torch.log1p(error / curvature), error - offset)
    return (loss.mean(dim=(1, 2)) * sample_weight).mean()


def confidence_loss(logit: torch.Tensor, is_face: torch.Tensor) -> torch.Tensor:
    """Binary cross-entropy of the face confidence.

    Args:
        logit: [B] any sign, high means face.
        is_face: [B] 1 for faces, 0 for other crops.

    Returns:
        Scalar >= 0, ln 2 when undecided, lower is better.
    """
    return F.binary_cross_entropy_with_logits(logit.float(), is_face.float())


def normalized_mean_error(points: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean distance of 68 points in parts of the distance between the outer eye corners.

    Args:
        points: [B, 68, 2].
        target: [B, 68, 2].

    Returns:
        [B], 0 for equal points, lower is better.
    """
    left, right = OUTER_EYE_CORNERS
    inter_ocular = torch.linalg.vector_norm(target[:, left] - target[:, right], dim=-1)
    return torch.linalg.vector_norm(points - target, dim=-1).mean(dim=1) / inter_ocular

"""Pixel, perceptual, style and identity losses against values worked out by hand."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.losses.identity import IdentityLoss, align_faces
from videoretalking.losses.perceptual import PerceptualLoss, StyleLoss, gram_matrix, l1_loss
from videoretalking.models.layers.blocks import shrink


def flat(value: float, size: int = 8) -> torch.Tensor:
    return torch.full((2, 3, size, size), value)


def two_layers(image: torch.Tensor) -> list[torch.Tensor]:
    """Stands for VGG: the image itself, and three times the image at half the size."""
    return [1.0 * image, 3.0 * image[..., ::2, ::2]]


def test_l1_is_the_mean_absolute_difference() -> None:
    output = flat(0.75)
    output[0] = 0.25
    assert l1_loss(output, flat(0.25)).item() == pytest.approx(0.25)
    assert l1_loss(output, output).item() == 0.0


@pytest.mark.parametrize(("distance", "expected"), [("l1", 0.1 + 0.3), ("squared_l2", 0.1**2 + 0.3**2)])
@pytest.mark.parametrize("num_scales", [1, 3])
def test_perceptual_sums_layers_and_averages_scales(distance: str, expected: float, num_scales: int) -> None:
    loss = PerceptualLoss(two_layers, distance, num_scales)
    # a flat image stays flat at every scale, so the number of scales must not matter
    assert loss(flat(0.5), flat(0.4)).item() == pytest.approx(expected, rel=1e-5)
    assert loss(flat(0.5), flat(0.5)).item() == 0.0


def test_perceptual_with_pixels_on_every_scale() -> None:
    loss = PerceptualLoss(two_layers, num_scales=2, pixels=5.0)
    assert loss(flat(0.5), flat(0.4)).item() == pytest.approx(0.1 + 0.3 + 5.0 * 0.1, rel=1e-5)


def test_perceptual_gradient_reaches_the_output_only() -> None:
    output, target = flat(0.5).requires_grad_(), flat(0.4).requires_grad_()
    PerceptualLoss(two_layers)(output, target).backward()
    assert output.grad is not None and output.grad.abs().sum() > 0
    assert target.grad is None


def test_gram_matrix_of_two_flat_channels() -> None:
    features = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1).expand(1, 2, 4, 5)
    # sum over 20 pixels of f_i f_j, divided by 2 channels * 20 pixels
    torch.testing.assert_close(gram_matrix(features), torch.tensor([[[2.0, 3.0], [3.0, 4.5]]]))


def test_style_ignores_where_things_are() -> None:
    torch.manual_seed(1)
    image = torch.rand(1, 3, 8, 8)
    style = StyleLoss(lambda x: [x])
    assert style(image.flip(-1), image).item() == pytest.approx(0.0, abs=1e-7)
    # all channels 0.5 against 0.25: every Gram entry is v * v / 3
    expected = (0.5**2 - 0.25**2) / 3
    assert style(flat(0.5), flat(0.25)).item() == pytest.approx(expected, rel=1e-5)


def test_unknown_distance_names_the_choice() -> None:
    with pytest.raises(UserError, match="choose l1 or squared_l2"):
        PerceptualLoss(two_layers, "cosine")


def red_or_blue(image: torch.Tensor) -> torch.Tensor:
    """Stands for ArcFace: the mean red and the mean blue."""
    assert image.shape[-2:] == (112, 112)
    return image.mean(dim=(2, 3))[:, [0, 2]]


def whole(batch: int, size: int) -> torch.Tensor:
    """[B, 2, 3]: the aligned face of 112 pixels is the whole crop."""
    factor = size / 112
    shift = 0.5 * factor - 0.5
    return torch.tensor([[factor, 0.0, shift], [0.0, factor, shift]]).repeat(batch, 1, 1)


def test_identity_distance_of_unit_embeddings() -> None:
    red, blue = torch.zeros(1, 3, 96, 96), torch.zeros(1, 3, 96, 96)
    red[:, 0], blue[:, 2] = 0.5, 1.0
    loss = IdentityLoss(red_or_blue)
    assert loss(red, blue, whole(1, 96)).item() == pytest.approx(math.sqrt(2.0), rel=1e-5)  # orthogonal
    assert loss(red, 0.5 * red, whole(1, 96)).item() == pytest.approx(0.0, abs=1e-6)  # length does not matter


def test_identity_gradient_is_finite_at_zero_distance() -> None:
    image = torch.rand(1, 3, 112, 112).requires_grad_()
    IdentityLoss(red_or_blue)(image, image.detach(), whole(1, 112)).backward()
    assert image.grad is not None and torch.isfinite(image.grad).all()


def test_faces_are_aligned_as_opencv_would() -> None:
    size = 336
    smooth = torch.nn.functional.interpolate(torch.rand(2, 3, 12, 12), size=size, mode="bicubic")
    # turned; and turned beyond the edge
    matrices = torch.tensor([[[2.6, 0.3, 20.0], [-0.3, 2.6, 60.0]], [[2.0, -0.5, 90.0], [0.5, 2.0, -30.0]]])
    aligned = align_faces(smooth, matrices, 112)
    assert aligned.shape == (2, 3, 112, 112)
    options = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for image, matrix, found in zip(smooth, matrices.numpy(), aligned, strict=True):
        shown = np.dstack([image.permute(1, 2, 0).numpy(), np.ones((size, size), np.float32)])
        wanted = cv2.warpAffine(shown, matrix, (112, 112), flags=options)
        inside = cv2.erode(wanted[..., 3], np.ones((7, 7), np.uint8)) == 1.0
        difference = np.abs(found.permute(1, 2, 0).numpy() - wanted[..., :3])[inside]
        assert difference.mean() < 0.004 and difference.max() < 0.03
    assert (aligned[1, :, 0] == 0.0).any()  # nothing is known outside of the crop
    torch.testing.assert_close(align_faces(smooth, whole(2, size), 112), shrink(smooth, 112, True))

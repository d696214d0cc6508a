"""Adversarial and landmark losses, the weighted sum and the guard against NaN."""

from __future__ import annotations

import math

import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.core.landmarks import LIPS
from videoretalking.losses.adversarial import discriminator_loss, generator_loss
from videoretalking.losses.landmarks import (
    LandmarkLoss,
    confidence_loss,
    cut_mouths,
    flow_loss,
    movement_loss,
    normalized_mean_error,
    opening_loss,
    wing_loss,
)
from videoretalking.losses.total import require_finite, weighted_sum
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig, Landmarks


@pytest.mark.parametrize("logit", [0.0, 2.0])
def test_adversarial_values(logit: float) -> None:
    logits = torch.full((2, 1, 3, 3), logit)
    expected = math.log1p(math.exp(-logit))
    assert generator_loss(logits).item() == pytest.approx(expected, abs=1e-6)
    # real images scored +logit, generated ones -logit
    assert discriminator_loss(logits, -logits).item() == pytest.approx(2.0 * expected, abs=1e-6)


def test_wing_is_logarithmic_inside_and_linear_outside() -> None:
    def wing(error: float, weight: float = 1.0) -> float:
        points = torch.full((1, 68, 2), error)
        return wing_loss(points, torch.zeros_like(points), torch.tensor([weight]), 0.05, 0.01).item()

    assert wing(0.0) == 0.0
    assert wing(0.01) == pytest.approx(0.05 * math.log(2.0), rel=1e-5)
    assert wing(0.05 - 1e-5) == pytest.approx(wing(0.05 + 1e-5), abs=1e-4)  # continuous
    assert wing(0.3) - wing(0.2) == pytest.approx(0.1, rel=1e-5)  # slope 1
    assert wing(0.3, weight=0.0) == 0.0


def test_confidence_values() -> None:
    assert confidence_loss(torch.zeros(2), torch.tensor([0.0, 1.0])).item() == pytest.approx(math.log(2.0))
    assert confidence_loss(torch.tensor([20.0]), torch.tensor([1.0])).item() < 1e-6


def test_normalized_mean_error_is_relative_to_the_eyes() -> None:
    target = torch.zeros(1, 68, 2)
    target[:, 45, 0] = 50.0
    shifted = target + torch.tensor([3.0, 4.0])
    torch.testing.assert_close(normalized_mean_error(shifted, target), torch.tensor([5.0 / 50.0]))


def test_weighted_sum() -> None:
    losses = {"l1": torch.tensor(2.0), "sync": torch.tensor(10.0)}
    assert weighted_sum(losses, {"l1": 1.0, "sync": 0.3, "perceptual": 7.0}).item() == pytest.approx(5.0)
    with pytest.raises(ValueError, match="do not fit"):
        weighted_sum(losses, {"l1": 1.0})
    with pytest.raises(ValueError, match="do not fit"):
        weighted_sum({}, {"l1": 1.0})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_broken_value_names_loss_step_and_clips(value: float) -> None:
    with pytest.raises(UserError, match=r"^sync not finite at step 7,.*: a/b, c/d;"):
        require_finite({"l1": 0.5, "sync": value}, step=7, clips=["a/b", "c/d", "a/b"])
    require_finite({"l1": 0.5, "sync": -3.0}, step=7, clips=[])


def test_landmark_loss_is_the_distance_of_the_chosen_points() -> None:
    class Finder(torch.nn.Module):
        """Every point lies at the image's mean times its size."""

        def forward(self, image: torch.Tensor) -> Landmarks:
            assert image.shape[-2:] == (128, 128)
            points = image.mean(dim=(1, 2, 3))[:, None, None] * torch.tensor([128.0, 0.0])
            return Landmarks(points.repeat(1, 68, 1) * (torch.arange(68) >= 48)[:, None], points[:, 0, 0])

    output = torch.full((2, 3, 32, 32), 0.75, requires_grad=True)
    target = torch.full((2, 3, 32, 32), 0.5)
    assert LandmarkLoss(Finder())(target, target).item() == 0.0
    assert LandmarkLoss(Finder())(output, target).item() == pytest.approx(0.25 / 2 * 20 / 68, rel=1e-5)
    loss = LandmarkLoss(Finder(), LIPS)(output, target)
    assert loss.item() == pytest.approx(0.25 / 2, rel=1e-5)
    loss.backward()
    assert output.grad is not None and (output.grad > 0).all()


def test_landmarks_are_found_in_full_precision() -> None:
    loss = LandmarkLoss(LandmarkNet(LandmarkNetConfig(width_multiplier=0.25)).eval(), LIPS)
    image = torch.rand(1, 3, 96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = loss.find(image)
    assert torch.equal(reduced, loss.find(image))


def test_movement_loss_compares_how_much_values_change_not_when() -> None:
    opening = torch.tensor([0.0, 0.04, 0.0, 0.04])[None, :, None] * torch.tensor([1.0, 0.0])  # [B, T, 2]
    assert movement_loss(opening, opening).item() == 0.0
    assert movement_loss(opening + 0.3, 0.04 - opening).item() == pytest.approx(0.0, abs=1e-6)
    # a standard deviation of 0.01 instead of 0.02 in one of two values
    assert movement_loss(opening / 2, opening).item() == pytest.approx(0.01 / 2, rel=0.01)
    still = torch.full((1, 4, 2), 0.3, requires_grad=True)
    movement_loss(still, opening).backward()
    assert still.grad is not None and torch.isfinite(still.grad).all()


def test_flow_loss_is_the_distance_by_which_the_warp_misses() -> None:
    pixels = (2.0 * torch.arange(64.0) + 1.0) / 64 - 1.0
    identity = torch.stack(torch.meshgrid(pixels, pixels, indexing="xy"))[None]
    target = torch.rand(1, 68, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    assert flow_loss(identity, target, target).item() == pytest.approx(0.0, abs=1e-6)
    shift = torch.tensor([0.2, 0.0])  # a tenth of the side, to the right
    assert flow_loss(identity, target + shift, target).item() == pytest.approx(0.1 / 2, rel=1e-4)
    assert flow_loss(identity + shift[:, None, None], target + shift, target).item() == pytest.approx(
        0, abs=1e-6
    )
    assert flow_loss(identity - shift[:, None, None], target + shift, target).item() == pytest.approx(
        0.1, rel=1e-4
    )


def test_cut_mouths_enlarges_the_square_around_the_lips() -> None:
    row = (torch.arange(96.0) + 0.5) / 96  # position of pixel centers in parts of the side
    image = torch.stack([row.expand(96, 96), row[:, None].expand(96, 96), torch.zeros(96, 96)])[None]
    corner, across, down = torch.tensor([0.3, 0.6]), 0.25, 0.1
    lips = torch.stack([corner, corner + torch.tensor([across, down])])[None] - 0.5 / 128
    mouth = cut_mouths(image, lips)
    assert mouth.shape == image.shape
    assert mouth[0, 0].mean().item() == pytest.approx(0.3 + across / 2, abs=1e-4)
    assert mouth[0, 1].mean().item() == pytest.approx(0.6 + down / 2, abs=1e-4)
    step = 1.6 * across / 96
    torch.testing.assert_close(mouth[0, 0].diff(dim=1), torch.full((96, 95), step), atol=1e-5, rtol=0.0)


def test_opening_loss_sees_the_inner_lips_alone() -> None:
    lips = torch.rand(2, 20, 2, generator=torch.Generator().manual_seed(0))
    closed = lips.clone()
    for upper, lower in ((13, 19), (14, 18), (15, 17)):
        closed[:, upper] = closed[:, lower]
    opened = closed.clone()
    opened[:, 13:16, 1] -= 0.04
    assert opening_loss(opened, closed).item() == pytest.approx(0.04, rel=0.01)
    others = closed.clone()
    others[:, :13] += 0.3
    assert opening_loss(others, closed).item() == 0.0
    closed.requires_grad_(True)
    opening_loss(closed, opened).backward()
    assert closed.grad is not None and torch.isfinite(closed.grad).all()

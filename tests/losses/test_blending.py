"""Losses that teach L-Net's flow and share by landmarks."""

from __future__ import annotations

import pytest
import torch

from videoretalking.losses.blending import flow_variation, mouth_ellipse, reference_flow_loss, share_loss


def points(*pairs: tuple[float, float]) -> torch.Tensor:
    return torch.tensor([pairs])


def test_a_flow_has_to_fetch_the_reference_where_the_target_is() -> None:
    target = points((-0.5, 0.25), (0.25, 0.5))
    reference = target + torch.tensor([0.25, -0.125])  # 12 pixels to the right, 6 up, of 96
    right = torch.tensor([12.0, -6.0]).view(1, 2, 1, 1).expand(1, 2, 96, 96)
    assert reference_flow_loss(right, reference, target).item() == pytest.approx(0.0, abs=1e-5)
    # smooth L1: linear above a pixel, quadratic below
    still = torch.zeros(1, 2, 96, 96)
    assert reference_flow_loss(still, reference, target).item() == pytest.approx((11.5 + 5.5) / 2, rel=1e-5)
    assert reference_flow_loss(right + 0.5, reference, target).item() == pytest.approx(0.125, rel=1e-4)


def test_a_flow_is_taught_at_the_targets_landmarks_only() -> None:
    flow = torch.zeros(1, 2, 96, 96, requires_grad=True)
    target = points((1 / 96, 0.5 + 1 / 96))  # the middle of pixel (48, 72)
    reference_flow_loss(flow, target + 0.1, target).backward()
    assert flow.grad is not None
    assert flow.grad.abs().sum(dim=1)[0].nonzero().tolist() == [[72, 48]]
    assert (flow.grad[0, :, 72, 48] < 0).all()  # descent moves it towards the reference


def test_flow_variation_is_that_of_neighbors() -> None:
    ramp = torch.arange(8.0).expand(1, 2, 8, 8)
    assert flow_variation(ramp).item() == pytest.approx(1.0)
    assert flow_variation(torch.full((1, 2, 8, 8), 5.0)).item() == 0.0


def test_share_loss_is_cross_entropy() -> None:
    wanted = torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    assert share_loss(wanted, wanted).item() < 2e-4
    assert share_loss(torch.full_like(wanted, 0.5), wanted).item() == pytest.approx(0.6931, abs=1e-3)
    assert share_loss(1.0 - wanted, wanted).item() == pytest.approx(9.21, abs=0.01)
    undecided = torch.full((1, 1, 2, 2), 0.3, requires_grad=True)
    share_loss(undecided, wanted).backward()
    assert undecided.grad is not None
    assert (undecided.grad.flatten() < 0).tolist() == [True, True, False, False]


def test_mouth_ellipse_covers_both_mouths_and_nothing_far() -> None:
    lips = torch.tensor([[[-0.3, 0.4], [0.1, 0.6]], [[0.5, 0.5], [0.9, 0.9]]])
    mask = mouth_ellipse(lips, 96)
    assert mask.shape == (2, 1, 96, 96) and mask.min() >= 0.0 and mask.max() <= 1.0

    def at(index: int, x: float, y: float) -> float:
        return mask[index, 0, round((y + 1) * 48 - 0.5), round((x + 1) * 48 - 0.5)].item()

    assert at(0, -0.1, 0.5) > 0.99 and at(0, 0.1, 0.5) > 0.7 and at(0, -0.1, 0.6) > 0.7
    assert at(0, -0.1, 0.0) < 0.01 and at(0, 0.7, 0.5) < 0.01
    assert at(1, 0.7, 0.7) > 0.99 and at(1, -0.1, 0.5) < 0.01
    edge = -0.1 + 0.2 * 1.3 + 3 / 96
    assert at(0, edge, 0.5) == pytest.approx(0.5, abs=0.15)

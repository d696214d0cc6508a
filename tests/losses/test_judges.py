"""Judges push no colors, and no harder than they may."""

from __future__ import annotations

import pytest
import torch

from videoretalking.losses.judges import gradient_at, limit_factors, scale_gradient, with_colors_of


def test_a_judge_sees_brightness_of_the_output_and_colors_of_the_target() -> None:
    torch.manual_seed(0)
    output, target = torch.rand(2, 3, 4, 8, 8, requires_grad=True), torch.rand(2, 3, 4, 8, 8)
    seen = with_colors_of(output, target)
    torch.testing.assert_close(seen.mean(dim=1), output.mean(dim=1))
    torch.testing.assert_close(
        seen - seen.mean(dim=1, keepdim=True), target - target.mean(dim=1, keepdim=True)
    )
    torch.testing.assert_close(with_colors_of(target, target), target)
    (seen * torch.randn_like(seen)).pow(2).sum().backward()
    gradient = output.grad
    assert gradient is not None and gradient.abs().min() > 0.0
    assert torch.equal(gradient[:, 0], gradient[:, 1]) and torch.equal(gradient[:, 1], gradient[:, 2])


def test_gradient_at_is_the_mean_over_the_region() -> None:
    image = torch.zeros(1, 3, 2, 2, requires_grad=True)
    weight = torch.tensor([[1.0, -2.0], [3.0, 40.0]])
    mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(1, 1, 2, 2)
    assert gradient_at((image * weight).sum(), image, mask).item() == pytest.approx(2.0)


def test_limit_factors_weaken_only_what_is_too_strong() -> None:
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    mask = torch.ones(1, 1, 4, 4)
    losses = {"strong": 50.0 * image.sum(), "weak": -3.0 * image.sum(), "silent": 0.0 * image.sum()}
    factors = limit_factors(image, image.sum(), losses, 10.0, mask)
    assert {name: round(factor.item(), 5) for name, factor in factors.items()} == {
        "strong": 0.2, "weak": 1.0, "silent": 1.0,
    }  # fmt: skip


def test_scaled_gradients_leave_the_value() -> None:
    image = torch.tensor(3.0, requires_grad=True)
    scaled = scale_gradient(image**2, torch.tensor(0.25))
    scaled.backward()
    assert scaled.item() == 9.0 and image.grad == pytest.approx(1.5)

from __future__ import annotations

import torch

from videoretalking.core.constants import LANDMARK_SIZE
from videoretalking.core.landmarks import NUM_LANDMARKS
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig, _soft_argmax, _standardize

TINY = LandmarkNetConfig(width_multiplier=0.25)


def test_shapes_and_gradients() -> None:
    network = LandmarkNet(TINY)
    output = network(torch.rand(4, 3, LANDMARK_SIZE, LANDMARK_SIZE))
    assert output.points.shape == (4, NUM_LANDMARKS, 2)
    assert output.confidence.shape == (4,)
    ((output.points * torch.randn(68, 2)).sum() + output.confidence.sum()).backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_stays_small_enough_to_ship() -> None:
    with torch.device("meta"):
        state = LandmarkNet().state_dict()
    assert 2 * sum(tensor.numel() for tensor in state.values()) < 4 * 2**20  # bytes in float16


def test_a_sharp_heatmap_is_the_center_of_its_cell() -> None:
    heatmaps = torch.zeros(1, 2, 32, 32)
    heatmaps[0, 0, 5, 9] = 100.0  # row 5, column 9
    heatmaps[0, 1, 0, 31] = 100.0
    points = _soft_argmax(heatmaps)
    torch.testing.assert_close(points, torch.tensor([[[37.5, 21.5], [125.5, 1.5]]]))


def test_a_flat_heatmap_is_the_center_of_the_crop() -> None:
    torch.testing.assert_close(_soft_argmax(torch.zeros(1, 1, 32, 32)), torch.full((1, 1, 2), 63.5))


def test_brightness_and_contrast_are_removed() -> None:
    crops = torch.rand(2, 3, 16, 16)
    standard = _standardize(crops)
    torch.testing.assert_close(_standardize(0.5 * crops + 0.2), standard, rtol=0.1, atol=1e-4)
    torch.testing.assert_close(standard.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5, rtol=0)


def test_can_fit_a_few_crops() -> None:
    network = LandmarkNet(TINY)
    crops = torch.rand(4, 3, 8, 8)
    crops = torch.nn.functional.interpolate(crops, size=(LANDMARK_SIZE, LANDMARK_SIZE), mode="bilinear")
    points = 32 + 64 * torch.rand(4, NUM_LANDMARKS, 2)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    errors: list[float] = []
    for _ in range(20):
        error = (network(crops).points - points).abs().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.6 * errors[0]

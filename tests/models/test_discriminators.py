from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from videoretalking.models.discriminators import (
    ENetDiscriminator,
    ENetDiscriminatorConfig,
    PatchDiscriminator,
    PatchDiscriminatorConfig,
    QualityDiscriminator,
    QualityDiscriminatorConfig,
)

TINY_QUALITY = QualityDiscriminatorConfig(widths=(2, 3, 4, 5, 6, 7, 8))
TINY_ENET = ENetDiscriminatorConfig(widths=(4, 6, 8, 8))
TINY_PATCH = PatchDiscriminatorConfig(widths=(4, 6, 8), detail_gain=8.0)


def test_quality_discriminator_has_the_released_size() -> None:
    with torch.device("meta"):
        network = QualityDiscriminator()
    assert sum(parameter.numel() for parameter in network.parameters()) == 14_113_793


def test_quality_discriminator_judges_frames_time_major_by_their_lower_half() -> None:
    network = QualityDiscriminator(TINY_QUALITY).double()
    clip = torch.rand(2, 3, 3, 96, 96, dtype=torch.float64)
    with torch.no_grad():
        realness = network(clip)
        assert realness.shape == (6, 1)
        assert realness.min() > 0 and realness.max() < 1
        for t in range(3):
            torch.testing.assert_close(realness[2 * t : 2 * t + 2], network(clip[:, :, t : t + 1]))
        upper = clip.clone()
        upper[..., :48, :] = 0.0
        assert torch.equal(network(upper), realness)
        lower = clip.clone()
        lower[..., 48:, :] = 0.0
        assert not torch.equal(network(lower), realness)


@pytest.mark.parametrize(
    ("network", "images"),
    [
        (QualityDiscriminator(TINY_QUALITY), torch.rand(2, 3, 2, 96, 96)),
        (ENetDiscriminator(TINY_ENET), torch.rand(4, 3, 32, 32)),
        (PatchDiscriminator(TINY_PATCH), torch.rand(4, 3, 32, 48)),
    ],
)
def test_gradient_reaches_parameters_and_image(network: torch.nn.Module, images: torch.Tensor) -> None:
    images = images.clone().requires_grad_()
    scores = network(images)
    (scores * torch.randn_like(scores)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert images.grad is not None and images.grad.abs().max() > 0


def test_enet_discriminator_scores_patches() -> None:
    network = ENetDiscriminator(TINY_ENET).eval()
    image = torch.rand(1, 3, 128, 96)
    changed = image.clone()
    changed[..., :4, :4] = 1.0
    with torch.no_grad():
        difference = (network(changed) - network(image)).abs()[0, 0]
    assert difference.shape == (16, 12)
    assert difference[0, 0] > 0
    assert difference[-4:, -4:].max() == 0  # far from the change


def test_enet_discriminator_bounds_every_convolution() -> None:
    network = ENetDiscriminator(TINY_ENET)
    for _ in range(30):  # one power iteration each
        network(torch.rand(1, 3, 32, 32))
    network.eval()
    norms = [
        torch.linalg.matrix_norm(module.weight.flatten(1), ord=2)
        for module in network.modules()
        if isinstance(module, nn.Conv2d)
    ]
    assert len(norms) == 2 + 3 * (len(TINY_ENET.widths) - 1)
    torch.testing.assert_close(
        torch.stack(norms), torch.full([len(norms)], TINY_ENET.gain), atol=0.04, rtol=0
    )


def test_enet_discriminator_is_not_blind_to_faint_detail() -> None:
    """Scores that hardly differ teach nothing, neither the discriminator nor its opponent."""
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(4, 3, 8, 8, generator=generator), size=64, mode="bicubic")
    detailed = smooth + 0.02 * torch.randn(smooth.shape, generator=generator)
    differences = []
    for changes in ({"gain": 1.0}, {"gain": 1.5}, {"gain": 1.5, "detail_gain": 8.0}):
        torch.manual_seed(0)
        network = ENetDiscriminator(ENetDiscriminatorConfig((16, 32, 64, 128, 128), **changes)).eval()
        with torch.no_grad():
            differences.append((network(detailed) - network(smooth)).abs().mean().item())
    bounded, stronger, shown = differences
    assert bounded < 1e-3 and stronger > 20 * bounded and shown > 1.5 * stronger


def test_patch_discriminator_judges_each_image_alone() -> None:
    network = PatchDiscriminator(TINY_PATCH)
    images = torch.rand(3, 3, 48, 96)
    with torch.no_grad():
        scores = network(images)
        assert scores.shape == (3, 1, 6, 12)
        torch.testing.assert_close(scores[1:2], network(images[1:2]), rtol=1e-4, atol=1e-5)


def test_patch_discriminator_learns_to_see_softness() -> None:
    """Drawn discs, and the same with softer edges."""
    torch.manual_seed(0)
    network = PatchDiscriminator(PatchDiscriminatorConfig((8, 16, 16), detail_gain=8.0))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.99))
    rows, columns = torch.meshgrid(torch.arange(48.0), torch.arange(48.0), indexing="ij")
    losses = []
    for _ in range(80):
        x, y, radius = (
            12 + 24 * torch.rand(8, 1, 1),
            12 + 24 * torch.rand(8, 1, 1),
            4 + 8 * torch.rand(8, 1, 1),
        )
        distance = radius - ((columns - x) ** 2 + (rows - y) ** 2).sqrt()
        real, fake = (torch.sigmoid(distance / soft)[:, None].expand(-1, 3, -1, -1) for soft in (0.5, 1.0))
        loss = F.softplus(-network(real)).mean() + F.softplus(network(fake)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 1.0 < sum(losses[:5]) / 5

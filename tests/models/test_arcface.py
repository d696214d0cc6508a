from __future__ import annotations

import torch

from videoretalking.models.arcface import ArcFace, ArcFaceConfig

TINY = ArcFaceConfig(size=32, widths=(2, 3, 4, 5), depths=(1, 2, 1, 1), embedding_size=6)


def test_released_size() -> None:
    with torch.device("meta"):
        network = ArcFace()
    assert sum(parameter.numel() for parameter in network.parameters()) == 43_590_848


def test_shape_and_gradients() -> None:
    network = ArcFace(TINY)
    image = torch.rand(4, 3, 32, 32, requires_grad=True)
    embedding = network(image)
    assert embedding.shape == (4, 6)
    (embedding * torch.randn(6)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert image.grad is not None and image.grad.abs().max() > 0


def test_reads_zero_to_one_as_signed() -> None:
    network = ArcFace(TINY).eval()
    seen: list[torch.Tensor] = []
    network.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 32, 32))
    assert seen[0][:, 0, 0, 0].tolist() == [-1.0, 0.0, 1.0]

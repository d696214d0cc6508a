from __future__ import annotations

import torch

from videoretalking.models.layers.audio_encoder import AudioEncoder


def test_released_sizes() -> None:
    encoder = AudioEncoder().eval()
    assert len(encoder.layers) == 13
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 2_812_672
    vectors = encoder(torch.randn(2, 1, 80, 16))
    assert vectors.shape == (2, 512)
    assert vectors.min() >= 0


def test_second_residual_layer_of_the_expert() -> None:
    assert len(AudioEncoder((2, 3, 4, 5, 6), num_residual=(2, 2, 2, 2)).layers) == 14


def test_every_parameter_learns() -> None:
    encoder = AudioEncoder((2, 3, 4, 5, 6))
    (encoder(torch.randn(4, 1, 80, 16)) * torch.randn(6)).sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert without == []

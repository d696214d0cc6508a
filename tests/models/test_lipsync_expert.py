from __future__ import annotations

import pytest
import torch

from videoretalking.models.lipsync_expert import LipSyncExpert, LipSyncExpertConfig, stack_lower_half

TINY = LipSyncExpertConfig(
    num_frames=3,
    audio_widths=(2, 3, 4, 5, 8),
    audio_residual=(1, 1, 1, 1),
    face_widths=(2, 3, 4, 5, 8),
    face_residual=(0, 1, 1, 1, 1),
)


def test_released_size() -> None:
    with torch.device("meta"):
        network = LipSyncExpert()
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_435_072


def test_embeddings_are_unit_vectors_and_every_parameter_learns() -> None:
    network = LipSyncExpert(TINY)
    audio, face = network(torch.randn(4, 1, 80, 16), torch.rand(4, 9, 48, 96))
    for embedding in (audio, face):
        assert embedding.shape == (4, 8)
        assert embedding.min() >= 0
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
    (audio * torch.randn(8) + face * torch.randn(8)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_embedding_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="same embedding length"):
        LipSyncExpert(LipSyncExpertConfig(face_widths=(2, 3, 4, 5, 7)))


def test_stack_lower_half_is_time_major() -> None:
    clip = torch.arange(2 * 3 * 5 * 4 * 6).view(2, 3, 5, 4, 6)
    stacked = stack_lower_half(clip)
    assert stacked.shape == (2, 15, 2, 6)
    for t in range(5):
        for color in range(3):
            assert torch.equal(stacked[:, 3 * t + color], clip[:, color, t, 2:])

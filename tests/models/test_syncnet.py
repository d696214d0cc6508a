from __future__ import annotations

import torch

from videoretalking.models.syncnet import ClipConvNormAct, SyncNet, SyncNetConfig

TINY = SyncNetConfig(audio_widths=(2, 3, 4, 3, 4, 5), lip_widths=(2, 3, 4, 3, 4, 5), embedding_size=7)


def test_released_size() -> None:
    with torch.device("meta"):
        network = SyncNet()
    assert sum(parameter.numel() for parameter in network.parameters()) == 13_631_616


def test_shapes_and_gradients() -> None:
    network = SyncNet(TINY)
    audio, lips = network(torch.randn(2, 1, 13, 20), torch.rand(2, 3, 5, 224, 224))
    assert audio.shape == lips.shape == (2, 7)
    (audio * torch.randn(7) + lips * torch.randn(7)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


def test_lip_branch_is_feature_then_head() -> None:
    network = SyncNet(TINY).eval()
    frames = torch.rand(1, 3, 5, 224, 224)
    with torch.no_grad():
        features = network.lip_features(frames)
        assert features.shape == (1, 5)
        assert features.min() >= 0
        assert torch.equal(network.lip_head(features), network.embed_lips(frames))


def test_first_layer_sees_bytes_of_every_frame() -> None:
    network = SyncNet(TINY).eval()
    first = network.lip_encoder[0]
    assert isinstance(first, ClipConvNormAct) and first.conv.bias is not None
    with torch.no_grad():
        first.conv.weight.fill_(1.0 / (3 * 5 * 49))
        first.conv.bias.zero_()
        seen: list[torch.Tensor] = []
        first.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        frames = torch.zeros(1, 3, 5, 224, 224)
        frames[:, :, 4] = 1.0
        network.lip_features(frames)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 255.0 / 5))

from __future__ import annotations

import torch

from videoretalking.models.wav2lip import Wav2Lip, Wav2LipConfig

TINY = Wav2LipConfig(
    audio_widths=(2, 2, 2, 2, 5),
    encoder_widths=(2, 3, 4, 5, 6, 7),
    encoder_residual=(0, 1, 1, 1, 1, 1),
    decoder_widths=(5, 6, 7, 6, 5, 4, 3),
    decoder_residual=(0, 1, 1, 1, 1, 1, 1),
    head_width=4,
)


def test_released_size() -> None:
    with torch.device("meta"):
        network = Wav2Lip()
    assert sum(parameter.numel() for parameter in network.parameters()) == 36_298_035


def test_shape_range_and_gradients() -> None:
    network = Wav2Lip(TINY)
    audio = torch.randn(3, 1, 80, 16, requires_grad=True)
    faces = torch.rand(3, 6, 96, 96, requires_grad=True)
    image = network(audio, faces)
    assert image.shape == (3, 3, 96, 96)
    assert image.min() > 0 and image.max() < 1
    (image * torch.randn_like(image)).sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []
    assert audio.grad is not None and audio.grad.abs().max() > 0
    assert faces.grad is not None and (faces.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_clip_equals_its_frames() -> None:
    network = Wav2Lip(TINY).eval()
    audio, faces = torch.randn(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 96, 96)
    with torch.no_grad():
        clip = network(audio, faces)
        assert clip.shape == (2, 3, 3, 96, 96)
        for t in range(3):
            torch.testing.assert_close(clip[:, :, t], network(audio[:, t], faces[:, :, t]))

"""The published behavior that only parity needs: what is odd about it stays so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from media_clips import noise_bursts

from videoretalking.media.mel import MAX_VALUE, mel_spectrogram
from videoretalking.models.enet import ENet, ENetConfig
from videoretalking.models.lnet import LNet, LNetConfig
from videoretalking.scripts.parity.published import audio, boxes, masks
from videoretalking.scripts.parity.published.enet import enhance_from_audio
from videoretalking.scripts.parity.published.faces import ffhq_croper


def test_reflected_spectrogram_differs_in_two_columns_at_each_end() -> None:
    wave = noise_bursts(16000, 1.3)[0]
    zeros, reflected = mel_spectrogram(wave), audio.reflected_spectrogram(wave)
    assert reflected.shape == zeros.shape and np.abs(reflected).max() <= MAX_VALUE
    assert np.array_equal(reflected[:, 2:-2], zeros[:, 2:-2])
    for end in (slice(0, 2), slice(-2, None)):
        assert np.abs(reflected[:, end] - zeros[:, end]).max() > 0.1
    with pytest.raises(ValueError, match="more than 400"):
        audio.reflected_spectrogram(np.zeros(400))


def test_chunks() -> None:
    starts = [0, 3, 6, 9, 12, 16, 17]
    assert audio.official_chunks(33, 25.0).tolist() == [[start, 16] for start in starts]
    assert audio.official_chunks(241, 25.0)[-1].tolist() == [225, 16]
    scored = audio.official_chunks(241, 25.0, "lipsync_eval")
    assert len(audio.official_chunks(241, 25.0)) == len(scored) + 1 == 72
    assert audio.official_chunks(15, 25.0).tolist() == [[14, 1]]
    assert audio.official_chunks(9, 30.0).tolist() == [[2, 7]]
    assert audio.official_chunks(9, 30.0, "lipsync_eval").shape == (0, 2)
    assert audio.official_pairing(5, 3).tolist() == [0, 1, 2, 0, 1]


def test_training_windows() -> None:
    assert audio.training_window(5, 200) == (16, 16)
    assert audio.training_window(60, 200) == (192, 8)
    assert audio.training_window(63, 200) == (-1, 0)
    assert audio.training_frame_starts(1, 200).tolist() == [0, 3, 6, 9, 12]
    for frame in (0, 55):
        assert audio.training_frame_starts(frame, 200).tolist() == [-1] * 5


def test_suppression_counts_the_last_pixel() -> None:
    pair = np.array([[0, 0, 1, 1, 0.8], [1, 0, 2, 1, 0.9]], dtype=np.float64)  # two columns each, one shared
    assert boxes.suppress_inclusive(pair, 0.34) == [1, 0]
    assert boxes.suppress_inclusive(pair, 0.33) == [1]
    assert boxes.suppress_inclusive(np.zeros((0, 5)), 0.3) == []


def test_feather_clears_its_input_in_place() -> None:
    mask = np.ones((512, 512), dtype=np.float32)
    soft = masks.feather(mask)
    assert mask[19, 256] == 0 and mask[20, 256] == 1
    assert soft[256, 256] > 0.999 and soft[5, 256] < 0.5


def test_ffhq_crop_keeps_the_published_width_for_height() -> None:
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48], landmarks[[48, 54]] = (138, 98), (182, 98), (160, 146)
    found = ffhq_croper(landmarks, (150, 400))
    assert found.limits[3] == found.crop[2] - found.crop[0]  # the lower limit is the crop's width


def test_enhance_from_audio_joins_both_networks() -> None:
    small = LNetConfig(channels=8, num_residual=1, audio_channels=(4, 4, 8, 8, 16), attention_head_size=4)
    lnet = LNet(small).eval()
    enet = ENet(
        ENetConfig(identity_channels=(4, 4, 8, 8, 8, 8, 8), style_size=16, style_channels=(8, 4))
    ).eval()
    sound, faces = torch.randn(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 384, 384)
    image, low_res = enhance_from_audio(lnet, enet, sound, faces, faces[:, 3:])
    assert image.shape == (2, 3, 3, 384, 384)
    assert low_res.shape == (2, 3, 3, 96, 96)
    torch.testing.assert_close(enet(low_res[:, :, 1], faces[:, 3:, 1]), image[:, :, 1], rtol=1e-4, atol=1e-5)

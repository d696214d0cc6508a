"""Augmentation and the degradation of E-Net's inputs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from videoretalking.datasets.augment import AugmentConfig, ImageAugment, VoiceAugment, mix_speech, silent_mel
from videoretalking.datasets.degradations import degrade, jpeg

EVERYTHING = AugmentConfig(flip=1.0, color=1.0, blur=1.0, jpeg=1.0, occlusion=1.0, voice=1.0)


def picture(size: int = 64) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (8, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC))


def test_zero_strength_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    frame, mel = picture(), rng.uniform(-4, 4, (1, 80, 16)).astype(np.float32)
    changes = ImageAugment.draw(AugmentConfig(), rng)
    assert not changes.flip
    np.testing.assert_array_equal(changes.degrade(changes.recolor(frame)), frame)
    np.testing.assert_allclose(VoiceAugment.draw(AugmentConfig(), rng).apply(mel), mel, atol=1e-6)


def test_full_strength_changes_inputs_and_leaves_the_original_alone() -> None:
    frame = picture()
    before = frame.copy()
    changes = ImageAugment.draw(EVERYTHING, np.random.default_rng(3))
    assert changes.flip and changes.blur > 0 and 30 <= changes.jpeg < 95 and changes.cover is not None
    assert np.abs(changes.recolor(frame).astype(int) - frame).mean() > 3
    assert np.abs(changes.degrade(frame).astype(int) - frame).mean() > 3
    np.testing.assert_array_equal(frame, before)


def test_draws_are_reproducible_and_differ() -> None:
    first, again, other = (ImageAugment.draw(EVERYTHING, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.degrade(picture()), again.degrade(picture()))
    assert (first.degrade(picture()) != other.degrade(picture())).any()


def draw(config: AugmentConfig, seed: int) -> ImageAugment:
    return ImageAugment.draw(config, np.random.default_rng(seed))


def test_gray_pictures_have_no_color_and_keep_their_light() -> None:
    frame = picture()
    for seed in range(8):
        changed = draw(AugmentConfig(gray=1.0, color=1.0, tint=0.5), seed).recolor(frame).astype(int)
        assert np.ptp(changed, axis=2).max() == 0
        assert np.corrcoef(changed[..., 0].ravel(), frame.mean(axis=2).ravel())[0, 1] > 0.95


def test_tinted_pictures_have_a_cast_beyond_that_of_changed_light() -> None:
    gray = np.full((16, 16, 3), 128, np.uint8)

    def casts(config: AugmentConfig) -> list[int]:
        return [int(np.ptp(draw(config, seed).recolor(gray)[0, 0].astype(int))) for seed in range(40)]

    assert max(casts(AugmentConfig(tint=1.0))) > 50 > max(casts(AugmentConfig(color=1.0)))
    colored = np.full((16, 16, 3), (200, 60, 60), np.uint8)
    saturations = [draw(AugmentConfig(tint=1.0), seed).saturation for seed in range(40)]
    assert 0.0 <= min(saturations) < 0.3 and 0.7 < max(saturations) <= 1.0
    assert draw(AugmentConfig(tint=1.0), 0).recolor(colored).shape == colored.shape


def test_small_faces_lose_detail_and_nothing_else() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    frame[:48] //= 2
    for seed in range(8):
        changed = draw(AugmentConfig(small=1.0), seed).recolor(frame).astype(float)
        assert changed.std(axis=1).mean() < 0.7 * frame.std(axis=1).mean()
        np.testing.assert_allclose(changed[:40].mean(), frame[:40].mean(), atol=2.0)
        np.testing.assert_allclose(changed[56:].mean(), frame[56:].mean(), atol=2.0)


def test_probabilities_are_kept_and_old_streams_too() -> None:
    drawn = [draw(AugmentConfig(gray=0.25, small=0.5), seed) for seed in range(400)]
    assert 0.18 < np.mean([changes.saturation == 0.0 for changes in drawn]) < 0.32
    assert 0.42 < np.mean([changes.small < 1.0 for changes in drawn]) < 0.58
    rng, again = np.random.default_rng(5), np.random.default_rng(5)
    ImageAugment.draw(EVERYTHING, rng)
    again.uniform(size=4 + 6 + 1)
    again.integers(30, 95)
    again.uniform(size=2 + 2)
    again.integers(0, 256, 3)
    assert rng.uniform() == again.uniform()


def test_voice_keeps_digital_silence_and_the_range() -> None:
    silence = np.full((1, 80, 16), -4.0, np.float32)
    loud = np.full((1, 80, 16), 3.9, np.float32)
    for seed in range(5):
        voice = VoiceAugment.draw(EVERYTHING, np.random.default_rng(seed))
        np.testing.assert_array_equal(voice.apply(silence), silence)
        assert np.abs(voice.apply(loud)).max() <= 4.0
    np.testing.assert_allclose(VoiceAugment(gain=0.5, tilt=0.0, warp=1.0).apply(loud - 2.0), 2.4, rtol=1e-6)


def test_two_equal_voices_are_three_decibels_louder() -> None:
    mel = np.zeros((80, 16), np.float32)
    np.testing.assert_allclose(mix_speech(mel, mel, 0.0), 10 * np.log10(2.0) / 12.5, rtol=1e-5)
    np.testing.assert_allclose(mix_speech(mel, mel, -60.0), 0.0, atol=1e-4)


def test_silence_is_quiet() -> None:
    draws = [silent_mel((80, 16), np.random.default_rng(seed)) for seed in range(20)]
    assert any((mel == -4.0).all() for mel in draws) and any((mel > -4.0).any() for mel in draws)
    assert max(mel.mean() for mel in draws) < -1.0 and min(mel.min() for mel in draws) >= -4.0


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_jpeg_agrees_with_a_real_encoder(quality: int) -> None:
    frame = picture(70)  # not a multiple of 16
    _, data = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    real = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]
    image = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0
    ours = jpeg(image, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255.0
    damage = np.abs(real.astype(float) - frame).mean()
    assert np.abs(ours - real).mean() < 0.35 * damage + 0.6


def test_jpeg_per_sample_quality_and_gradient() -> None:
    image = torch.from_numpy(picture()).permute(2, 0, 1)[None].repeat(2, 1, 1, 1) / 255.0
    image.requires_grad_()
    output = jpeg(image, torch.tensor([10.0, 95.0]))
    error = (output - image).abs().mean(dim=(1, 2, 3))
    assert error[0] > 3 * error[1]
    output.mean().backward()
    assert image.grad is not None
    # the mean passes through with weight one wherever nothing is clipped
    assert image.grad.sum().item() == pytest.approx(2.0 / 2.0, rel=0.05)


def test_degrade_without_compression_is_the_bilinear_resize() -> None:
    image = torch.rand(2, 3, 64, 64)
    small = degrade(image, torch.tensor([0.0, 50.0]), 16, antialias=False)
    plain = torch.nn.functional.interpolate(image, size=(16, 16), mode="bilinear")
    torch.testing.assert_close(small[0], plain[0])
    assert (small[1] - plain[1]).abs().mean() > 0.01
    mean = image.unflatten(3, (16, 4)).unflatten(2, (16, 4)).mean(dim=(3, 5))
    torch.testing.assert_close(degrade(image, torch.zeros(2), 16, antialias=True), mean)


def say(config: AugmentConfig, seed: int, mel: np.ndarray) -> np.ndarray:
    return VoiceAugment.draw(config, np.random.default_rng(seed)).apply(mel)


def speech(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, (2, 1, 80, 16)).astype(np.float32)


def test_echo_sounds_on_after_a_click_and_adds_nothing_before_it() -> None:
    click = np.full((80, 16), -4.0, np.float32)
    click[:, 5] = 2.0
    changed = say(AugmentConfig(room=1.0), 0, click)
    np.testing.assert_allclose(changed[:, :6], click[:, :6], atol=1e-5)
    assert (changed[:, 6] > -1.0).all() and (np.diff(changed[:, 6:], axis=1) < 0.0).all()


def test_noise_lifts_silence_and_leaves_loud_sound() -> None:
    silent, loud = np.full((80, 16), -4.0, np.float32), np.full((80, 16), 3.0, np.float32)
    assert say(AugmentConfig(noise=1.0), 1, silent).mean() > -3.9
    np.testing.assert_allclose(say(AugmentConfig(noise=1.0), 1, loud), loud, atol=0.01)


def test_a_telephone_takes_the_lowest_and_the_highest_bands_alone() -> None:
    mel = np.zeros((80, 16), np.float32)
    changed = say(AugmentConfig(telephone=1.0), 2, mel)
    np.testing.assert_allclose(changed[10:35], 0.0, atol=1e-6)
    assert (changed[79] < -1.0).all() and (changed <= 1e-6).all()


def test_pace_keeps_the_middle_of_a_window_and_moves_its_ends() -> None:
    mel = np.tile(np.linspace(-3, 3, 16, dtype=np.float32), (80, 1))
    changed = say(AugmentConfig(pace=1.0), 3, mel)
    np.testing.assert_allclose(changed[:, 7:9].mean(), 0.0, atol=1e-5)
    slope = np.diff(changed[0, 4:12]) / np.diff(mel[0, 4:12])
    np.testing.assert_allclose(slope, slope[0], rtol=1e-3)
    assert 0.85 <= slope[0] <= 1.15 and abs(slope[0] - 1.0) > 0.01


def test_an_equalizer_adds_the_same_to_all_columns() -> None:
    mel = 0.1 * speech()
    difference = say(AugmentConfig(equalizer=1.0), 4, mel) - mel
    np.testing.assert_allclose(np.ptp(difference, axis=-1), 0.0, atol=1e-5)
    assert 0.05 < np.abs(difference).max() <= 0.48 + 1e-5


def test_voices_stay_in_range_and_silent_where_nothing_is_added() -> None:
    everything = AugmentConfig(voice=1.0, pace=1.0, equalizer=1.0, room=1.0, telephone=1.0)
    for seed in range(6):
        assert np.abs(say(everything, seed, speech(seed))).max() <= 4.0
        assert (say(everything, seed, np.full((80, 16), -4.0, np.float32)) == -4.0).all()

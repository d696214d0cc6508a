"""Random changes of training samples; the same draw serves all frames of a sample.

The paper trains without augmentation on many thousand clips; with few identities it decides whether a network
generalizes. All strengths default to 0, which leaves every sample as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Floats64, Image8
from videoretalking.core.config import require_range
from videoretalking.datasets.clips import decode_jpeg, encode_jpeg

MEL_LIMIT = 4.0  # the log-mel range is [-4, 4] for -100 .. 0 dB, so one unit is 12.5 dB
_DECIBELS_PER_UNIT = 12.5
_POWERS_PER_UNIT = _DECIBELS_PER_UNIT / 10.0  # powers of ten per log-mel unit
_TELEPHONE_SLOPE = 0.4  # log-mel units (5 dB) a band beyond the telephone's
_JPEG_QUALITIES = (30, 95)
_TINT = 0.35  # of a channel, at most
_SMALL_PARTS = (0.3, 0.8)  # of its size to which a small face is reduced
_LEAST_SIDE = 8  # pixels of it
MIX_LEVELS = (-20.0, -6.0)  # dB of another clip's speech below the clip's own


@dataclass(frozen=True)
class AugmentConfig:
    """Strengths and probabilities.

    Attributes:
        flip: probability of mirroring (never used for D-Net, whose coefficients have a side).
        color: strength of brightness, contrast, saturation and tint, 0 .. 1.
        crop_jitter: shift and growth of the crop, in parts of its size, 0 .. 1.
        rotation: turn of landmark crops in degrees, 0 .. 180.
        blur: probability of blurring the inputs.
        jpeg: probability of compressing the inputs.
        occlusion: probability of covering a part of the inputs.
        gray: probability of a black-and-white picture.
        tint: probability of a strong cast of color over weaker colors, as of old film and colored light.
        small: probability of a face that was small and was enlarged; inputs and targets alike.
        voice: strength of gain, tilt and band shift of the spectrogram, 0 .. 1: another voice and microphone.
        speaker_mix: probability of adding another clip's speech, 6 to 20 dB below the clip's own.
        pace: strength of a change of tempo around the middle of a window, 0 .. 1.
        equalizer: strength of a random curve over the bands, 0 .. 1: another microphone or room.
        room: probability of an echo that decays within the window.
        noise: probability of steady noise of a random color.
        telephone: probability of losing the lowest and the highest bands.
    """

    flip: float = 0.0
    color: float = 0.0
    crop_jitter: float = 0.0
    rotation: float = 0.0
    blur: float = 0.0
    jpeg: float = 0.0
    occlusion: float = 0.0
    gray: float = 0.0
    tint: float = 0.0
    small: float = 0.0
    voice: float = 0.0
    speaker_mix: float = 0.0
    pace: float = 0.0
    equalizer: float = 0.0
    room: float = 0.0
    noise: float = 0.0
    telephone: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what is no share and no angle."""
        require_range(self, "flip", "blur", "jpeg", "occlusion", "gray", "tint", "small", least=0, most=1)
        require_range(self, "color", "crop_jitter", "voice", "pace", "equalizer", least=0, most=1)
        require_range(self, "speaker_mix", "room", "noise", "telephone", least=0, most=1)
        require_range(self, "rotation", least=0, most=180)


@dataclass(frozen=True)
class ImageAugment:
    """One draw of the image changes.

    Attributes:
        flip: mirror; done by the caller, who also has to mirror what goes with the image.
        gain: [3] factor per color channel.
        bias: added after the gain, in levels.
        saturation: factor on the distance from gray.
        blur: standard deviation in pixels; 0 for none.
        jpeg: quality; 0 for none.
        cover: x, y, width, height of an ellipse in parts of the image, or None.
        cover_color: its color.
        small: part of its size to which the image is reduced before it is enlarged again; 1 for none.
    """

    flip: bool
    gain: Floats32
    bias: float
    saturation: float
    blur: float
    jpeg: int
    cover: tuple[float, float, float, float] | None
    cover_color: tuple[int, int, int]
    small: float = 1.0

    @staticmethod
    def draw(config: AugmentConfig, rng: np.random.Generator) -> ImageAugment:
        """Draw all changes; the number of draws depends on the config, not on the outcome."""
        flip, blur, jpeg, cover = rng.uniform(size=4)
        contrast, brightness, saturation, *tint = rng.uniform(-1.0, 1.0, 6)
        sigma = rng.uniform(0.4, 1.6)
        quality = int(rng.integers(*_JPEG_QUALITIES))
        place = rng.uniform(size=2)
        extent = rng.uniform(0.15, 0.45, 2)
        color = rng.integers(0, 256, 3)
        strength = config.color
        gain = (1.0 + 0.3 * strength * contrast) * (1.0 + 0.1 * strength * np.asarray(tint))
        factor, part = 1.0 + 0.4 * strength * saturation, 1.0
        if config.gray or config.tint or config.small:
            gray, toned, small, fade = rng.uniform(size=4)
            cast = rng.uniform(-1.0, 1.0, 3)
            if toned < config.tint:
                gain, factor = gain * (1.0 + _TINT * (cast - cast.mean())), factor * fade
            if gray < config.gray:
                gain, factor = np.full(3, gain.mean()), 0.0
            reduced = rng.uniform(*_SMALL_PARTS)
            part = reduced if small < config.small else 1.0
        return ImageAugment(
            flip=bool(flip < config.flip),
            gain=gain.astype(np.float32),
            bias=40.0 * strength * brightness,
            saturation=factor,
            blur=sigma if blur < config.blur else 0.0,
            jpeg=quality if jpeg < config.jpeg else 0,
            cover=(*place, *extent) if cover < config.occlusion else None,
            cover_color=(int(color[0]), int(color[1]), int(color[2])),
            small=part,
        )

    @staticmethod
    def none() -> ImageAugment:
        """Changes that leave every image as it is."""
        return ImageAugment.draw(AugmentConfig(), np.random.default_rng(0))

    def recolor(self, frame: Image8) -> Image8:
        """Change light, color and detail; applied to inputs and targets alike."""
        if self.bias != 0.0 or self.saturation != 1.0 or (self.gain != 1.0).any():
            frame = np.asarray(cv2.transform(frame, self.color_matrix(255.0)), np.uint8)
        if self.small < 1.0:
            height, width = frame.shape[:2]
            size = (reduced_side(width, self.small), reduced_side(height, self.small))
            reduced = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
            frame = np.asarray(cv2.resize(reduced, (width, height)), np.uint8)
        return frame

    def color_matrix(self, white: float) -> Floats64:
        """[3, 4] on RGB in [0, ``white``]: towards or away from the mean of the channels, then gain and bias."""
        mix = self.saturation * np.eye(3) + (1.0 - self.saturation) / 3.0
        return np.column_stack([self.gain[:, None] * mix, np.full(3, self.bias * (white / 255.0))])

    def degrade(self, frame: Image8) -> Image8:
        """Cover, blur and compress; applied to inputs only."""
        result: npt.NDArray[Any] = frame
        if self.cover is not None:
            height, width = frame.shape[:2]
            x, y, w, h = self.cover
            center = (round(x * width), round(y * height))
            axes = (max(1, round(w * width / 2)), max(1, round(h * height / 2)))
            result = cv2.ellipse(frame.copy(), center, axes, 0, 0, 360, self.cover_color, -1)
        if self.blur:
            result = cv2.GaussianBlur(result, (0, 0), self.blur)
        if self.jpeg:
            result = decode_jpeg(np.frombuffer(encode_jpeg(result.astype(np.uint8), self.jpeg), np.uint8))
        return result.astype(np.uint8, copy=False)


def reduced_side(side: int, part: float) -> int:
    """Pixels along a side of a picture that is reduced to a part of its size."""
    return min(side, max(_LEAST_SIDE, round(side * part)))


@dataclass(frozen=True)
class VoiceAugment:
    """One draw of the changes to a log-mel spectrogram: another voice in another place.

    Attributes:
        gain: added to all bands, in log-mel units.
        tilt: added from minus this at the lowest band to plus this at the highest.
        warp: factor on the band axis: a longer or shorter vocal tract, a higher or lower voice.
        pace: factor on the time axis around the middle of each window: slower or faster speech.
        curve: added at equally spaced bands and between them in proportion, in log-mel units; empty for none.
        echo: power of the echo's first column over that of the sound, 0 for none.
        decay: factor by which the echo's power falls from one column to the next.
        noise: level at equally spaced bands of a noise, in log-mel units; empty for none.
        noise_seed: of that noise.
        band: lowest and highest band that a telephone lets through, or None.
    """

    gain: float
    tilt: float
    warp: float
    pace: float = 1.0
    curve: tuple[float, ...] = ()
    echo: float = 0.0
    decay: float = 0.0
    noise: tuple[float, ...] = ()
    noise_seed: int = 0
    band: tuple[float, float] | None = None

    @staticmethod
    def draw(config: AugmentConfig, rng: np.random.Generator) -> VoiceAugment:
        """Gain within 10 dB, tilt within 6 dB, warp within 12 %, pace within 15 % at full strength."""
        gain, tilt, warp = config.voice * rng.uniform(-1.0, 1.0, 3)
        plain = VoiceAugment(
            10.0 / _DECIBELS_PER_UNIT * gain, 6.0 / _DECIBELS_PER_UNIT * tilt, 1.0 + 0.12 * warp
        )
        if not any((config.pace, config.equalizer, config.room, config.noise, config.telephone)):
            return plain
        room, noise, telephone = rng.uniform(size=3)
        curve = 6.0 / _DECIBELS_PER_UNIT * config.equalizer * rng.uniform(-1.0, 1.0, 6)
        floor = rng.uniform(-3.4, -1.2) + rng.uniform(-0.8, 0.8, 4)
        return replace(
            plain,
            pace=1.0 + 0.15 * config.pace * rng.uniform(-1.0, 1.0),
            curve=tuple(curve) if config.equalizer else (),
            echo=rng.uniform(0.1, 0.5) if room < config.room else 0.0,
            decay=rng.uniform(0.37, 0.85),
            noise=tuple(floor) if noise < config.noise else (),
            noise_seed=int(rng.integers(2**31)),
            band=(rng.uniform(0.0, 10.0), rng.uniform(35.0, 75.0)) if telephone < config.telephone else None,
        )

    def apply(self, mel: Floats32) -> Floats32:
        """[..., 80, columns] -> the same shape, in [-4, 4]; digital silence stays silent but for noise."""
        bands = mel.shape[-2]
        if self.warp != 1.0:
            mel = _sample(mel, np.arange(bands) * self.warp, axis=-2)
        if self.pace != 1.0:
            middle = (mel.shape[-1] - 1) / 2
            mel = _sample(mel, middle + (np.arange(mel.shape[-1]) - middle) * self.pace, axis=-1)
        if self.echo:
            mel = _add_echo(mel, self.echo, self.decay)
        quiet = mel <= -MEL_LIMIT
        change = self.gain + self.tilt * np.linspace(-1.0, 1.0, bands) + _spread(self.curve, bands)
        if self.band is not None:
            lowest, highest = self.band
            beyond = np.maximum(np.arange(bands) - highest, 0.0) + np.maximum(lowest - np.arange(bands), 0.0)
            change = change - _TELEPHONE_SLOPE * beyond
        changed = np.where(quiet, -MEL_LIMIT, np.clip(mel + change[:, None], -MEL_LIMIT, MEL_LIMIT))
        if self.noise:
            grain = np.random.default_rng(self.noise_seed).normal(0.0, 0.15, mel.shape)
            changed = _add_power(changed, _spread(self.noise, bands)[:, None] + grain)
        return np.clip(changed, -MEL_LIMIT, MEL_LIMIT).astype(np.float32)


def _sample(mel: Floats32, position: npt.NDArray[Any], axis: int) -> Floats32:
    """Values at fractional positions of one of the last two axes, the ends repeated."""
    length = mel.shape[axis]
    position = np.clip(position, 0, length - 1)
    low = np.minimum(position.astype(np.int64), length - 2)
    share = (position - low).astype(np.float32)
    if axis == -2:
        share = share[:, None]
    return mel.take(low, axis) * (1.0 - share) + mel.take(low + 1, axis) * share


def _spread(values: tuple[float, ...], bands: int) -> npt.NDArray[Any]:
    """Values at equally spaced bands -> one for each band; zeros for none."""
    if not values:
        return np.zeros(bands)
    return np.interp(np.linspace(0.0, len(values) - 1.0, bands), np.arange(len(values)), values)


def _add_echo(mel: Floats32, strength: float, decay: float) -> Floats32:
    """Let each column sound on in the following ones; digital silence has no echo."""
    power = np.where(mel <= -MEL_LIMIT, 0.0, 10.0 ** (mel * _POWERS_PER_UNIT))
    tail = np.zeros_like(power[..., 0])
    columns = []
    for column in np.moveaxis(power, -1, 0):
        columns.append(column + strength * tail)
        tail = decay * (tail + column)
    louder = np.stack(columns, axis=-1)
    faintest = 10.0 ** (-MEL_LIMIT * _POWERS_PER_UNIT)
    level = np.log10(np.maximum(louder, faintest)) / _POWERS_PER_UNIT
    return np.where(louder <= faintest, -MEL_LIMIT, level).astype(np.float32)


def _add_power(mel: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The log-mel of two sounds at once."""
    return np.log10(10.0 ** (mel * _POWERS_PER_UNIT) + 10.0 ** (other * _POWERS_PER_UNIT)) / _POWERS_PER_UNIT


def mix_speech(mel: Floats32, other: Floats32, level: float) -> Floats32:
    """Add the power of another voice.

    Args:
        mel: [..., 80, columns] in [-4, 4].
        other: the same shape.
        level: gain of the other voice in dB, usually negative.

    Returns:
        [..., 80, columns] in [-4, 4].
    """
    mixed = _add_power(mel, other + level / _DECIBELS_PER_UNIT)
    return np.clip(mixed, -MEL_LIMIT, MEL_LIMIT).astype(np.float32)


def silent_mel(shape: tuple[int, ...], rng: np.random.Generator) -> Floats32:
    """Silence: digital zero in half the draws, otherwise faint noise between -95 and -70 dB."""
    floor = -MEL_LIMIT if rng.uniform() < 0.5 else rng.uniform(-MEL_LIMIT + 0.4, -MEL_LIMIT + 2.4)
    noise = rng.normal(0.0, 0.3, shape) if floor > -MEL_LIMIT else np.zeros(shape)
    return np.clip(floor + noise, -MEL_LIMIT, MEL_LIMIT).astype(np.float32)

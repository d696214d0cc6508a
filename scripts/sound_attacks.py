"""What sounds go through between their making and their detection, and made-up sounds to try it on."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from scipy.ndimage import uniform_filter1d
from scipy.signal import butter, fftconvolve, resample_poly, sosfilt

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.media.audio import layout_name, make_frame, read_audio

Sound = tuple[Floats32, int]  # [channels, n] in [-1, 1], samples a second
MUSIC_GAIN = 0.5  # -6 dB below the speech, by power


@dataclass(frozen=True)
class Attack:
    """A row of the table.

    Attributes:
        name: as printed.
        apply: marked sound -> what the detector gets.
        demanded: whether it is one that the mark has to survive, not one of the margins.
    """

    name: str
    apply: Callable[[Sound], Sound]
    demanded: bool = True


def encoded(sound: Sound, codec: str, bit_rate: int, rate: int, suffix: str) -> Sound:
    """Through an encoder and back, by a file as users have it."""
    wave, given = resampled(sound, rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sound{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=given, layout=layout_name(len(wave)))
            assert isinstance(stream, AudioStream)
            stream.bit_rate = bit_rate
            context = stream.codec_context
            context.open()
            fitted = av.AudioResampler(context.format, context.layout, given, context.frame_size or 1024)
            frames = [*fitted.resample(make_frame(wave, given)), *fitted.resample(None)]
            for frame in (*frames, None):
                container.mux(stream.encode(frame))
        blocks = list(read_audio(path))
    return np.concatenate([block for block, _ in blocks], axis=1), blocks[0][1]


def resampled(sound: Sound, rate: int) -> Sound:
    """At another rate."""
    wave, given = sound
    common = math.gcd(given, rate)
    return resample_poly(wave, rate // common, given // common, axis=1).astype(np.float32), rate


def faster(sound: Sound, percent: int) -> Sound:
    """Played faster, so that the pitch rises too."""
    wave, rate = sound
    return resample_poly(wave, 100, 100 + percent, axis=1).astype(np.float32), rate


def tempo(sound: Sound, factor: float) -> Sound:
    """Faster with the pitch kept (WSOLA, as FFmpeg's ``atempo``)."""
    wave, rate = sound
    graph = av.filter.Graph()
    layout = layout_name(len(wave))
    source = graph.add_abuffer(sample_rate=rate, format="fltp", layout=layout, time_base=None)
    change, sink = graph.add("atempo", str(factor)), graph.add("abuffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    graph.push(make_frame(wave, rate))
    graph.push(None)
    blocks = []
    while True:
        try:
            frame = graph.pull()
        except (av.error.EOFError, av.error.BlockingIOError):
            break
        assert isinstance(frame, av.AudioFrame)
        plane = frame.to_ndarray().astype(np.float32)
        blocks.append(plane if len(plane) == len(wave) else plane.reshape(-1, len(wave)).T)
    return np.concatenate(blocks, axis=1), rate


def pitch(sound: Sound, percent: int) -> Sound:
    """Higher with the tempo kept."""
    return tempo(faster(sound, percent), 100 / (100 + percent))


def without_middle(sound: Sound, seconds: float) -> Sound:
    """Cut out of the middle, at most a fifth."""
    wave, rate = sound
    count = wave.shape[1]
    size = min(round(seconds * rate), count // 5)
    start = (count - size) // 2
    return np.concatenate([wave[:, :start], wave[:, start + size :]], axis=1), rate


def compressed(sound: Sound) -> Sound:
    """Dynamics at a ratio of 4 above -30 dB, level followed in 10 ms, and made up for."""
    wave, rate = sound
    width = max(1, rate // 100)
    level = uniform_filter1d(np.square(wave).mean(axis=0, dtype=np.float64), width)
    decibels = 10 * np.log10(level + 1e-10)
    change = -0.75 * np.maximum(decibels + 30, 0)
    return np.clip(wave * 10 ** ((change + 9) / 20), -1, 1).astype(np.float32), rate


def gain(sound: Sound, decibels: float) -> Sound:
    """Louder or softer; clipped at full scale."""
    wave, rate = sound
    return np.clip(wave * 10 ** (decibels / 20), -1, 1).astype(np.float32), rate


def noise(sound: Sound, decibels: float) -> Sound:
    """White noise so many decibels below the sound's power."""
    wave, rate = sound
    level = np.sqrt(np.square(wave).mean()) * 10 ** (-decibels / 20)
    return (wave + level * np.random.default_rng(7).normal(size=wave.shape)).astype(np.float32), rate


def cut(sound: Sound, seconds: float) -> Sound:
    """A piece from the loudest stretch on: a piece of silence holds nothing."""
    wave, rate = sound
    size = min(round(seconds * rate), wave.shape[1])
    energy = np.cumsum(np.concatenate([[0.0], np.square(wave).sum(axis=0, dtype=np.float64)]))
    start = int((energy[size:] - energy[:-size]).argmax())
    return wave[:, start : start + size], rate


def with_music(sound: Sound) -> Sound:
    """Made-up music below the speech."""
    wave, rate = sound
    music = made_up_music(wave.shape[1] / rate, rate)[: wave.shape[1]]
    music = np.pad(music, (0, wave.shape[1] - len(music)))
    level = MUSIC_GAIN * np.sqrt(np.square(wave).mean() / np.square(music).mean())
    return (wave + level * music).astype(np.float32), rate


def telephone(sound: Sound, low: float, high: float) -> Sound:
    """Through a telephone of 8000 samples a second."""
    wave, rate = sound
    sections = butter(4, [low, high], "band", fs=rate, output="sos")
    return resampled((sosfilt(sections, wave, axis=1).astype(np.float32), rate), 8000)


def room(sound: Sound, seconds: float) -> Sound:
    """In a room with so long a reverberation (60 dB), its direct sound 6 dB above it."""
    wave, rate = sound
    rng = np.random.default_rng(8)
    count = round(seconds * rate)
    tail = rng.normal(size=count) * 10 ** (-3 * np.arange(count) / count)
    tail *= 0.5 / np.sqrt(np.square(tail).sum())
    tail[0] += 1.0
    return np.stack([fftconvolve(row, tail)[: wave.shape[1]] for row in wave]).astype(np.float32), rate


ATTACKS = (
    Attack("none", lambda s: s),
    Attack("AAC 64k", lambda s: encoded(s, "aac", 64_000, 44_100, ".mp4")),
    Attack("MP3 128k", lambda s: encoded(s, "libmp3lame", 128_000, 44_100, ".mp3")),
    Attack("Opus 32k", lambda s: encoded(s, "libopus", 32_000, 48_000, ".ogg")),
    Attack("16 kHz mono", lambda s: resampled((s[0].mean(axis=0, keepdims=True), s[1]), 16_000)),
    Attack("+10 dB, clipped", lambda s: gain(s, 10)),
    Attack("-10 dB", lambda s: gain(s, -10)),
    Attack("noise at 20 dB", lambda s: noise(s, 20)),
    Attack("cut to 2 s", lambda s: cut(s, 2)),
    Attack("3 % faster", lambda s: faster(s, 3)),
    Attack("music at -6 dB", with_music),
    Attack("AAC 64k, cut to 2 s", lambda s: cut(encoded(s, "aac", 64_000, 44_100, ".mp4"), 2), False),
    Attack("Opus 32k, cut to 2 s", lambda s: cut(encoded(s, "libopus", 32_000, 48_000, ".ogg"), 2), False),
    Attack("Opus 16k", lambda s: encoded(s, "libopus", 16_000, 48_000, ".ogg"), False),
    Attack("AAC 32k, then Opus 32k", lambda s: _twice(s), False),
    Attack("tempo 3 % faster, pitch kept", lambda s: tempo(s, 1.03), False),
    Attack("5 % slower, AAC 64k", lambda s: encoded(faster(s, -5), "aac", 64_000, 44_100, ".mp4"), False),
    Attack("noise at 10 dB", lambda s: noise(s, 10), False),
    Attack("telephone, 300 to 3400 Hz", lambda s: telephone(s, 300, 3400), False),
    Attack("room of 0.4 s", lambda s: room(s, 0.4), False),
    Attack("cut to 1 s", lambda s: cut(s, 1), False),
    Attack("MP3 64k", lambda s: encoded(s, "libmp3lame", 64_000, 44_100, ".mp3"), False),
    Attack("22.05 kHz", lambda s: resampled(s, 22_050), False),
    Attack("pitch 2 % higher", lambda s: pitch(s, 2), False),
    Attack("pitch 2 % lower", lambda s: pitch(s, -2), False),
    Attack("dynamics compressed", compressed, False),
    Attack("1 s cut out of the middle", lambda s: without_middle(s, 1), False),
    Attack("a quarter faster, pitch kept", lambda s: tempo(s, 1.25), False),
    Attack("a quarter faster", lambda s: faster(s, 25), False),
)


def _twice(sound: Sound) -> Sound:
    first = encoded(sound, "aac", 32_000, 44_100, ".mp4")
    return encoded(first, "libopus", 32_000, 48_000, ".ogg")


def made_up_speech(seconds: float, rate: int, seed: int) -> Floats32:
    """[n] a gliding voice and hiss in turns, through resonances, in syllables with pauses."""
    rng = np.random.default_rng(seed)
    count, syllable = round(seconds * rate), rate // 6
    base = rng.uniform(90, 240)
    pitch = base * (1 + 0.2 * np.sin(2 * np.pi * 0.7 * np.arange(count) / rate + rng.uniform(0, 6)))
    pulses = np.diff(np.floor(np.cumsum(pitch) / rate), prepend=0.0)
    parts: list[Floats64] = []
    for start in range(0, count, syllable):
        source = pulses[start : start + syllable]
        hiss = rng.normal(size=len(source))
        source = 0.2 * hiss if rng.random() < 0.25 else source + 0.02 * hiss
        sound = 0.3 * source
        for low, high in ((300, 900), (1000, 2600), (2400, 4500)):
            center = rng.uniform(low, high)
            resonance = butter(1, [0.9 * center, 1.1 * center], "band", fs=rate, output="sos")
            sound = sound + sosfilt(resonance, source)
        parts.append(sound * np.hanning(len(source)) * rng.choice([0.03, 1.0, 0.6]))
    wave = np.concatenate(parts) + 1e-5 * rng.normal(size=count)
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


def made_up_music(seconds: float, rate: int, seed: int = 5) -> Floats32:
    """[n] chords of three voices with eleven partials, four a second, and a drum on every other."""
    rng = np.random.default_rng(seed)
    count, beat = round(seconds * rate), rate // 4
    wave = np.zeros(count)
    for number, start in enumerate(range(0, count, beat)):
        time = np.arange(min(rate, count - start)) / rate
        root = 220 * 2 ** (rng.integers(0, 24) / 12)
        for interval in (1.0, 1.26, 1.5):
            for partial in range(1, 12):
                tone = np.sin(2 * np.pi * root * interval * partial * time + rng.uniform(0, 6))
                wave[start : start + len(time)] += tone * np.exp(-4 * time) / partial
        if number % 2 == 0:
            drum = 3 * rng.normal(size=len(time)) * np.exp(-40 * time)
            wave[start : start + len(time)] += drum
    return (0.5 * wave / np.abs(wave).max()).astype(np.float32)

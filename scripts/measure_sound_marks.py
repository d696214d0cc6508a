"""What the mark of the sound survives and what it costs: ``python -m scripts.measure_sound_marks --media DIR``.

Marks every recording below ``DIR`` and made-up speech, sends it through the attacks of
:mod:`videoretalking.scripts.sound_attacks`, and asks the detector. Where the checksum does not fit, half of the
bits count as right, which is what chance gives. Prints Markdown and writes JSON beside it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videoretalking.core.arrays import Floats32, Floats64
from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import UserError, run_command
from videoretalking.core.files import atomic_path
from videoretalking.evaluation.tables import Table
from videoretalking.media.audio import read_audio
from videoretalking.provenance.audio import AudioMark, masking_threshold
from videoretalking.provenance.audio_cells import RATE, mix_down
from videoretalking.provenance.audio_search import detect_audio
from videoretalking.provenance.keys import PUBLIC_KEY, Key
from videoretalking.provenance.payload import Payload
from videoretalking.provenance.statistics import log10
from videoretalking.scripts.sound_attacks import (
    ATTACKS,
    Attack,
    Sound,
    made_up_music,
    made_up_speech,
    resampled,
)

logger = logging.getLogger(__name__)

SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".opus")
MADE_UP_SECONDS = 10.0  # of each piece of made-up speech
MADE_UP_RATE = 24_000
PIECE_SECONDS = 2.0  # of each piece without mark
_WINDOW = 512  # samples at 16 kHz, 32 ms: other than the mark's own windows
_LOW, _HIGH = 5, 20  # critical bands that are judged, 500 to 6400 Hz
_ACTIVE = 1e-4  # of the loudest window's power: windows that are judged


@dataclass(frozen=True)
class Audibility:
    """How far the mark lies below the sound, over windows of 32 ms and critical bands, at 16 kHz.

    Attributes:
        segmental_snr: decibels, mean over windows that hold sound, 500 to 6500 Hz.
        noise_to_mask: decibels, mean power of the change against the masking threshold (Johnston 1988).
        above_mask: percent of windows and bands where the change lies above it.
        spectral_distance: decibels, mean change of the cells of a spectrogram within 60 dB of its peak.
    """

    segmental_snr: float
    noise_to_mask: float
    above_mask: float
    spectral_distance: float


@dataclass(frozen=True)
class AttackRow:
    """What one attack left, over many sounds.

    Attributes:
        attack: its name.
        sounds: how many.
        bits: percent of payload bits right; 50 counts for a sound that was not decoded.
        decoded: percent of sounds whose payload came back in full.
        found: percent of sounds with a p-value below 1e-6.
        worst_p: decimal logarithm of the largest p-value.
        median_p: decimal logarithm of the median p-value.
    """

    attack: str
    sounds: int
    bits: float
    decoded: float
    found: float
    worst_p: float
    median_p: float


def audibility(plain: Sound, marked: Sound) -> Audibility:
    """Compare a sound with its marked version."""
    before, after = (mix_down(resampled(sound, RATE)[0]) for sound in (plain, marked))
    sound, change, both = (_powers(wave) for wave in (before, after - before, after))
    active = sound.sum(axis=1) > _ACTIVE * sound.sum(axis=1).max()
    bins = slice(round(500 * _WINDOW / RATE), round(6500 * _WINDOW / RATE))
    ratio = (sound[:, bins].sum(axis=1) + 1e-12) / (change[:, bins].sum(axis=1) + 1e-12)
    threshold, _ = masking_threshold(sound[active])
    _, noise = masking_threshold(change[active])
    excess = (noise / threshold)[:, _LOW:_HIGH]
    heard = sound > 1e-6 * sound.max()
    distance = np.abs(10 * np.log10((both[heard] + 1e-12) / sound[heard]))
    return Audibility(
        segmental_snr=float(10 * np.log10(ratio[active]).mean()),
        noise_to_mask=float(10 * np.log10(excess.mean())),
        above_mask=float(100 * (excess > 1).mean()),
        spectral_distance=float(distance.mean()),
    )


def _powers(wave: Floats32) -> Floats64:
    windows = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[:: _WINDOW // 2]
    return np.asarray(np.square(np.abs(np.fft.rfft(windows * np.hanning(_WINDOW), axis=1))))


def measure_attack(attack: Attack, sounds: Sequence[Sound], payload: Payload, key: Key) -> AttackRow:
    """Send marked sounds through one attack."""
    bits, found, log_ps = [], [], []
    for sound in sounds:
        wave, rate = attack.apply(sound)
        detection = detect_audio(wave, key, rate)
        wrong = 32 if detection.payload is None else (detection.payload.number ^ payload.number).bit_count()
        bits.append(1 - wrong / 64)
        found.append(detection.found)
        log_ps.append(log10(detection.log_p))
    decoded = [share == 1 for share in bits]
    return AttackRow(
        attack=attack.name,
        sounds=len(sounds),
        bits=float(100 * np.mean(bits)),
        decoded=float(100 * np.mean(decoded)),
        found=float(100 * np.mean(found)),
        worst_p=float(max(log_ps)),
        median_p=float(np.median(log_ps)),
    )


def unmarked_pieces(sounds: Sequence[Sound], count: int) -> Iterator[tuple[Floats32, int, Key]]:
    """Pieces of two seconds without the mark of the key that is asked for.

    Half are asked for a key that nobody used, half for the public one; where the sounds given are marked with the
    public key, only the former make sense.
    """
    rng = np.random.default_rng(11)
    music = (made_up_music(60.0, RATE)[None], RATE)
    for number in range(count):
        kind = number % 8
        if kind == 6:
            wave, rate = music
        elif kind == 7:
            wave, rate = rng.normal(0, 0.1, (1, 2 * RATE + 1)).astype(np.float32), RATE
        else:
            wave, rate = sounds[int(rng.integers(len(sounds)))]
        size = round(PIECE_SECONDS * rate)
        start = int(rng.integers(max(1, wave.shape[1] - size)))
        key = Key(rng.bytes(32), f"random {number}")
        yield wave[:, start : start + size], rate, key


def measure_false_alarms(plain: Sequence[Sound], marked: Sequence[Sound], count: int) -> dict[str, float]:
    """Ask for marks where there are none: other keys on marked and unmarked sounds, music and noise."""
    lowest, below = 0.0, 0
    mixed = [*plain, *marked]
    for wave, rate, key in tqdm(unmarked_pieces(mixed, count), "without mark", count, disable=None):
        detection = detect_audio(wave, key, rate)
        lowest = min(lowest, log10(detection.log_p))
        below += detection.found
    return {"pieces": count, "false_alarms": below, "lowest_log10_p": lowest}


def read_sounds(folder: Path, limit: int | None) -> dict[str, Sound]:
    """Recordings below a folder, by name.

    Raises:
        UserError: there is none.
    """
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[:limit]
    if not paths:
        raise UserError(f"{folder} holds no recordings ({', '.join(SUFFIXES)})")
    sounds = {}
    for path in paths:
        blocks = list(read_audio(path, max_channels=2))
        sounds[path.name] = (np.concatenate([block for block, _ in blocks], axis=1), blocks[0][1])
    return sounds


def measure(folder: Path, minutes: float, pieces: int, quick: bool, turns: int = 1) -> dict[str, Any]:
    """All figures.

    Args:
        folder: recordings.
        minutes: of made-up speech.
        pieces: without mark.
        quick: whether three recordings are enough.
        turns: each attack takes every so many pieces of made-up speech, the next attack the next ones.
    """
    recordings = read_sounds(folder, 3 if quick else None)
    made_up = {
        f"made up {number}": (made_up_speech(MADE_UP_SECONDS, MADE_UP_RATE, number)[None], MADE_UP_RATE)
        for number in range(max(1, round(60 * minutes / MADE_UP_SECONDS)))
    }
    payload = Payload(0x123456789ABC)
    mark = AudioMark(PUBLIC_KEY, payload)
    figures: dict[str, Any] = {"payload": payload.text, "audibility": {}, "attacks": {}}
    groups: dict[str, list[Sound]] = {}
    for group, sounds, every in (("recordings", recordings, 1), ("made-up speech", made_up, turns)):
        started = time.perf_counter()
        groups[group] = [(mark.apply(wave, rate), rate) for wave, rate in sounds.values()]
        seconds = sum(wave.shape[1] / rate for wave, rate in sounds.values())
        figures[f"seconds to mark a minute, {group}"] = 60 * (time.perf_counter() - started) / seconds
        figures["audibility"] |= {
            name: asdict(audibility(plain, marked))
            for (name, plain), marked in zip(sounds.items(), groups[group], strict=True)
        }
        bar = tqdm(ATTACKS, f"attacks, {group}", disable=None)
        figures["attacks"][group] = [
            asdict(measure_attack(attack, groups[group][place % every :: every], payload, PUBLIC_KEY))
            for place, attack in enumerate(bar)
        ]
    plain = [*recordings.values(), *made_up.values()]
    marked = [sound for sounds in groups.values() for sound in sounds]
    figures["false alarms"] = measure_false_alarms(plain, marked, pieces)
    return figures


def to_markdown(figures: dict[str, Any]) -> str:
    """Tables for the documents."""
    demanded = {attack.name for attack in ATTACKS if attack.demanded}
    parts = []
    for group, rows in figures["attacks"].items():
        cells = [
            [
                row["attack"] + ("" if row["attack"] in demanded else " *"),
                f"{row['bits']:.1f}",
                f"{row['decoded']:.1f}",
                f"{row['found']:.1f}",
                f"1e{math.ceil(row['median_p'])}",
                f"1e{math.ceil(row['worst_p'])}",
            ]
            for row in rows
        ]
        headings = ("attack", "bits right %", "decoded %", "found %", "p, median", "p, worst")
        title = f"Mark of the sound, {group} ({rows[0]['sounds']})"
        parts.append(Table(title, headings, cells, ("* beyond what is demanded",)).markdown())
    names = ("segmental_snr", "noise_to_mask", "above_mask", "spectral_distance")
    values = np.array([[row[name] for name in names] for row in figures["audibility"].values()])
    cells = [
        [name.replace("_", " "), f"{column.mean():.1f}", f"{column.min():.1f}", f"{column.max():.1f}"]
        for name, column in zip(names, values.T, strict=True)
    ]
    alarms = figures["false alarms"]
    note = (
        f"{alarms['pieces']} pieces of 2 s without mark: {alarms['false_alarms']} found, "
        f"lowest p 1e{alarms['lowest_log10_p']:.1f}"
    )
    parts.append(Table("How far the mark lies below", ("", "mean", "min", "max"), cells, (note,)).markdown())
    return "\n".join(parts)


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Measure what the mark of the sound survives")
    parser.add_argument("--media", type=Path, required=True, help="folder with recordings")
    parser.add_argument("--minutes", type=float, default=20.0, help="of made-up speech")
    parser.add_argument(
        "--turns", type=int, default=1, help="each attack takes every so many pieces of made-up speech"
    )
    parser.add_argument("--pieces", type=int, default=10_000, help="without mark, for the false alarms")
    parser.add_argument("--quick", action="store_true", help="three recordings, half a minute, 100 pieces")
    parser.add_argument("--output", type=Path, default=Path("runs/marks/sound.json"))
    arguments = parser.parse_args()
    minutes, pieces = (0.5, 100) if arguments.quick else (arguments.minutes, arguments.pieces)
    if not 1 <= arguments.turns <= minutes * 60 / MADE_UP_SECONDS:
        raise UserError("--turns must be 1 or more, and at most the pieces of made-up speech (6 a minute)")
    figures = measure(arguments.media, minutes, pieces, arguments.quick, arguments.turns)
    with atomic_path(arguments.output) as temporary:
        temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    logger.info("wrote %s", arguments.output)
    print(to_markdown(figures))


if __name__ == "__main__":
    run_command(main)

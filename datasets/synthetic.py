"""A tiny prepared data set of drawn faces whose mouths follow the sound, for tests and the debug configs.

``python -m datasets.synthetic data/debug`` writes it; every ``configs/debug/*.yaml`` trains on it in seconds.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.coefficients import ANGLES, CROP, EXPRESSION, ROW_LENGTH, TRANSLATION
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import MEL_BANDS, MEL_COLUMNS_PER_SECOND, SAMPLE_RATE, TRAIN_FPS
from videoretalking.core.errors import run_command
from videoretalking.core.landmarks import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE
from videoretalking.datasets.clips import ClipMeta, ClipWriter
from videoretalking.datasets.manifest import ManifestEntry, write_manifest
from videoretalking.faces.align import lipsync_box

SIZE = 128  # pixels of the stored frame
_WAVE_LEVEL = 0.3


def write_synthetic(root: str | Path, num_train: int = 4, num_val: int = 2, num_frames: int = 24) -> Path:
    """Write clips and manifest; the same arguments give the same files.

    Args:
        root: target folder.
        num_train: clips (each its own person) in split ``train``.
        num_val: clips in split ``val``.
        num_frames: frames of each clip.

    Returns:
        ``root``.
    """
    root = Path(root)
    entries = []
    for index in range(num_train + num_val):
        split = "train" if index < num_train else "val"
        name = f"{split}/face{index}"
        write_synthetic_clip(root / name, index, num_frames)
        entries.append(ManifestEntry(name, split, f"face{index}", num_frames, release_training=True))
    write_manifest(root, entries)
    return root


def write_synthetic_clip(folder: Path, seed: int, num_frames: int) -> None:
    """Write one clip: a drawn face that sways while its mouth opens with the loudness of its sound."""
    rng = np.random.default_rng([seed, 0])
    seconds = num_frames / TRAIN_FPS
    columns = int(seconds * MEL_COLUMNS_PER_SECOND) + 16
    loudness = _envelope(rng, columns)
    opening = np.interp(np.arange(num_frames) * 3.2, np.arange(columns), loudness)
    sway = 0.03 * SIZE * np.sin(np.arange(num_frames) / 6.0 + rng.uniform(0.0, 6.0))
    skin, hair = rng.integers(90, 230, 3), rng.integers(10, 120, 3)
    landmarks = np.stack([_landmarks(shift, gap) for shift, gap in zip(sway, opening, strict=True)])
    # grain, because losses have ties and kinks on perfectly flat color
    grain = rng.normal(0.0, 3.0, (SIZE, SIZE, 3))
    frames = [
        np.clip(_draw(points, gap, skin, hair) + grain, 0, 255).astype(np.uint8)
        for points, gap in zip(landmarks, opening, strict=True)
    ]
    rows = np.zeros((num_frames, ROW_LENGTH), np.float32)
    rows[:, EXPRESSION.start] = opening
    rows[:, ANGLES.start + 1] = sway / SIZE
    rows[:, TRANSLATION.start] = sway / SIZE
    rows[:, CROP] = np.stack(
        [np.full(num_frames, 1.0), SIZE / 2 + sway, np.full(num_frames, SIZE / 2)], axis=1
    )
    writer = ClipWriter(folder)
    writer.write_frames(frames)
    writer.write_frames(
        (cv2.resize(frame, (2 * SIZE, 2 * SIZE)).astype(np.uint8) for frame in frames), "restored"
    )
    writer.write_per_frame("landmarks", landmarks)
    writer.write_per_frame("boxes", lipsync_box(landmarks))
    writer.write_per_frame("rows", rows)
    writer.write_audio(*_sound(rng, loudness))
    writer.finish(
        ClipMeta(
            identity=f"face{seed}",
            num_frames=num_frames,
            height=SIZE,
            width=SIZE,
            dnet_window=(0.0, 0.0, float(SIZE), float(SIZE)),
            source="drawn by datasets.synthetic",
            license="same as the code",
            release_training=True,
        )
    )


def _envelope(rng: np.random.Generator, columns: int) -> Floats32:
    """Loudness in [0, 1]: syllables of random length and strength."""
    knots = np.arange(0, columns + 12, 6)
    heights = rng.uniform(0.0, 1.0, len(knots)) * (rng.uniform(size=len(knots)) < 0.8)
    return np.interp(np.arange(columns), knots, heights).astype(np.float32)


def _sound(rng: np.random.Generator, loudness: Floats32) -> tuple[Floats32, Floats32]:
    """Noise with the given loudness, and a spectrogram drawn (not computed) from the same loudness."""
    voice = rng.uniform(0.3, 1.0, (MEL_BANDS, 1))
    mel = -4.0 + 7.0 * loudness * voice + rng.normal(0.0, 0.1, (MEL_BANDS, len(loudness)))
    samples = int(len(loudness) * SAMPLE_RATE / MEL_COLUMNS_PER_SECOND)
    volume = np.interp(np.arange(samples), np.arange(len(loudness)) * samples / len(loudness), loudness)
    wave = _WAVE_LEVEL * volume * rng.uniform(-1.0, 1.0, samples)
    return wave.astype(np.float32), np.clip(mel, -4.0, 4.0).astype(np.float32)


def _landmarks(shift: float, gap: float) -> Floats32:
    """[68, 2] iBUG points of the drawn face; ``gap`` in [0, 1] opens the mouth."""
    unit = 0.3 * SIZE
    turn = np.linspace(0.0, np.pi, 17)
    jaw = np.stack([-np.cos(turn), 0.1 + np.sin(turn)], axis=1)
    brows = [(x, -0.45) for x in np.concatenate([np.linspace(-0.7, -0.2, 5), np.linspace(0.2, 0.7, 5)])]
    nose = [(0.0, y) for y in np.linspace(-0.2, 0.2, 4)] + [(x, 0.28) for x in np.linspace(-0.15, 0.15, 5)]
    eyes = [(cx + dx, -0.25 + dy) for cx in (-0.45, 0.45) for dx, dy in _EYE]
    mouth = np.concatenate([_ring(0.32, 0.08 + 0.16 * gap, 12), _ring(0.24, 0.16 * gap, 8)])
    mouth[:, 1] += 0.6
    points = np.concatenate([jaw, brows, nose, eyes, mouth]) * unit
    return (points + np.array([SIZE / 2 + shift, SIZE / 2])).astype(np.float32)


_EYE = ((-0.15, 0.0), (-0.05, -0.06), (0.05, -0.06), (0.15, 0.0), (0.05, 0.06), (-0.05, 0.06))


def _ring(half_width: float, half_height: float, count: int) -> Floats32:
    """[count, 2] points of an ellipse from the left corner over the top."""
    turn = np.pi + np.arange(count) * 2.0 * np.pi / count
    return np.stack([half_width * np.cos(turn), half_height * np.sin(turn)], axis=1).astype(np.float32)


def _draw(points: Floats32, gap: float, skin: npt.ArrayLike, hair: npt.ArrayLike) -> Image8:
    frame = np.full((SIZE, SIZE, 3), (70, 110, 150), np.uint8)
    x, y = points[[0, 16]].mean(axis=0)
    _ellipse(frame, (x, y - 0.05 * SIZE), (0.34 * SIZE, 0.36 * SIZE), hair)
    _ellipse(frame, (x, y + 0.04 * SIZE), (0.3 * SIZE, 0.36 * SIZE), skin)
    for eye in (points[LEFT_EYE], points[RIGHT_EYE]):
        _ellipse(frame, eye.mean(axis=0), (0.04 * SIZE, 0.02 * SIZE), (20, 20, 20))
    mouth = points[OUTER_LIPS]
    _ellipse(frame, mouth.mean(axis=0), 0.5 * np.ptp(mouth, axis=0), (180, 60, 70))
    if gap > 0.05:
        inner = points[INNER_LIPS]
        _ellipse(frame, inner.mean(axis=0), 0.5 * np.ptp(inner, axis=0), (40, 10, 15))
    return frame


def _ellipse(frame: Image8, center: npt.ArrayLike, axes: npt.ArrayLike, color: npt.ArrayLike) -> None:
    x, y = np.rint(center).astype(int).tolist()
    half_width, half_height = np.maximum(np.rint(axes), 1).astype(int).tolist()
    rgb = np.asarray(color).astype(int).tolist()
    cv2.ellipse(frame, (x, y), (half_width, half_height), 0, 0, 360, rgb, -1, cv2.LINE_AA)


def main() -> None:
    """Command line: write the data set to the given folder."""
    parser = CommandParser(description="write a tiny prepared data set of drawn faces")
    parser.add_argument("root", type=Path, help="target folder, for example data/debug")
    write_synthetic(parser.parse_args().root)


if __name__ == "__main__":
    run_command(main)

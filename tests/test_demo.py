"""The bundled example with the bundled weights: the mouth follows the speech and nothing else moves."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from videoretalking.core.arrays import Image8
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.faces.align import lipsync_box
from videoretalking.media.audio import load_waveform
from videoretalking.media.images import load_image
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.config import RuntimeConfig, WeightsConfig

ROOT = Path(__file__).resolve().parent.parent
PORTRAIT, SPEECH = ROOT / "examples/portrait.jpg", ROOT / "examples/speech.wav"
_SECONDS = 1.6


@pytest.fixture(scope="module")
def retalker(tmp_path_factory: pytest.TempPathFactory) -> Retalker:
    cache = str(tmp_path_factory.mktemp("cache"))
    return Retalker.from_pretrained(
        InferenceConfig(weights=WeightsConfig(family="demo"), runtime=RuntimeConfig(cache_dir=cache))
    )


def _write_wave(path: Path, samples: npt.NDArray[np.floating]) -> Path:
    with wave.open(str(path), "wb") as handle:
        handle.setnchannels(1)
        handle.setsampwidth(2)
        handle.setframerate(SAMPLE_RATE)
        handle.writeframes((samples * 32767.0).astype("<i2").tobytes())
    return path


def _dub(retalker: Retalker, samples: npt.NDArray[np.floating], path: Path) -> Image8:
    speech = _write_wave(path, samples)
    return np.stack([frame.image for frame in retalker.frames(PORTRAIT, speech)])


@pytest.fixture(scope="module")
def spoken(retalker: Retalker, tmp_path_factory: pytest.TempPathFactory) -> Image8:
    speech = load_waveform(SPEECH)[: int(_SECONDS * SAMPLE_RATE)]
    return _dub(retalker, speech, tmp_path_factory.mktemp("speech") / "speech.wav")


def _mouth(retalker: Retalker) -> tuple[slice, slice]:
    """Rows and columns of the mouth in the portrait."""
    x, y = retalker.analyze(PORTRAIT).tracks[0].landmarks[0, 48:].T
    return slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1)


def test_only_the_face_moves(retalker: Retalker, spoken: Image8) -> None:
    portrait = load_image(PORTRAIT)
    assert spoken.shape == (round(_SECONDS * 25), *portrait.shape)
    x1, y1, x2, y2 = lipsync_box(retalker.analyze(PORTRAIT).tracks[0].landmarks[0]).astype(int)
    outside = np.ones(portrait.shape[:2], bool)
    outside[max(y1 - 1, 0) : y2 + 2, max(x1 - 1, 0) : x2 + 2] = False
    assert (spoken[:, outside] == portrait[outside]).all()
    # the upper half of the face keeps its bytes as well
    eyes = (slice(y1, y1 + (y2 - y1) // 3), slice(x1, x2))
    assert (spoken[:, eyes[0], eyes[1]] == portrait[eyes]).all()


def test_the_mouth_moves_with_speech_and_rests_in_silence(
    retalker: Retalker, spoken: Image8, tmp_path: Path
) -> None:
    silent = _dub(retalker, np.zeros(int(_SECONDS * SAMPLE_RATE)), tmp_path / "silence.wav")
    rows, columns = _mouth(retalker)

    def movement(frames: Image8) -> float:
        return float(frames[:, rows, columns].astype(np.float32).std(axis=0).mean())

    assert movement(spoken) > 2.0  # levels
    assert movement(silent) < movement(spoken) / 3

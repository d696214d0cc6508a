"""Make the bundled example: a portrait and a few spoken sentences.

The portrait is cut from the public-domain picture that scikit-image carries as ``astronaut``; the speech is made
by the synthesizer ``espeak-ng`` (Debian and Ubuntu: ``apt-get install espeak-ng``). Both results are committed;
this script is only needed to make them anew::

    python -m scripts.make_example --out examples
"""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats32, Image8
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.core.errors import UserError, run_command
from videoretalking.media.audio import load_waveform
from videoretalking.media.images import save_image

logger = logging.getLogger(__name__)

PORTRAIT = "portrait.jpg"
SPEECH = "speech.wav"

_ROWS, _COLUMNS = slice(0, 384), slice(32, 416)  # head and shoulders
_VOICE = "en-us+f3"
_WORDS_PER_MINUTE = 150
# The break shows the mouth at rest.
_TEXT = (
    "This portrait has never spoken before. <break time='900ms'/> "
    "Now its lips follow every word that you hear."
)
_PEAK = 0.8


def portrait() -> Image8:
    """[384, 384, 3] head and shoulders of Eileen Collins, NASA."""
    from skimage import data  # comes with face-alignment

    return np.ascontiguousarray(data.astronaut()[_ROWS, _COLUMNS])


def speech() -> Floats32:
    """[n] mono speech at 16 kHz.

    Raises:
        UserError: ``espeak-ng`` is not installed or fails.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise UserError("espeak-ng is not installed: apt-get install espeak-ng")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = [program, "-m", "-v", _VOICE, "-s", str(_WORDS_PER_MINUTE), "-w", str(path), _TEXT]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not path.is_file():
            raise UserError(f"espeak-ng failed: {done.stderr.strip() or done.returncode}")
        samples = load_waveform(path)
    return samples * np.float32(_PEAK / np.abs(samples).max())


def write_wav(path: Path, samples: Floats32) -> None:
    """Write [n] samples at 16 kHz as 16-bit WAV."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(np.rint(samples * 32767.0).astype("<i2").tobytes())


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = CommandParser(description="Make the bundled example.")
    parser.add_argument("--out", type=Path, default=Path("examples"), help="folder for the two files")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    save_image(options.out / PORTRAIT, portrait())
    samples = speech()
    write_wav(options.out / SPEECH, samples)
    logger.info("%s: %s, and %s with %.1f s", options.out, PORTRAIT, SPEECH, len(samples) / SAMPLE_RATE)
    return 0


if __name__ == "__main__":
    run_command(main)

"""Step 4: 16 kHz sound and mel spectrogram of every clip that has sound.

python -m scripts.preprocess.audio --work data/work --root data/prepared
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from videoretalking.core.arrays import Floats32
from videoretalking.core.constants import MEL_HOP, SAMPLE_RATE, TRAIN_FPS
from videoretalking.core.errors import UserError, run_command
from videoretalking.datasets.clips import ClipWriter
from videoretalking.media.audio import audio_info, load_waveform
from videoretalking.media.mel import FFT_SIZE, mel_spectrogram
from videoretalking.scripts.preprocess.clips import ClippedSource, clipped_sources
from videoretalking.scripts.preprocess.crew import Crew, read_crew
from videoretalking.scripts.preprocess.runner import Outcome, Rejected, plain, run_step, step_parser

_CONTEXT = -(-FFT_SIZE // 2 // MEL_HOP)  # columns before and after a clip that its own columns reach into
_MIN_PEAK = 1e-3  # of full scale; less is a muted recording


def cut_sound(wave: Floats32, start: float, num_frames: int) -> tuple[Floats32, Floats32]:
    """Sound and spectrogram of a clip.

    The spectrogram is that of the whole recording: its first and last columns see what lies before and after
    the clip. Beyond the recording there is silence.

    Args:
        wave: [n] sound of the whole source.
        start: second at which the clip starts; may be negative or beyond the end.
        num_frames: frames of the clip, 25 a second.

    Returns:
        [samples] and [80, columns].
    """
    first = round(start * SAMPLE_RATE)
    length = round(num_frames * SAMPLE_RATE / TRAIN_FPS)
    context = _CONTEXT * MEL_HOP
    around = np.zeros(length + 2 * context, np.float32)
    low, high = max(first - context, 0), min(first + length + context, len(wave))
    if low < high:
        around[low - first + context : high - first + context] = wave[low:high]
    return around[context : context + length], mel_spectrogram(around)[:, _CONTEXT:-_CONTEXT]


def write_sounds(root: Path, job: ClippedSource) -> None:
    """Write the sound of all clips of one source.

    Raises:
        Rejected: the source has no sound, or it is mute.
    """
    try:
        audio_info(job.source.path)
    except UserError as error:
        raise Rejected(str(error)) from None
    wave = load_waveform(job.source.path)
    if float(np.abs(wave).max()) < _MIN_PEAK:
        raise Rejected("the sound is mute")
    for plan in job.plans:
        ClipWriter(root / plan.name).write_audio(*cut_sound(wave, plan.start, len(plan.frames)))


def run(work: Path, root: Path, crew: Crew) -> Outcome:
    """Give all clips of videos their sound."""
    return run_step(
        "audio",
        [clipped for clipped in clipped_sources(work) if not clipped.source.is_still],
        partial(plain, partial(write_sounds, root)),
        lambda job: all((root / plan.name / "mel.npy").is_file() for plan in job.plans),
        work,
        crew,
    )


def main() -> None:
    """Command line of step 4."""
    parser = step_parser("Step 4: sound and mel spectrograms")
    arguments = parser.parse_args()
    run(arguments.work, arguments.root, read_crew(arguments))


if __name__ == "__main__":
    run_command(main)

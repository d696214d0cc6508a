"""Memory of the main job does not grow with the length of the video: ``pytest --slow tests/test_memory.py``.

Takes about ten minutes. D-Net and E-Net stay out to save time: what networks need does not depend on the length.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import av
import pytest
from media_clips import noise_bursts, write_wav
from tiny_weights import make_tiny_weights

ROOT = Path(__file__).resolve().parent.parent
_GROWTH = 1.15
_SECONDS = (15, 180)
_PEAK = """
import resource, sys
from videoretalking.core.errors import run_command
import inference
try:
    run_command(inference.main)
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def looped(source: Path, target: Path, seconds: float) -> Path:
    """The picture of ``source`` again and again, not encoded anew."""
    with av.open(str(target), "w") as output:
        stream, start = None, 0
        while stream is None or start * stream.time_base < seconds:
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                stream = stream or output.add_stream_from_template(video)
                for packet in container.demux(video):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + start, packet.dts + start, stream
                        output.mux(packet)
                start += video.duration
    return target


def peak(face: Path, audio: Path, folder: Path) -> int:
    """Peak resident memory of a whole run, KiB."""
    arguments = ["--face", face, "--audio", audio, "--outfile", folder / "out.mp4", "--weights", folder]
    arguments += ["--cache-dir", folder / "cache", "--face-backend", "bundled", "--device", "cpu"]
    arguments += ["--preset", "fast", "--no-enhance", "--no-neutralize"]
    result = subprocess.run(
        [sys.executable, "-c", _PEAK, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return int(result.stdout.split()[-1])


@pytest.mark.slow
def test_peak_memory_is_that_of_a_short_video(media_dir: Path, tmp_path: Path) -> None:
    pytest.importorskip("resource")
    make_tiny_weights(tmp_path)
    peaks = []
    for seconds in _SECONDS:
        face = looped(media_dir / "inputs" / "landscape_1920x1080_25fps.mp4", tmp_path / "face.mp4", seconds)
        audio = write_wav(tmp_path / "speech.wav", noise_bursts(16_000, seconds), 16_000)
        peaks.append(peak(face, audio, tmp_path))
        print(f"{seconds} s: {peaks[-1] / 1024:.0f} MiB")
    assert peaks[1] <= _GROWTH * peaks[0]

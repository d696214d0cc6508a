"""The bundled example as the main job writes it is found after one more encode; what is evaluated bears no mark."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from media_clips import write_wav

from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.evaluation.methods import make_method
from videoretalking.evaluation.pairs import Pair
from videoretalking.media.audio import load_waveform, read_audio
from videoretalking.media.video import VideoReader
from videoretalking.pipeline.cli import main
from videoretalking.provenance.keys import PUBLIC_KEY
from videoretalking.scripts.detect_marks import Findings, detect_file

ROOT = Path(__file__).resolve().parent.parent
SPEAKER, SPEECH = ROOT / "examples/speaker.mp4", ROOT / "examples/speech.wav"
# The mark is the same whatever painted the face, so the networks that take the time stay out.
SETTINGS = {
    "weights.family": "demo",
    "render.neutralize": False,
    "render.enhance": False,
    "render.parse": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def dubbed(folder: Path) -> Path:
    """Three seconds of the speaker with the default marks."""
    speech = write_wav(folder / "speech.wav", load_waveform(SPEECH)[None, : 3 * SAMPLE_RATE], SAMPLE_RATE)
    flags = ["--face", SPEAKER, "--audio", speech, "--outfile", folder / "demo.mp4", "--weights", "demo"]
    flags += ["--no-neutralize", "--no-enhance", "--no-parse", "--cache-dir", folder / "cache"]
    main([str(flag) for flag in [*flags, "--report", folder / "demo.json", "--restore", "0"]])
    return folder / "demo.mp4"


def encoded_again(source: Path, target: Path, share: float) -> Path:
    """As an upload might do it: smaller, CRF 28, AAC at 64 kbit/s."""
    with VideoReader(source) as reader, av.open(str(target), "w") as container:
        width, height = (round(side * share) // 2 * 2 for side in (reader.info.width, reader.info.height))
        video = container.add_stream("libx264", rate=25, options={"crf": "28"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        audio.bit_rate = 64_000
        for frame in reader:
            image = cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA)
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = frame.index, Fraction(1, 25)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        sound = np.concatenate([block for block, _ in read_audio(source)], axis=1)
        samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SAMPLE_RATE, 0
        container.mux(audio.encode(samples))
        container.mux(audio.encode(None))
    return target


def payloads(findings: Findings) -> tuple[str | None, str | None]:
    """What picture and sound say."""
    video, audio = (
        seen.payload.text if seen is not None and seen.payload is not None else None
        for seen in (findings.video, findings.audio)
    )
    return video, audio


def test_the_result_is_found_after_one_more_encode(dubbed: Path, folder: Path) -> None:

    payload = json.loads((folder / "demo.json").read_text())["mark"]["payload"]
    smaller = detect_file(encoded_again(dubbed, folder / "smaller.mp4", 0.75), PUBLIC_KEY)
    assert payloads(smaller) == (payload, payload)
    half = detect_file(encoded_again(dubbed, folder / "half.mp4", 0.5), PUBLIC_KEY)
    assert payloads(half) == (payload, payload)


def test_what_is_evaluated_bears_no_mark(dubbed: Path, folder: Path) -> None:
    speech = write_wav(folder / "short.wav", load_waveform(SPEECH)[None, :SAMPLE_RATE], SAMPLE_RATE)
    method = make_method(
        "ours", {**SETTINGS, "render.restore": 0.0, "runtime.cache_dir": str(folder / "cache")}
    )
    method.dub(Pair(0, "pair", SPEAKER, speech), folder / "evaluated.mp4")
    assert not detect_file(folder / "evaluated.mp4", PUBLIC_KEY).found

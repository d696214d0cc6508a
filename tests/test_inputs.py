"""Whole inputs of every kind through the main job: frame times, sound, and pixels away from the face."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from media_clips import delay
from tiny_weights import make_tiny_weights

from videoretalking.core.arrays import AnyImage, Mask
from videoretalking.core.constants import SAMPLE_RATE
from videoretalking.media.audio import load_waveform
from videoretalking.media.video import VideoReader
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.analyze import Analysis
from videoretalking.pipeline.config import (
    AnalysisConfig,
    OutputConfig,
    RenderConfig,
    RuntimeConfig,
    WeightsConfig,
)
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.report import FrameReport
from videoretalking.pipeline.schedule import frames_in_order
from videoretalking.pipeline.stages.composite import Compositor

INPUTS = (
    "cfr_25fps_590x590.mp4",
    "cfr_30fps_700x700.mp4",
    "landscape_1920x1080_25fps.mp4",
    "mpeg1_360x288_25fps.mpg",
    "noaudio_256x256_30fps.mp4",
    "portrait_624x624.jpg",
    "vertical_1080x1920_25fps_hevc.mp4",
    "vertical_1080x1920_30fps_h264.mp4",
    "vfr_22.13fps_700x700.mp4",
)
SPEECH = ("audio/en_f0206_5s_24k.wav", "audio/und_f0169_5s_44k1_stereo.wav")

_MIN_PSNR = 45.0
_MAX_DELAY = 0.02  # seconds


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.mark.slow
@pytest.mark.parametrize("speech", SPEECH)
@pytest.mark.parametrize("name", INPUTS)
def test_every_input(
    name: str,
    speech: str,
    media_dir: Path,
    weights: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = tmp_path_factory.getbasetemp() / "cache"
    check(media_dir / "inputs" / name, media_dir / speech, weights, cache, monkeypatch)


@pytest.mark.parametrize(
    "name", ["vfr_22.13fps_700x700.mp4", "mpeg1_360x288_25fps.mpg", "portrait_624x624.jpg"]
)
def test_inputs_for_half_a_second(
    name: str, media_dir: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speech = media_dir / "hostile" / "a_0.5s.wav"
    check(media_dir / "inputs" / name, speech, weights, tmp_path, monkeypatch, "cut")


def check(
    face: Path, speech: Path, weights: Path, cache: Path, patch: pytest.MonkeyPatch, pad: str = "pingpong"
) -> None:
    """Dub and hold the result against the input and the speech."""
    config = InferenceConfig(
        weights=WeightsConfig(family=str(weights)),
        analysis=AnalysisConfig(backend="bundled"),
        render=RenderConfig(pad=pad),  # type: ignore[arg-type]
        output=OutputConfig(mark="face"),  # "on" changes every pixel
        runtime=RuntimeConfig(device="cpu", cache_dir=str(cache)),
    )
    retalker = Retalker.from_pretrained(config)
    analysis = retalker.analyze(face)
    changed_outside = watch_compositor(patch)
    outfile = cache / "out.mp4"
    report = retalker.render(analysis, speech, outfile)
    assert any(frame.faces for frame in report.frames)
    assert changed_outside and not any(changed_outside)

    wave, heard = load_waveform(speech), load_waveform(outfile)
    late = delay(wave, heard) / SAMPLE_RATE
    quality = psnr_outside(analysis, report.frames, outfile)
    print(f"{len(report.frames)} frames, sound {1000 * late:.1f} ms late, {quality:.1f} dB outside the face")
    assert abs(late) <= _MAX_DELAY
    assert quality >= _MIN_PSNR
    with VideoReader(outfile) as reader:
        times = [frame.time for frame in reader]
    picture_end = 0.0 if len(analysis.times) == 1 else analysis.times[-1] + analysis.last_duration
    speech_end = len(wave) / SAMPLE_RATE
    end = min(picture_end or speech_end, speech_end) if pad == "cut" else max(picture_end, speech_end)
    assert abs(times[-1] + float(np.median(np.diff(times))) - end) < 0.1
    own = min(len(analysis.times), len(times))
    np.testing.assert_allclose(times[:own], analysis.times[:own], rtol=0, atol=1e-9)


def watch_compositor(patch: pytest.MonkeyPatch) -> list[bool]:
    """Whether a pixel outside the face boxes changed, for every frame that gets a new face from now on."""
    changed: list[bool] = []
    original = Compositor.__call__

    def watched(
        self: Compositor,
        frames: Sequence[AnyImage],
        faces: Sequence[Sequence[FaceJob]],
        painted: Sequence[Mask] | None = None,
    ) -> list[AnyImage]:
        results = original(self, frames, faces, painted)
        for frame, inside, result in zip(frames, faces, results, strict=True):
            outside = np.ones(frame.shape[:2], dtype=bool)
            for face in inside:
                corners = face.crop.to_image([[-0.5, -0.5], np.asarray(face.crop.size) - 0.5])
                outside[box_of(corners.ravel())] = False
            if inside:
                changed.append(bool((result != frame)[outside].any()))
        return results

    patch.setattr(Compositor, "__call__", watched)
    return changed


def psnr_outside(analysis: Analysis, frames: Sequence[FrameReport], outfile: Path) -> float:
    """PSNR in RGB of a written file against its input, over the pixels outside the face box."""
    track, error, count = analysis.tracks[0], 0.0, 0
    order = np.array([frame.source for frame in frames])
    with VideoReader(analysis.path) as source, VideoReader(outfile) as result:
        for index, before, after in zip(order, frames_in_order(source, order), result, strict=True):
            squares = np.square(after.image.astype(np.float32) - before.image)
            if track.present[index]:
                squares[box_of(track.boxes[index])] = np.nan
            error += float(np.nansum(squares, dtype=np.float64))
            count += int(np.isfinite(squares).sum())
    return float(10 * np.log10(255**2 * count / max(error, 1e-9)))


def box_of(corners: npt.ArrayLike) -> tuple[slice, slice]:
    """Rows and columns of every pixel that x1, y1, x2, y2 touches."""
    x1, y1, x2, y2 = np.asarray(corners, dtype=np.float64)
    rows = slice(max(int(np.floor(y1)), 0), max(int(np.ceil(y2)) + 1, 0))
    return rows, slice(max(int(np.floor(x1)), 0), max(int(np.ceil(x2)) + 1, 0))

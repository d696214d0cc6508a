"""The whole main job with the bundled weights: the frames of the GPU against those of the CPU."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu_compare import CPU

from videoretalking.core.arrays import Image8
from videoretalking.core.quality import MAX_PSNR
from videoretalking.media.video import VideoInfo, VideoReader, VideoWriter
from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.apart import FORCE_VARIABLE
from videoretalking.pipeline.config import AnalysisConfig, RenderConfig, RuntimeConfig, WeightsConfig
from videoretalking.pipeline.formats import MIN_PSNR

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NUM_FRAMES = 12
Dub = Callable[..., Image8]
EXACT = 55.0  # dB: some pixels of some frames differ by a level


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginning of the bundled video."""
    path = tmp_path_factory.mktemp("clip") / "speaker.mkv"
    with VideoReader(EXAMPLES / "speaker.mp4") as reader:
        frames = [frame for frame, _ in zip(reader, range(NUM_FRAMES), strict=False)]
        info = VideoInfo(reader.info.width, reader.info.height, fps=reader.info.fps)
    with VideoWriter(path, info, codec="ffv1") as writer:
        for frame in frames:
            writer.write(frame.image, frame.time, 0.04)
    return path


@pytest.fixture(scope="module")
def dub(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Dub:
    """``dub(device, "float32", "thread")``: the frames [N, H, W, 3] of both passes, each on that device."""
    folder = tmp_path_factory.mktemp("cache")

    @cache
    def run(device: torch.device, dtype: str, pass_1: str = "thread") -> Image8:
        cache = folder / device.type / pass_1
        runtime = RuntimeConfig(str(device), dtype, batch_size=5, cache_dir=str(cache))
        config = InferenceConfig(
            WeightsConfig("demo"), AnalysisConfig("bundled"), RenderConfig(pad="cut"), runtime=runtime
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(FORCE_VARIABLE, pass_1)
            retalker = Retalker.from_pretrained(config)
        assert (retalker.pass_1 is not None) == (pass_1 == "process")
        assert retalker.networks.lnet.device.type == device.type
        frames = [frame.image for frame in retalker.frames(clip, EXAMPLES / "speech.wav")]
        assert len(frames) == NUM_FRAMES
        return np.stack(frames)

    return run


@pytest.mark.gpu
@pytest.mark.parametrize(("dtype", "least"), [("float32", EXACT), ("auto", MIN_PSNR)])
def test_frames_are_those_of_the_cpu(
    dtype: str,
    least: float,
    device: torch.device,
    clip: Path,
    dub: Dub,
    record_property: Callable[[str, object], None],
) -> None:
    found, wanted = dub(device, dtype), dub(CPU, "float32")
    with VideoReader(clip) as reader:
        source = np.stack([frame.image for frame in reader])
    edited = (wanted != source).any(axis=-1)
    assert 0.02 < edited.mean() < 0.8
    # on the pixels that the job painted, which is stricter than on whole frames
    error = np.square((found[edited].astype(np.float64) - wanted[edited]) / 255.0).mean()
    quality = MAX_PSNR if error == 0.0 else float(-10.0 * np.log10(error))
    record_property(f"decibels of the job in {dtype}", f"{quality:.1f}")
    assert quality >= least


@pytest.mark.gpu
def test_pass_1_in_a_process_of_its_own_changes_nothing(
    device: torch.device, dub: Dub, record_property: Callable[[str, object], None]
) -> None:
    found, wanted = dub(device, "float32", "process"), dub(device, "float32")
    difference = np.abs(found.astype(int) - wanted)
    record_property("levels of the job that pass 1 in a process of its own changes", int(difference.max()))
    assert difference.max() <= 2 and difference.mean() < 0.01

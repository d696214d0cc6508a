"""Speed of every network and stage at the released sizes, with random weights (speed does not depend on them).

    python -m scripts.benchmark --json benchmark.json

Each network runs in float32, eager, batch 1, and then as shipped: by the engine of the main job (number format,
memory layout, batch), on the same inputs in the same run; PSNR says how near the two are. Networks of pass 1 see
one face at a time in float32, so that both columns say the same. The chain D-, L-, E-Net is timed as a whole in
both ways, with the work that its stages share. Then the whole main job, parser and restorer included, renders a
drawn video. Machines are noisy: the best of ``--repeats`` counts.
"""

from __future__ import annotations

import json
import logging
import math
import platform
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from videoretalking.core.arrays import AnyImage
from videoretalking.core.commands import CommandParser
from videoretalking.core.constants import DNET_SIZE, ENET_SIZE, LNET_SIZE, RECON_SIZE, RESTORER_SIZE
from videoretalking.core.devices import DTYPES, keep_freed_memory
from videoretalking.core.errors import run_command
from videoretalking.core.quality import MAX_PSNR, psnr
from videoretalking.faces.align import box_crop, lipsync_box
from videoretalking.faces.boxes import smooth_boxes
from videoretalking.faces.reconstruct import FitReconstructor, load_face_model
from videoretalking.faces.types import FaceTrack
from videoretalking.media.video import VideoInfo, VideoWriter
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.catalog import build_network
from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import fold_spectral_norm, resize
from videoretalking.models.lnet import lnet_input
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.analyze import Analysis
from videoretalking.pipeline.config import RenderConfig, RuntimeConfig, WeightsConfig
from videoretalking.pipeline.engine import Engine, main_output
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.networks import EXACT, PARSERS, load_networks
from videoretalking.pipeline.render import Renderer
from videoretalking.pipeline.speech import Speech
from videoretalking.pipeline.stages.enhance import Enhancer
from videoretalking.pipeline.stages.lipsync import LipSyncer
from videoretalking.pipeline.stages.mask import class_shares
from videoretalking.pipeline.weights import Weights

logger = logging.getLogger(__name__)

_WINDOW = 26  # frames of D-Net's window in the published inference
_FPS = 25


@dataclass(frozen=True)
class Timing:
    """One row of the table.

    Attributes:
        name: network or chain.
        parameters: millions.
        eager: seconds a frame in float32, eager, batch 1.
        shipped: seconds a frame as shipped.
        speedup: eager over shipped.
        psnr: of the shipped output against the eager one in dB, for images in [0, 1].
    """

    name: str
    parameters: float
    eager: float
    shipped: float
    speedup: float
    psnr: float


def random_network(name: str, device: torch.device) -> nn.Module:
    """A network at its released size with random weights, ready for inference."""
    torch.manual_seed(0)
    network = build_network(name).requires_grad_(False)
    return fold_spectral_norm(network).to(device)


def frames(count: int, size: int, device: torch.device) -> torch.Tensor:
    """[count, 3, size, size] of a smooth picture that drifts, like the crops of a talking head."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 12, 12, generator=generator)
    picture = resize(coarse, size + count)[0]
    return torch.stack([picture[:, k : k + size, k : k + size] for k in range(count)]).to(device)


def network_inputs(name: str, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Inputs of one call of a network with a batch of ``count``."""
    torch.manual_seed(1)
    sizes = {"reconnet": RECON_SIZE, "landmarks": 128, "ganimation": 128}
    inputs: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
        "dnet": lambda: (frames(count, DNET_SIZE, device), 0.3 * torch.randn(count, 73, _WINDOW)),
        "lnet": lambda: (torch.randn(count, 1, 80, 16), torch.rand(count, 6, LNET_SIZE, LNET_SIZE)),
        "enet": lambda: (frames(count, LNET_SIZE, device), frames(count, ENET_SIZE, device)),
        "ganimation": lambda: (frames(count, 128, device), torch.rand(count, 17)),
        "lipsync_expert": lambda: (torch.randn(count, 1, 80, 16), torch.rand(count, 15, 48, 96)),
    }
    make = inputs.get(name, lambda: (frames(count, sizes.get(name, RESTORER_SIZE), device),))
    return tuple(tensor.to(device) for tensor in make())


NETWORKS = (
    "dnet", "lnet", "enet", "reconnet", "landmarks", "lipsync_expert", "gfpgan", "parsenet", "bisenet",
    "ganimation",
)  # fmt: skip
_PASS_1 = ("reconnet", "landmarks")


def seconds(function: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Best wall time of a call after one to warm up."""
    function()
    best = math.inf
    for _ in range(repeats):
        _synchronize(device)
        start = time.perf_counter()
        function()
        _synchronize(device)
        best = min(best, time.perf_counter() - start)
    return best


def time_network(name: str, engine: Engine, repeats: int) -> Timing:
    """Eager float32 at batch 1 against how the main job runs the network."""
    network = random_network(name, engine.device)
    parameters = sum(weight.numel() for weight in network.parameters()) / 1e6
    batch = network_inputs(name, engine.batch_size, engine.device)
    parses = name in PARSERS
    plain: Callable[..., Any] = network
    if parses:
        plain = partial(class_shares, cast("BiSeNet | ParseNet", network))
    keep_freed_memory(False)  # the network before this one may have changed it
    with torch.inference_mode():
        singles = [tuple(tensor[k : k + 1] for tensor in batch) for k in range(engine.batch_size)]
        eager = seconds(lambda: plain(*singles[0]), repeats, engine.device)
        expected = torch.cat([main_output(plain(*single)) for single in singles])
        if name in _PASS_1:
            return Timing(name, parameters, eager, eager, 1.0, MAX_PSNR)
        runner = engine.prepare(network, exact=name in EXACT)
        if parses:
            runner = runner.using(plain)
        batch = tuple(_channels_last(tensor) for tensor in batch)
        shipped = seconds(lambda: runner(*batch), repeats, engine.device) / engine.batch_size
        quality = _closeness(runner(*batch), expected)
    return Timing(name, parameters, eager, shipped, eager / shipped, quality)


def time_chain(engine: Engine, repeats: int, num_frames: int) -> Timing:
    """D-, L- and E-Net one after the other: network for network and frame for frame, or as the main job does."""
    dnet, lnet, enet = (random_network(name, engine.device) for name in ("dnet", "lnet", "enet"))
    assert isinstance(enet, ENet)
    device = engine.device
    crops = frames(num_frames, ENET_SIZE, device)
    sources = resize(crops, DNET_SIZE)
    torch.manual_seed(1)
    windows = (0.3 * torch.randn(1, 73, _WINDOW)).expand(num_frames, -1, -1).to(device)
    audio = torch.randn(num_frames, 80, 16).to(device)

    def plain(count: int = num_frames) -> torch.Tensor:
        images = []
        for k in range(count):
            one = slice(k, k + 1)
            reference = resize(dnet(sources[one], windows[one]).image, ENET_SIZE)
            faces = resize(lnet_input(crops[one], reference), LNET_SIZE)
            images.append(enet(lnet(audio[one, None], faces), crops[one]).clamp(0.0, 1.0))
        return torch.cat(images)

    parameters = sum(weight.numel() for net in (dnet, lnet, enet) for weight in net.parameters()) / 1e6
    with torch.inference_mode():
        expected = plain()
        eager = seconds(lambda: plain(1), repeats, device)
        neutralize, syncer = engine.prepare(dnet), LipSyncer(engine.prepare(lnet))
        painter = engine.prepare(enet)
        crops, sources = _channels_last(crops), _channels_last(sources)

        def shipped() -> torch.Tensor:
            enhancer = Enhancer(painter, RenderConfig().identity_every)
            images = []
            for start in range(0, num_frames, engine.batch_size):
                part = slice(start, start + engine.batch_size)
                edited = neutralize(sources[part], windows[part]).clamp(0.0, 1.0)
                reference = resize(edited, ENET_SIZE)
                low_res = syncer(audio[part], crops[part], reference).image
                jobs = [_job(index) for index in range(start, start + len(low_res))]
                images.append(enhancer(jobs, low_res, crops[part]))
            return torch.cat(images)

        quality = _closeness(shipped(), expected)
        fast = seconds(shipped, repeats, device) / num_frames
    return Timing("chain D+L+E", parameters, eager, fast, eager / fast, quality)


class RandomWeights(Weights):
    """A complete set of the released sizes, without files."""

    def path(self, name: str) -> Path:
        """A file for every network."""
        return self.folder / f"{name}.safetensors"

    def load(self, name: str, device: torch.device) -> nn.Module:
        """As :func:`random_network`."""
        return random_network(name, device)


def time_main_job(engine: Engine, num_frames: int, width: int, height: int) -> dict[str, Any]:
    """Pass 2 on a drawn video, encoding included: busy seconds a frame of each stage, frames a second."""
    networks = load_networks(RandomWeights("random", Path("random"), WeightsConfig()), RenderConfig(), engine)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "drawn.mp4"
        analysis = drawn_video(video, num_frames, width, height)
        speech = Speech(video, num_frames / _FPS, np.zeros((80, 80 * num_frames // _FPS + 1), np.float32),
                        np.ones(80 * num_frames // _FPS + 1, np.float32))  # fmt: skip
        renderer = Renderer(
            analysis, speech, networks, np.zeros(64, np.float32), RenderConfig(), float(_FPS), _WINDOW
        )
        start = time.perf_counter()
        with VideoWriter(Path(folder) / "result.mp4", analysis.info) as writer:
            for frame in tqdm(renderer, desc="main job", unit="frame", delay=2.0):
                with renderer.stopwatch("encode"):
                    writer.write(frame.image, frame.time, frame.duration)
        passed = time.perf_counter() - start
    return {
        "frames": num_frames,
        "size": [width, height],
        "frames_per_second": num_frames / passed,
        "stages": {stage: busy / num_frames for stage, busy in renderer.stopwatch.seconds.items()},
    }


def drawn_video(path: Path, num_frames: int, width: int, height: int) -> Analysis:
    """Write a video of a drifting picture and describe a face in it, a third of the frame high."""
    info = VideoInfo(width, height, fps=Fraction(_FPS), time_base=Fraction(1, 12_800), num_frames=num_frames)
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 3, 9, 16), dtype=np.float32))
    picture = (resize(coarse, (height, width))[0] * 255).byte().permute(1, 2, 0).numpy()
    with VideoWriter(path, info, preset="veryfast") as writer:
        for index in range(num_frames):
            writer.write(np.ascontiguousarray(np.roll(picture, index, axis=1)), index / _FPS, 1 / _FPS)
    model = load_face_model()
    shape = model.mean[:, :2] * [1.0, -1.0]
    unit = (shape - shape.min(axis=0)) / np.ptp(shape[:, 1])
    corners = np.stack([width / 3 + np.arange(num_frames), np.full(num_frames, height / 3)], axis=1)
    landmarks = (unit * height / 3 + corners[:, None]).astype(np.float32)
    times = np.arange(num_frames) / _FPS
    empty = FaceTrack.empty(times, (width, height))
    arrays: dict[str, Any] = {
        "present": np.ones(num_frames, bool),
        "landmarks": landmarks,
        "boxes": smooth_boxes(lipsync_box(landmarks)).astype(np.float32),
        "rows": FitReconstructor(model).rows(landmarks, (width, height)),
    }
    track = replace(empty, **arrays)
    return Analysis(path, info, times, 1 / _FPS, [track], key="", cached=False)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak resident memory of the process, and of the GPU, in GiB."""
    scale = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    memory = {"process_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale}
    if device.type == "cuda":
        memory["gpu_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
    return memory


def _job(index: int) -> FaceJob:
    blank: AnyImage = np.zeros((1, 1, 3), np.uint8)
    crop = box_crop([0, 0, 1, 1], (1, 1))
    return FaceJob(blank, 0, index, 0, index / _FPS, np.zeros((68, 2), np.float32), crop)


def _closeness(values: torch.Tensor, expected: torch.Tensor) -> float:
    """PSNR over all numbers in dB; the peak is 1, or the span of what is expected if that is larger."""
    peak = max(1.0, float(expected.max() - expected.min()))
    return float(psnr((values / peak).flatten()[None], (expected / peak).flatten()[None]))


def _channels_last(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print_row(timing: Timing) -> None:
    print(
        f"{timing.name:<16}{timing.parameters:>8.1f} M{timing.eager:>10.4f}{timing.shipped:>10.4f}"
        f"{timing.speedup:>8.2f}x{timing.psnr:>9.1f}",
        flush=True,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = CommandParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto", choices=["auto", *DTYPES])
    parser.add_argument("--batch-size", type=int, default=0, help="0 takes the main job's")
    parser.add_argument("--compile", action="store_true", help="torch.compile the shipped variant")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--frames", type=int, default=16, help="frames of the chain and of the drawn video")
    parser.add_argument("--size", type=int, nargs=2, default=(1920, 1080), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--skip-main-job", action="store_true")
    options = parser.parse_args(arguments)
    engine = Engine.from_config(
        RuntimeConfig(options.device, options.dtype, options.batch_size, options.compile)
    )
    device = engine.device
    print(f"{torch.get_num_threads()} CPU threads, torch {torch.__version__}")
    print(f"shipped: on {engine}; seconds a frame")
    print(f"{'network':<16}{'size':>10}{'eager':>10}{'shipped':>10}{'gain':>9}{'PSNR dB':>9}")
    # The chain goes first: its eager run finds the process as a plain program would, no memory kept from before.
    chain = time_chain(engine, options.repeats, options.frames)
    _print_row(chain)
    timings = []
    for name in options.networks:
        timings.append(time_network(name, engine, options.repeats))
        _print_row(timings[-1])
    results: dict[str, Any] = {
        "machine": {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
        },
        "shipped": str(engine),
        "networks": [asdict(timing) for timing in timings],
        "chain": asdict(chain),
    }
    if not options.skip_main_job:
        job = time_main_job(engine, options.frames, *options.size)
        results["main_job"] = job
        print(f"main job at {job['size'][0]}x{job['size'][1]}: {job['frames_per_second']:.2f} frames/s")
        for stage, busy in job["stages"].items():
            print(f"  {stage:<14}{busy:>10.4f}")
    results["peak_memory"] = peak_memory(device)
    print("peak memory: " + ", ".join(f"{key} {value:.2f}" for key, value in results["peak_memory"].items()))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    run_command(main)

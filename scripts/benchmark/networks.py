"""Every network at its released size, with random weights: as a plain program would run it, and as shipped.

Each network runs in float32, eager, batch 1, and then by the engine of the main job (number format, memory layout,
batch), on the same inputs in the same run; PSNR says how near the two are, and what the network then computes in is
read from its operators. Networks of pass 1 see one face at a time in float32, so both columns say the same. The
chain D-, L-, E-Net is timed as a whole in both ways, with the work that its stages share. Machines are noisy: the
best of the repeats counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from videoretalking.core.arrays import AnyImage
from videoretalking.core.constants import DNET_SIZE, ENET_SIZE, LNET_SIZE, RECON_SIZE, RESTORER_SIZE
from videoretalking.core.devices import keep_freed_memory
from videoretalking.core.quality import MAX_PSNR, psnr
from videoretalking.faces.align import box_crop
from videoretalking.models.bisenet import BiSeNet
from videoretalking.models.catalog import build_network
from videoretalking.models.enet import ENet
from videoretalking.models.layers.blocks import fold_spectral_norm, resize
from videoretalking.models.lnet import lnet_input
from videoretalking.models.parsenet import ParseNet
from videoretalking.pipeline.config import RenderConfig, RuntimeConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.formats import main_output
from videoretalking.pipeline.jobs import FaceJob
from videoretalking.pipeline.networks import EXACT, PARSERS
from videoretalking.pipeline.stages.enhance import Enhancer
from videoretalking.pipeline.stages.lipsync import LipSyncer
from videoretalking.pipeline.stages.mask import class_shares
from videoretalking.scripts.benchmark.material import speaker
from videoretalking.scripts.benchmark.operators import Work, busy_time, threads_of, work_of

CHAIN = "chain D+L+E"
_CHAIN_BATCHES = 2
_WINDOW = 26  # frames of D-Net's window in the published inference
_FPS = 25


@dataclass(frozen=True)
class Timing:
    """One row of the table.

    Attributes:
        name: network or chain.
        parameters: millions.
        eager: seconds a frame in float32, eager, batch 1; CPU-seconds of all threads on the CPU.
        shipped: likewise as shipped.
        speedup: eager over shipped.
        psnr: of the shipped output against the eager one in dB, for images in [0, 1].
        gflop: a frame, as shipped.
        floor: likewise at the best that the machine reaches in the same formats.
        floor_share: floor over shipped.
        runs_in: shares of the work by format, layout and batch, see :meth:`operators.Work.describe`.
    """

    name: str
    parameters: float
    eager: float
    shipped: float
    speedup: float
    psnr: float
    gflop: float
    floor: float
    floor_share: float
    runs_in: dict[str, Any]


def measure_networks(
    runtime: RuntimeConfig,
    names: Sequence[str],
    repeats: int,
    peaks: Mapping[str, float],
    deadline: float = math.inf,
) -> list[dict[str, Any]]:
    """The table: the chain, then networks by name, as far as the time goes.

    The chain goes first: its eager run finds the process as a plain program would, no memory kept from before.

    Args:
        runtime: of the main job.
        names: of the networks.
        repeats: calls of each, of which the best counts.
        peaks: FLOP a second by format, for the floor.
        deadline: reading of ``time.monotonic`` after which nothing begins, nor what took too long before.
    """
    engine = Engine.from_config(runtime)
    rows: list[dict[str, Any]] = []
    last = 0.0
    for name in (CHAIN, *names):
        begin = time.monotonic()
        if begin + last > deadline:
            rows.append({"name": name, "skipped": True})
            continue
        if name == CHAIN:
            rows.append(asdict(time_chain(engine, repeats, _CHAIN_BATCHES * engine.batch_size, peaks)))
        else:
            rows.append(asdict(time_network(name, engine, repeats, peaks)))
            last = time.monotonic() - begin
    return rows


def random_network(name: str, device: torch.device) -> nn.Module:
    """A network at its released size with random weights, ready for inference."""
    torch.manual_seed(0)
    network = build_network(name).requires_grad_(False)
    return fold_spectral_norm(network).to(device)


def frames(count: int, size: int, device: torch.device) -> torch.Tensor:
    """[count, 3, size, size] in [0, 1] of the bundled speaker: what int8 loses depends on the picture."""
    images = np.stack(list(islice(speaker(size, size), count)))
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255.0).contiguous().to(device)


def network_inputs(name: str, count: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """Inputs of one call of a network with a batch of ``count``."""
    torch.manual_seed(1)
    sizes = {"reconnet": RECON_SIZE, "landmarks": 128, "ganimation": 128}
    inputs: dict[str, Callable[[], tuple[torch.Tensor, ...]]] = {
        "dnet": lambda: (frames(count, DNET_SIZE, device), 0.3 * torch.randn(count, 73, _WINDOW)),
        "lnet": lambda: (torch.randn(count, 1, 80, 16), _two_faces(count, device)),
        "enet": lambda: (frames(count, LNET_SIZE, device), frames(count, ENET_SIZE, device)),
        "ganimation": lambda: (frames(count, 128, device), torch.rand(count, 17)),
        "lipsync_expert": lambda: (torch.randn(count, 1, 80, 16), torch.rand(count, 15, 48, 96)),
    }
    make = inputs.get(name, lambda: (frames(count, sizes.get(name, RESTORER_SIZE), device),))
    return tuple(tensor.to(device) for tensor in make())


def _two_faces(count: int, device: torch.device) -> torch.Tensor:
    """[count, 6, 96, 96] in [0, 1]: L-Net's masked faces, each with a later one as its reference."""
    faces = frames(2 * count, LNET_SIZE, device)
    return lnet_input(faces[:count], faces[count:])


NETWORKS = (
    "dnet", "lnet", "enet", "reconnet", "landmarks", "lipsync_expert", "gfpgan", "parsenet", "bisenet",
    "ganimation",
)  # fmt: skip
_PASS_1 = ("reconnet", "landmarks")


def seconds(function: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Least :func:`operators.busy_time` of a call after one to warm up."""
    function()
    best = math.inf
    for _ in range(repeats):
        start = busy_time(device)
        function()
        best = min(best, busy_time(device) - start)
    return best


def time_network(name: str, engine: Engine, repeats: int, peaks: Mapping[str, float]) -> Timing:
    """Eager float32 at batch 1 against how the main job runs the network.

    Args:
        name: of the network.
        engine: of the main job.
        repeats: calls, of which the best counts.
        peaks: FLOP a second by format.
    """
    device = engine.device
    network = random_network(name, device)
    parameters = sum(weight.numel() for weight in network.parameters()) / 1e6
    batch = network_inputs(name, engine.batch_size, device)
    parses = name in PARSERS
    plain: Callable[..., Any] = network
    if parses:
        plain = partial(class_shares, cast("BiSeNet | ParseNet", network))
    keep_freed_memory(False)  # the network before this one may have changed it
    with torch.inference_mode():
        singles = [tuple(tensor[k : k + 1] for tensor in batch) for k in range(engine.batch_size)]
        eager = seconds(lambda: plain(*singles[0]), repeats, device)
        expected = torch.cat([main_output(plain(*single)) for single in singles])
        if name in _PASS_1:
            work = work_of(lambda: plain(*singles[0]))
            return _timing(name, parameters, (eager, eager), MAX_PSNR, (work, 1, device), peaks)
        keep_freed_memory()
        runner = engine.prepare(network, exact=name in EXACT)
        if parses:
            runner = runner.using(plain)
        batch = tuple(_channels_last(tensor) for tensor in batch)
        shipped = seconds(lambda: runner(*batch), repeats, device) / engine.batch_size
        quality = _closeness(runner(*batch), expected)
        work = work_of(lambda: runner(*batch))
    return _timing(name, parameters, (eager, shipped), quality, (work, engine.batch_size, device), peaks)


def time_chain(engine: Engine, repeats: int, num_frames: int, peaks: Mapping[str, float]) -> Timing:
    """D-, L- and E-Net one after the other: network for network and frame for frame, or as the main job does.

    Args:
        engine: of the main job.
        repeats: calls, of which the best counts.
        num_frames: in the chain.
        peaks: FLOP a second by format.
    """
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
    keep_freed_memory(False)
    with torch.inference_mode():
        expected = plain()
        eager = seconds(lambda: plain(1), repeats, device)
        keep_freed_memory()
        neutralize, syncer = engine.prepare(dnet), LipSyncer(engine.prepare(lnet))
        painter = engine.prepare(enet)
        crops, sources = _channels_last(crops), _channels_last(sources)

        def shipped() -> torch.Tensor:
            enhancer = Enhancer(painter, RenderConfig().identity_every)
            images = []
            chunk = engine.batch_size * syncer.lnet.batches_at_once
            for start in range(0, num_frames, chunk):
                part = slice(start, start + chunk)
                edited = neutralize(sources[part], windows[part]).clamp(0.0, 1.0)
                reference = resize(edited, ENET_SIZE)
                low_res = syncer(audio[part], crops[part], reference).image
                jobs = [_job(index) for index in range(start, start + len(low_res))]
                images.append(enhancer(jobs, low_res, crops[part]))
            return torch.cat(images)

        quality = _closeness(shipped(), expected)
        fast = seconds(shipped, repeats, device) / num_frames
        work = work_of(shipped)
    return _timing(CHAIN, parameters, (eager, fast), quality, (work, num_frames, device), peaks)


def _timing(
    name: str,
    parameters: float,
    times: tuple[float, float],
    quality: float,
    work: tuple[Work, int, torch.device],
    peaks: Mapping[str, float],
) -> Timing:
    (eager, shipped), (done, count, device) = times, work
    floor = done.floor(peaks) / count * threads_of(device)
    gflop = done.total / count / 1e9
    facts = done.describe()
    return Timing(
        name, parameters, eager, shipped, eager / shipped, quality, gflop, floor, floor / shipped, facts
    )


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

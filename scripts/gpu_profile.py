"""Where the time of the main job goes on a GPU: kernels, copies and waits, from PyTorch's profiler.

Called by ``scripts.gpu_check``. The job has the networks at their released sizes with random weights, since speed
does not depend on what the weights are; the picture is the bundled speaker, enlarged.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from videoretalking.pipeline import InferenceConfig, Retalker
from videoretalking.pipeline.config import AnalysisConfig, RuntimeConfig, WeightsConfig
from videoretalking.scripts.benchmark.material import make_clip, released_size_weights

_ROWS = 15  # of a table
_NAME = 90  # letters of a kernel's name
_WAITS = ("Synchronize", "cudaMemcpy", "cudaStreamWaitEvent")


@dataclass(frozen=True)
class Size:
    """A job to profile.

    Attributes:
        width: of the picture.
        height: likewise.
        frames: of the clip.
        bundled: by the small bundled networks.
    """

    width: int
    height: int
    frames: int
    bundled: bool = False


FULL = Size(1920, 1080, 128)
QUICK = Size(320, 256, 6, bundled=True)


def profile_job(device: torch.device, quick: bool) -> dict[str, Any]:
    """Dub a clip once to warm up and once under the profiler.

    Args:
        device: where the networks run.
        quick: a small clip by the bundled weights.

    Returns:
        Figures for JSON: what the GPU does and how long it waits, tables of the largest parts.
    """
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder, size.width, size.height, size.frames)
        video, audio = clip.video, clip.audio
        weights = "demo" if size.bundled else str(released_size_weights())
        runtime = RuntimeConfig(device=str(device), cache_dir=str(folder / "cache"))
        # the other detector would ask a server for its weights, which may not be reached from here
        analysis_config = AnalysisConfig(backend="bundled")
        retalker = Retalker.from_pretrained(
            InferenceConfig(WeightsConfig(weights), analysis_config, runtime=runtime)
        )
        analysis = retalker.analyze(video)
        for _ in retalker.frames(analysis, audio):
            pass  # libraries load, formats and kernels are chosen, networks become graphs
        activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (device.type == "cuda")]
        started = time.perf_counter()
        with profile(activities=activities) as profiler:
            report = retalker.render(analysis, audio, folder / "out.mp4")
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            seconds = time.perf_counter() - started
        trace = folder / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    figures: dict[str, Any] = {
        "size": f"{size.width}x{size.height}, {len(report.frames)} frames",
        "networks": str(retalker.networks.engine),
        "seconds of pass 2": seconds,
        "frames a second": len(report.frames) / seconds,
    }
    stages = sorted(report.stages.items(), key=lambda stage: -stage[1])
    figures["stages"] = [{"stage": stage, "busy seconds": busy} for stage, busy in stages]
    return figures | summarize(events, seconds)


def summarize(events: Iterable[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """Figures of a trace.

    Args:
        events: of a Chrome trace; ``ts`` and ``dur`` in microseconds.
        seconds: that the traced part took.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for event in events:
        if event.get("ph") == "X":
            groups.setdefault(str(event.get("cat")), []).append(event)
    kernels, copies = groups.get("kernel", []), groups.get("gpu_memcpy", [])
    calls = groups.get("cuda_runtime", []) + groups.get("cuda_driver", [])
    waits = [event for event in calls if any(word in event["name"] for word in _WAITS)]
    busy, longest = covered(kernels)
    share = busy / 1e6 / seconds
    return {
        "share of time the GPU computes": share,
        "share of time the GPU computes or copies": covered(kernels + copies)[0] / 1e6 / seconds,
        "longest pause of the GPU in ms": longest / 1e3,
        "kernels started": len(kernels),
        "bytes to the GPU": sum(_bytes(event) for event in copies if "HtoD" in event["name"]),
        "bytes from the GPU": sum(_bytes(event) for event in copies if "DtoH" in event["name"]),
        "copies": _table(copies, with_bytes=True),
        "waits": _table(waits),
        "kernels": _table(kernels),
        "operators": [] if kernels else _table(groups.get("cpu_op", [])),
    }


def covered(events: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Microseconds in which at least one of the events goes on, and the longest pause between them."""
    total = longest = 0.0
    end: float | None = None
    for event in sorted(events, key=lambda event: float(event["ts"])):
        first, last = float(event["ts"]), float(event["ts"]) + float(event.get("dur", 0.0))
        if end is None or first > end:
            longest = max(longest, 0.0 if end is None else first - end)
            end = first
        total += max(0.0, last - end)
        end = max(end, last)
    return total, longest


def _table(events: Iterable[Mapping[str, Any]], with_bytes: bool = False) -> list[dict[str, Any]]:
    """The names that take most time, added up."""
    rows: dict[str, dict[str, Any]] = {}
    for event in events:
        name = str(event["name"])[:_NAME]
        row = rows.setdefault(
            name, {"name": name, "count": 0, "ms": 0.0} | ({"bytes": 0} if with_bytes else {})
        )
        row["count"] += 1
        row["ms"] += float(event.get("dur", 0.0)) / 1e3
        if with_bytes:
            row["bytes"] += _bytes(event)
    return sorted(rows.values(), key=lambda row: -row["ms"])[:_ROWS]


def _bytes(event: Mapping[str, Any]) -> int:
    return int(event.get("args", {}).get("bytes", 0))

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_weights import SIZES
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from videoretalking.core.devices import cpu_threads, has_bfloat16_products, has_fast_int8
from videoretalking.core.errors import UserError
from videoretalking.media.audio import audio_info
from videoretalking.media.video import VideoReader, VideoWriter
from videoretalking.models.catalog import build_network
from videoretalking.models.folding import fold_for_cpu
from videoretalking.models.int8 import heavy_convs
from videoretalking.pipeline import engine as engine_module
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.engine import FORMATS, Engine
from videoretalking.pipeline.weights import missing
from videoretalking.scripts.benchmark import __main__ as program
from videoretalking.scripts.benchmark import material, networks
from videoretalking.scripts.benchmark.accounting import REST, Account, Arrivals, usage_of_all
from videoretalking.scripts.benchmark.dub import Case, Job, measure
from videoretalking.scripts.benchmark.operators import Kind, Probe, Work, measure_peaks, work_of
from videoretalking.scripts.benchmark.processes import ProcessDied, in_own_process

CPU = torch.device("cpu")
PEAKS = {"float32": 1e11, "bfloat16": 2e11, "int8": 4e11}


def burn(seconds: float) -> None:
    """Use a thread's CPU for so long, however busy the machine is."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_one_stage_works_at_a_time_and_all_add_up() -> None:
    account = Account(CPU)

    def other() -> None:
        with account("composite"):
            burn(0.1)

    start = time.perf_counter()
    with account.running():
        thread = threading.Thread(target=other)
        with account("enhance"):
            thread.start()  # waits for its turn
            burn(0.1)
            with account("mask"):
                burn(0.05)
        thread.join()
        burn(0.05)
    passed = time.perf_counter() - start
    assert set(account.spent) == {"composite", "enhance", "mask", REST}
    assert account.total.wall == pytest.approx(passed, rel=0.02, abs=0.005)
    cpu = {stage: spent.cpu for stage, spent in account.spent.items()}
    assert cpu == pytest.approx({"composite": 0.1, "enhance": 0.1, "mask": 0.05, REST: 0.05}, abs=0.03)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not tell about threads")
def test_what_a_started_process_uses_counts_for_the_whole() -> None:
    before = usage_of_all()
    code = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    used = usage_of_all() - before
    process.communicate("done")
    assert 0.25 < used.cpu < 0.3 + used.wall


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the system does not tell about threads")
def test_an_encoder_that_works_on_behind_other_stages_is_booked_for_itself() -> None:
    account = Account(CPU)
    go, burnt, stop = threading.Event(), threading.Event(), threading.Event()

    def encoder() -> None:
        go.wait()
        burn(0.1)
        burnt.set()
        stop.wait()

    with account.running():
        with account("encode"):
            thread = threading.Thread(target=encoder)
            thread.start()
        with account("enhance"):
            go.set()
            burnt.wait()
        with account("encode"):
            stop.set()
            thread.join()
    assert account.spent["encode"].cpu > 0.08
    assert account.spent["enhance"].cpu < 0.06


def test_operators_tell_format_layout_batch_and_work() -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Flatten(), nn.Linear(64 * 36, 8)).eval()
    images = torch.rand(3, 64, 8, 8)
    with FlopCounterMode(display=False) as counter:
        network(images)
    with torch.inference_mode():
        first = work_of(lambda: network(images))
    conv, linear = 2 * 3 * 36 * 64 * 64 * 9, 2 * 3 * 64 * 36 * 8
    assert first.total == counter.get_total_flops() == conv + linear
    kind = Kind("float32", "float32", "channels first", 3)
    assert first.flops == {kind: conv, Kind("float32", "float32", "", 0): linear}
    last = images.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        reduced = work_of(lambda: network.to(memory_format=torch.channels_last)(last))
    assert reduced.flops[Kind("bfloat16", "bfloat16", "channels last", 3)] == conv
    assert reduced.shares(lambda kind: kind.dtype) == {"bfloat16": 1.0}
    assert reduced.floor(PEAKS) == pytest.approx((conv + linear) / 2e11)
    assert np.isnan(reduced.floor({"float32": 1e11}))


def test_operators_see_1x1_convolutions_wherever_they_run() -> None:
    network = nn.Sequential(nn.Conv2d(16, 8, 1)).eval().requires_grad_(False)
    image = torch.rand(2, 16, 6, 6)
    with torch.inference_mode():
        before = work_of(lambda: network(image))
        fold_for_cpu(network)
        after = work_of(lambda: network(image))
    assert before.total == after.total == 2 * 2 * 36 * 16 * 8


def test_operators_see_what_would_run_in_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_LARGE_MAPS", (nn.Conv2d,))
    monkeypatch.setattr(engine_module, "is_large", lambda network: True)
    runner = Engine.from_config(RuntimeConfig(device="cpu", dtype="float32")).prepare(nn.Conv2d(3, 4, 3))
    with cpu_threads(2):
        assert work_of(lambda: runner(torch.rand(4, 3, 8, 8))).total == 2 * 4 * 36 * 4 * 3 * 9


@pytest.mark.skipif(not has_fast_int8(CPU), reason="no int8 here")
def test_operators_see_which_convolutions_became_int8() -> None:
    network = nn.Sequential(nn.Conv2d(64, 64, 3), nn.Conv2d(64, 8, 3)).eval().requires_grad_(False)
    for conv in heavy_convs(network):
        conv.to_int8()
    probe = Probe()
    with torch.inference_mode(), probe("stage"):
        network(torch.rand(2, 64, 8, 8))
    flops = {kind.dtype: flops for kind, flops in probe.work["stage"].flops.items()}
    assert flops == {"int8": 2 * 2 * 36 * 64 * 64 * 9, "float32": 2 * 2 * 16 * 64 * 8 * 9}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_peaks_are_those_of_the_formats_that_run(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videoretalking.scripts.benchmark.operators._TRIAL_SECONDS", 0.0)
    if dtype == "int8" and not has_fast_int8(CPU):
        pytest.skip("no int8 here")
    peaks = measure_peaks(RuntimeConfig(device="cpu", dtype=dtype))
    others = {"bfloat16"} if dtype == "int8" and has_bfloat16_products(CPU) else set()
    assert set(peaks) == {"float32", dtype} | others
    assert all(1e8 < peak < 1e15 for peak in peaks.values())


def test_the_clip_is_the_speaker_at_any_size(tmp_path: Path) -> None:
    clip = material.make_clip(tmp_path, 320, 180, 9)
    with VideoReader(clip.video) as reader:
        images = [frame.image for frame in reader]
    assert len(images) == 9 and images[0].shape == (180, 320, 3)
    assert np.abs(images[0].astype(int) - images[4]).mean() > 0.1
    assert audio_info(clip.audio).sample_rate == 16_000


def test_a_long_clip_is_the_speaker_again_and_again(tmp_path: Path) -> None:
    clip = material.make_clip(tmp_path, 64, 48, 310)
    with VideoReader(clip.video) as reader:
        frames = list(reader)
    assert len(frames) == 310 and reader.skipped == 0
    np.testing.assert_allclose(np.diff([frame.time for frame in frames]), 1 / material.FPS)
    period = next(n for n in range(50, 310) if np.array_equal(frames[n].image, frames[0].image))
    assert all(np.array_equal(frames[n].image, frames[n % period].image) for n in range(310))
    assert clip.video.parent == tmp_path and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_stages_of_a_real_dub_add_up_to_the_whole(dtype: str) -> None:
    flags = ("--preset", "fast", "--device", "cpu", "--dtype", dtype, "--batch-size", "4")
    for _ in range(3):  # other work of the machine can only add to the rest
        outcome = measure(Job("bundled", "demo", [Case("bundled", (320, 180), 16)], flags), PEAKS)
        (run,) = outcome.runs
        rows = {row["stage"]: row for row in run["stages"]}
        if all(rows[REST][f"{quantity}_share"] < 0.1 for quantity in ("cpu", "wall")):
            break
    assert run["frames"] == 16 and run["frames_per_second"] > 0.0
    assert 0.0 < run["first_frame_seconds"] < 16 / run["frames_per_second"]
    stages = {"prepare", "analyze", "decode", "crop", "neutralize", "lipsync", "enhance", "mask", "composite"}
    assert stages | {"encode", REST} <= rows.keys()
    for quantity in ("cpu", "wall"):
        assert sum(row[quantity] for row in rows.values()) == pytest.approx(run["accounted"][quantity])
        assert rows[REST][f"{quantity}_share"] < 0.1
    for stage in ("neutralize", "lipsync", "enhance"):
        facts = rows[stage]
        assert facts["gflop"] > 0.5 and facts["floor_share"] > 0.0
        reduced = dtype == "auto" and has_fast_int8(CPU)
        formats = facts["runs_in"]["dtypes"]
        assert formats.get("int8", 0.0) + formats.get("bfloat16", 0.0) > 0.7 or not reduced
        assert facts["runs_in"]["dtypes"]["float32"] > 0.99 or dtype == "auto"
        assert facts["runs_in"]["layouts"]["channels last"] > 0.5
        # in fast D-Net sees every fourth frame, and one face says whether half of E-Net's size is enough
        assert facts["runs_in"]["batches"]["1" if stage == "neutralize" else "4"] > 0.3
    assert "gflop" not in rows["encode"]


def test_frames_are_noted_as_they_reach_the_encoder() -> None:
    arrivals = Arrivals()
    with arrivals("encode"), arrivals("mask"):
        pass
    assert len(arrivals.times) == 1 and set(arrivals.seconds) == {"encode", "mask"}


def test_random_weights_are_a_complete_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIDEORETALKING_HOME", str(tmp_path))
    monkeypatch.setattr(
        material, "build_network", lambda name: build_network(name, SIZES.get(name, SMALL[name]))
    )
    monkeypatch.setattr(material, "RELEASED", ("dnet", "lnet", "enet", "bisenet"))
    folder = material.released_size_weights()
    assert missing(folder) == ["reconnet.safetensors or face_model.safetensors"]
    written = (folder / "dnet.safetensors").stat().st_mtime_ns
    assert material.released_size_weights() == folder
    assert (folder / "dnet.safetensors").stat().st_mtime_ns == written


SMALL: dict[str, Any] = {name: None for name in (*SIZES, "bisenet")}


def test_networks_beside_a_plain_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(name: str, device: torch.device) -> nn.Module:
        return build_network(name, SIZES[name]).eval().requires_grad_(False).to(device)

    monkeypatch.setattr(networks, "random_network", tiny)
    runtime = RuntimeConfig(device="cpu", dtype="float32", batch_size=2)
    rows = networks.measure_networks(runtime, ("dnet", "lnet", "enet", "lipsync_expert"), 1, PEAKS)
    assert [row["name"] for row in rows] == [networks.CHAIN, "dnet", "lnet", "enet", "lipsync_expert"]
    for row in rows:
        assert row["eager"] > 0.0 and row["shipped"] > 0.0
        assert row["speedup"] == pytest.approx(row["eager"] / row["shipped"])
        assert row["psnr"] > 80.0 or row["name"] == networks.CHAIN  # which shares the identity's code
        assert set(row["runs_in"]["dtypes"]) == {"float32"}
    late = networks.measure_networks(runtime, ("dnet",), 1, PEAKS, deadline=time.monotonic() - 1.0)
    assert late == [{"name": networks.CHAIN, "skipped": True}, {"name": "dnet", "skipped": True}]


def test_lnet_is_timed_on_faces() -> None:
    """What int8 loses depends on the picture: white noise would say something else."""
    _, faces = networks.network_inputs("lnet", 2, torch.device("cpu"))
    assert faces.shape == (2, 6, 96, 96)
    assert (faces[:, :3, 48:] == 0.0).all()  # the half that is to be painted
    rough = (faces[:, 3:, 1:] - faces[:, 3:, :-1]).abs().mean()
    assert 0.0 < rough < 0.3 * faces[:, 3:].std()  # of noise it is 1.15


def test_program_writes_figures_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "in_own_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr(program, "BUNDLED_SIZE", (192, 192))
    monkeypatch.setattr("videoretalking.scripts.benchmark.operators._TRIAL_SECONDS", 0.0)
    figures, picture = tmp_path / "speed.json", tmp_path / "speed.png"
    arguments = [
        "--device",
        "cpu",
        "--dtype",
        "float32",
        "--parts",
        "bundled",
        "--frames",
        "4",
        "--growth",
        "1",
        "--sizes",
        "192x160",
    ]
    assert program.main([*arguments, "--json", str(figures), "--plot", str(picture)]) == 0
    results = json.loads(figures.read_text(encoding="utf-8"))
    assert [run["name"] for run in results["runs"]] == ["bundled, fast", "bundled, fast, float32"]
    assert results["growth"][0]["frames"] == 25 and results["growth"][0]["size"] == [192, 160]
    assert results["failed"] == results["skipped"] == []
    with Image.open(picture) as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 5
    text = capsys.readouterr().out
    assert "frames/s" in text and "composite" in text and "of video" in text


def test_program_says_how_near_the_fast_formats_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(program, "in_own_process", lambda function, *arguments: function(*arguments))
    monkeypatch.setattr("videoretalking.scripts.benchmark.operators._TRIAL_SECONDS", 0.0)
    clip = material.make_clip(tmp_path, 192, 192, 4)
    both, silent = tmp_path / "both.mp4", clip.video
    with VideoReader(clip.video) as reader, VideoWriter(both, reader.info, audio=clip.audio) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time, 1 / 25)
    figures = tmp_path / "exact.json"
    arguments = ["--device", "cpu", "--parts", "--weights", "demo", "--frames", "3", "--json", str(figures)]
    assert program.main([*arguments, "--exact", str(both), str(silent)]) == 0  # the silent one is left out
    (row,) = json.loads(figures.read_text(encoding="utf-8"))["exactness"]
    assert row["clip"] == "both.mp4" and row["frames"] == 3
    assert 35.0 < row["face"] <= row["whole"] and row["worst_frame"] <= row["whole"]
    assert program.main([*arguments, "--dtype", "float32", "--exact", str(both)]) == 0
    (same,) = json.loads(figures.read_text(encoding="utf-8"))["exactness"]
    assert same["face"] > 55.0 and same["largest"] <= 1  # batches alone change what rounding does
    assert "least: " in capsys.readouterr().out


@pytest.mark.skipif(
    not (has_fast_int8(CPU) and has_bfloat16_products(CPU)), reason="no other formats than float32 here"
)
def test_program_calibrates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = tmp_path / "videoretalking" / FORMATS
    folder.mkdir(parents=True)
    (folder / "old.npz").write_bytes(b"")
    monkeypatch.setattr(program, "in_own_process", lambda function, *arguments: function(*arguments))
    assert program.main(["--device", "cpu", "--calibrate", "--weights", "demo"]) == 0
    names = {path.name.partition("_")[0] for path in folder.iterdir()}
    assert {"dnet", "lnet", "enet"} <= names and not (folder / "old.npz").exists()


def test_program_begins_nothing_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "in_own_process", lambda function, *arguments: PEAKS)
    monkeypatch.setattr(program, "released_size_weights", lambda: tmp_path)
    figures = tmp_path / "speed.json"
    assert program.main(["--device", "cpu", "--minutes", "0.000001", "--json", str(figures)]) == 0
    skipped = json.loads(figures.read_text(encoding="utf-8"))["skipped"]
    assert skipped == ["released", "bundled, fast", "bundled, fast, float32", "networks"]


def test_program_runs_as_a_command(tmp_path: Path) -> None:
    figures = tmp_path / "speed.json"
    command = [
        sys.executable,
        "-m",
        "videoretalking.scripts.benchmark",
        "--device",
        "cpu",
        "--json",
        str(figures),
    ]
    done = subprocess.run(
        [*command, "--parts", "bundled", "--minutes", "0.000001"],
        cwd=Path(program.__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(figures.read_text(encoding="utf-8"))["peaks"]["float32"] > 1e8
    assert "no time left for: bundled, fast; bundled, fast, float32" in done.stdout


def test_a_part_that_fails_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(function: Any, *arguments: Any) -> Any:
        if function is measure_peaks:
            return PEAKS
        raise ProcessDied("no memory")

    monkeypatch.setattr(program, "in_own_process", fail)
    figures = tmp_path / "speed.json"
    assert program.main(["--device", "cpu", "--parts", "bundled", "--json", str(figures)]) == 1
    assert len(json.loads(figures.read_text(encoding="utf-8"))["failed"]) == 2


@pytest.mark.parametrize("size", ["1280", "0x10", "1280x", "axb"])
def test_a_size_that_is_none(size: str) -> None:
    with pytest.raises(UserError, match="is no size such as 1280x720"):
        program.main(["--sizes", size])


def test_a_process_of_its_own_gives_its_result_or_dies() -> None:
    assert in_own_process(Counter, "aab") == {"a": 2, "b": 1}
    with pytest.raises(ProcessDied, match="process of int died"):
        in_own_process(int, "no number")


def test_the_floor_of_nothing_is_nothing() -> None:
    assert Work(Counter()).floor(PEAKS) == 0.0

"""The loop: end to end, resumed, killed, over several processes, and stopped by NaN."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.errors import UserError
from videoretalking.models.catalog import load_network
from videoretalking.train.catalog import step_class
from videoretalking.train.config import TrainingConfig
from videoretalking.train.keep import KEPT
from videoretalking.train.loop import train
from videoretalking.train.state import STATE
from videoretalking.train.steps.base import Step, StepOutput

DebugConfig = Callable[..., TrainingConfig]
ROOT = Path(__file__).resolve().parents[2]
QUIET = ["loop.image_every=0", "loop.validate_every=0"]


def parts(config: TrainingConfig) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(Path(config.loop.folder) / STATE, weights_only=True)
    return state["parts"] | {"step": state["step"]}


def assert_identical(first: Any, second: Any, where: str = "") -> None:
    assert type(first) is type(second), where
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_identical(first[key], second[key], f"{where}/{key}")
    elif isinstance(first, list):
        for index, (a, b) in enumerate(zip(first, second, strict=True)):
            assert_identical(a, b, f"{where}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    else:
        assert first == second, where


class Killed(BaseException):
    """Stands for the end of the process."""


def die_in_step(monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, fatal_step: int) -> None:
    """Let the forward pass of one training step end the run."""
    chosen = step_class(config)
    generate = chosen.generate

    def dying(self: Step, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        if module.training and step == fatal_step:
            raise Killed
        return generate(self, module, batch, step)

    monkeypatch.setattr(chosen, "generate", dying)


@pytest.mark.parametrize(
    "network", ["dnet", "wav2lip"]
)  # a moving average; an adversary and a step with a state
def test_a_killed_run_continues_bit_exactly(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    # state is saved every two steps; both runs validate and draw once, in between and at the end
    whole, killed = (
        debug_config(network, "loop.validate_every=2", folder=name) for name in ("whole", "killed")
    )
    train(whole)
    with monkeypatch.context() as patch:
        die_in_step(patch, killed, fatal_step=3)
        with pytest.raises(Killed):
            train(killed)
    assert parts(killed)["step"] == 2
    train(killed)
    assert parts(killed)["step"] == 4
    assert_identical(parts(whole), parts(killed))


@pytest.mark.parametrize("network", ["dnet", "lnet", "enet", "lipsync_expert", "wav2lip"])
def test_a_run_leaves_weights_and_pictures(debug_config: DebugConfig, network: str) -> None:
    config = debug_config(network, "loop.steps=1")
    train(config)
    folder = Path(config.loop.folder)
    assert read_metadata(folder / f"{network}.safetensors")["extra"]["step"] == 1
    assert load_network(folder / f"{network}.safetensors", expected=network)
    assert not list(folder.glob(".*partial*"))
    events = EventAccumulator(str(folder / "events"), size_guidance={"images": 0}).Reload().Tags()
    assert {"train/total", "train/lr", "train/gradient_norm"} <= set(events["scalars"])
    assert any(tag.startswith("val/") for tag in events["scalars"])
    assert any(tag.startswith("train/") for tag in events["images"])
    if network != "lipsync_expert":
        assert "val/video" in events["images"]


def test_the_moving_average_is_what_a_run_leaves(debug_config: DebugConfig) -> None:
    config = debug_config("landmarks", *QUIET, "loop.ema_decay=0.9", "loop.steps=2")
    train(config)
    raw, average = parts(config)["generator"], parts(config)["average"]
    left = load_network(Path(config.loop.folder) / "landmarks.safetensors")
    names = [name for name, _ in left.named_parameters()]
    assert all(torch.equal(left.get_parameter(name), average[f"module.{name}"]) for name in names)
    assert not any(torch.equal(left.get_parameter(name), raw[name]) for name in names)


def test_the_adversary_waits_for_its_step(debug_config: DebugConfig) -> None:
    config = debug_config("lnet", *QUIET, "loop.steps=3", "loop.log_every=1", "adversarial_from=2")
    train(config)
    events = EventAccumulator(str(Path(config.loop.folder) / "events")).Reload()
    for name, steps in (("total", [1, 2, 3]), ("adversarial", [3]), ("discriminator", [3])):
        assert [event.step for event in events.Scalars(f"train/{name}")] == steps


def test_the_adversary_learns_before_it_judges(debug_config: DebugConfig) -> None:
    options = ("loop.steps=3", "loop.log_every=1", "adversarial_from=2", "discriminator_steps=1")
    config = debug_config("lnet", *QUIET, *options)
    train(config)
    events = EventAccumulator(str(Path(config.loop.folder) / "events")).Reload()
    for name, steps in (("adversarial", [3]), ("discriminator", [2, 3])):
        assert [event.step for event in events.Scalars(f"train/{name}")] == steps


def test_landmarks_run_end_to_end(debug_config: DebugConfig) -> None:
    config = debug_config("landmarks", "loop.precision=bfloat16", "loop.ema_decay=0.5")
    train(config)
    figures = read_metadata(Path(config.loop.folder) / "landmarks.safetensors")["extra"]["figures"]
    assert set(figures) == {"points", "lips", "confidence", "nme", "accuracy"} and figures["nme"] > 0


def test_float16_survives_overflowing_gradients(debug_config: DebugConfig) -> None:
    # the weight of 100 overflows at the scaler's first scale; the step is skipped, the run goes on
    config = debug_config(
        "enet", "loop.precision=float16", "loop.steps=2", "num_frames=1", "loss_weights.sync=0", *QUIET
    )
    train(config)
    assert parts(config)["scaler"]["scale"] < 65536.0


def command(network: str, root: Path, folder: Path, *overrides: str) -> list[str]:
    config = f"configs/debug/{network}.yaml"
    return [sys.executable, "-m", "train", config, f"data.root={root}", f"loop.folder={folder}", *overrides]


def test_kill_minus_nine(debug_config: DebugConfig, prepared_root: Path, tmp_path: Path) -> None:
    options = ["loop.steps=16", "loop.save_every=2", "loop.workers=1", *QUIET]
    whole = debug_config("lipsync_expert", *options, "loop.workers=0", folder="whole")
    killed = debug_config("lipsync_expert", *options, "loop.workers=0", folder="killed")
    process = subprocess.Popen(
        command("lipsync_expert", prepared_root, tmp_path / "killed", *options),
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while not (tmp_path / "killed" / STATE).exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert 2 <= parts(killed)["step"] < 16
    train(killed)
    train(whole)
    assert_identical(parts(whole), parts(killed))


def test_accumulated_micro_batches_equal_the_whole_batch(debug_config: DebugConfig) -> None:
    # E-Net has no batch norm; the power iterations of a discriminator advance with every micro-batch
    options = ["loop.steps=1", "loop.batch_size=2", "loss_weights.adversarial=0", *QUIET]
    whole = debug_config("enet", *options, folder="whole")
    halves = debug_config("enet", *options, "loop.accumulation=2", folder="halves")
    train(whole)
    train(halves)
    first, second = (parts(config)["generator_optimizer"]["state"] for config in (whole, halves))
    for index in first:  # after one step Adam's first moment is a tenth of the gradient
        gradient, other = first[index]["exp_avg"], second[index]["exp_avg"]
        assert (gradient - other).norm() <= 1e-3 * gradient.norm() + 1e-9


PARALLEL = """
import os
import sys
from pathlib import Path
from videoretalking.train.catalog import read_training_config
from videoretalking.train.keep import KEPT
from videoretalking.train.loop import train
import torch
torch.set_num_threads(1)
for index, (path, overrides) in enumerate(eval(sys.argv[1])):
    os.environ["MASTER_PORT"] = str(int(os.environ["FIRST_PORT"]) + index)
    train(read_training_config(Path(path), overrides))
"""


def gradient(state: dict[str, Any]) -> torch.Tensor:
    """What one step of Adam leaves in its first moment: a tenth of the gradient."""
    moments = state["generator_optimizer"]["state"]
    return torch.cat([moments[index]["exp_avg"].flatten() for index in sorted(moments)])


def test_two_processes_equal_one(debug_config: DebugConfig, prepared_root: Path, tmp_path: Path) -> None:
    """D-Net over both stages, L-Net with batch norm, E-Net with its adversary, and the expert.

    The gradients of the first step agree to rounding, so batch norms do span both processes. After that Adam turns
    rounding noise into steps of the size of the rate wherever a gradient is nearly zero (as that of biases before a
    batch norm), so rates are small here and ``eps`` is not.
    """
    quiet = ["loop.log_every=20", "loop.save_every=20", "optimizer.lr=1e-5", "optimizer.eps=1e-4", *QUIET]
    jobs = {
        "dnet": [*quiet, "warp_steps=10"],
        # the limit is taken in each process
        "lnet": [*quiet, "loop.accumulation=1", "judge_limit=0", "model.norm=batch", "model.spectral=false"],
        "enet": [*quiet, "loop.batch_size=2", "num_frames=1", "loss_weights.sync=0", "optimizer.eps=1e-8"],
        "lipsync_expert": [
            *(*quiet, "loop.batch_size=8", "optimizer.warmup_steps=0"),
            # no teacher: its dropout draws anew in each process
            *("mouth_steps=0", "loss_weights.mouth=0", "loss_weights.imitation=0", "loss_weights.gestures=0"),
        ],
    }
    stages = [["loop.steps=1", "loop.keep_every=1"], ["loop.steps=20"]]
    arguments = [
        (
            f"configs/debug/{name}.yaml",
            [*options, *stage, f"data.root={prepared_root}", f"loop.folder={tmp_path / 'two' / name}"],
        )
        for name, options in jobs.items()
        for stage in stages
    ]
    port = str(20_000 + os.getpid() % 20_000)
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "FIRST_PORT": port, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PARALLEL, repr(arguments)],
            cwd=ROOT,
            env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in ("0", "1")
    ]
    for name, options in jobs.items():
        for stage in stages:
            train(debug_config(name, *options, *stage, folder=f"one/{name}"))
    assert [process.wait(timeout=600) for process in processes] == [0, 0]
    for name in jobs:
        one, two = (tmp_path / number / name for number in ("one", "two"))
        after_one = [
            torch.load(path / KEPT / "00000001.pt", weights_only=True)["parts"] for path in (one, two)
        ]
        wanted, found = map(gradient, after_one)
        assert (found - wanted).norm() < 2e-4 * wanted.norm(), name
        first, second = (torch.load(path / STATE, weights_only=True)["parts"] for path in (one, two))
        for part in ("generator", "discriminator"):
            for key, value in first.get(part, {}).items():
                if "running" not in key:
                    torch.testing.assert_close(
                        second[part][key], value, rtol=0.0, atol=1e-4, msg=f"{name} {part} {key}"
                    )


@pytest.mark.parametrize(("fatal", "saved"), [(1, 0), (2, 2)])
def test_nan_stops_before_it_is_saved_and_names_the_clips(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch, fatal: int, saved: int
) -> None:
    config = debug_config("lipsync_expert", *QUIET)  # reports and saves every two steps
    chosen = step_class(config)
    generate = chosen.generate

    def poisoned(self: Step, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        if step == fatal:
            batch["audio"][2, 0, 0, 0, 0] = np.nan
        return generate(self, module, batch, step)

    monkeypatch.setattr(chosen, "generate", poisoned)
    with pytest.raises(UserError, match=rf"bce.* not finite at step {fatal}, .*train/face\d, train/face\d"):
        train(config)
    state = Path(config.loop.folder) / STATE
    assert (parts(config)["step"] if state.exists() else 0) == saved
    for path in Path(config.loop.folder).glob("*.safetensors"):
        assert all(value.isfinite().all() for value in load_network(path).state_dict().values())


def test_a_run_starts_from_given_weights(debug_config: DebugConfig, tmp_path: Path) -> None:
    first = debug_config("landmarks", *QUIET, "loop.steps=1", folder="first")
    train(first)
    weights = tmp_path / "first" / "landmarks.safetensors"
    second = debug_config(
        "landmarks",
        *QUIET,
        "loop.steps=1",
        "loop.seed=5",
        f"loop.init={weights}",
        "optimizer.lr=0",
        folder="second",
    )
    train(second)
    left = load_network(tmp_path / "second" / "landmarks.safetensors")
    for key, value in load_network(weights).named_parameters():
        torch.testing.assert_close(left.get_parameter(key), value)


def test_an_ablation_starts_from_the_whole_network(debug_config: DebugConfig, tmp_path: Path) -> None:
    still = [*QUIET, "loop.steps=1", "optimizer.lr=0", "model.spectral=false"]
    train(debug_config("lnet", *still, "model.attention_layers=1", folder="whole"))
    weights = tmp_path / "whole" / "lnet.safetensors"
    without = [*still, "loop.seed=5", f"loop.init={weights}", "model.attention_layers=0"]
    train(debug_config("lnet", *without, folder="without"))
    whole, ablated = load_network(weights), load_network(tmp_path / "without" / "lnet.safetensors")
    for key, value in ablated.named_parameters():
        torch.testing.assert_close(whole.get_parameter(key), value)
    with pytest.raises(UserError, match=r"loop.init: .*lnet.safetensors does not fit .*attention"):
        smaller = [
            *still,
            f"loop.init={tmp_path / 'without' / 'lnet.safetensors'}",
            "model.attention_layers=1",
        ]
        train(debug_config("lnet", *smaller, folder="third"))


def test_what_does_not_fit_is_refused(debug_config: DebugConfig, caplog: pytest.LogCaptureFixture) -> None:
    train(debug_config("landmarks", *QUIET, "loop.steps=1"))
    train(debug_config("landmarks", *QUIET, "loop.steps=2"))  # a longer run continues, and says what changed
    assert "loop.steps 1 -> 2" in caplog.text
    with pytest.raises(UserError, match=r"does not fit this config .*give loop.folder a new name"):
        train(debug_config("landmarks", *QUIET, "model.width_multiplier=0.5"))
    with pytest.raises(UserError, match=r"holds generator.*this run needs average"):
        train(debug_config("landmarks", *QUIET, "loop.ema_decay=0.9"))
    with pytest.raises(UserError, match=r"loop.batch_size 4 cannot be split .* multiple of 3"):
        train(debug_config("landmarks", *QUIET, "loop.accumulation=3", folder="other"))


HOLD = """
import sys, time
from pathlib import Path
from videoretalking.train.state import hold_folder
with hold_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


def test_two_runs_in_one_folder_are_refused(debug_config: DebugConfig) -> None:
    config = debug_config("landmarks", *QUIET, "loop.steps=1")
    folder = config.loop.folder
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], cwd=ROOT, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(UserError, match=r"another process is training here.*loop.folder"):
            train(config)
        assert not (Path(folder) / STATE).exists()
        other.kill()
    train(config)  # a killed process leaves nothing behind
    assert parts(config)["step"] == 1


def test_a_refused_run_leaves_no_folder(debug_config: DebugConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="prepare the data first"):
        train(debug_config("landmarks", "data.root=nowhere", folder="refused"))
    assert not (tmp_path / "refused").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write into .*file .*change loop\.folder"):
        train(debug_config("landmarks", folder="file"))


FORBIDDEN = [
    "av", "librosa", "scipy", "kornia", "lpips", "face_alignment", "pooch", "tqdm", "skimage", "sklearn",
    "numba", "soundfile", "mediapipe", "torchmetrics", "torch_fidelity", "spandrel", "facexlib", "ray",
    "pandas", "matplotlib",
]  # fmt: skip

# a loader that refuses, because PyTorch asks for the specs of packages that it does not import
BLOCKED = f"""
import sys
from importlib.machinery import ModuleSpec
class Block:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self) if name.split(".")[0] in {FORBIDDEN!r} else None
    def create_module(self, spec):
        raise ImportError(f"training must not need {{spec.name}}")
    def exec_module(self, module):
        pass
sys.meta_path.insert(0, Block())
sys.argv[0] = "train"
import torch
torch.set_num_threads(1)
from videoretalking.train.__main__ import main
main()
"""


def test_training_needs_nothing_beyond_the_allowed_packages(prepared_root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, *command("lnet", prepared_root, tmp_path, "loop.steps=1")[3:]],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "lnet.safetensors").is_file()

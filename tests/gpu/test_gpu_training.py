"""Every registered training on the GPU: forward, backward and optimizer steps, and the losses of the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_compare import CPU
from tiny_configs import tiny_config

from videoretalking.models.enet import ENet
from videoretalking.train import loop
from videoretalking.train.catalog import STEPS, read_training_config
from videoretalking.train.config import TrainingConfig
from videoretalking.train.small_data import expert

ROOT = Path(__file__).resolve().parents[2]
FIRST = 2e-3  # relative, of losses before the first step of the optimizer
LATER = 0.1  # Adam's first step has the sign of each gradient, also where that is rounding
COMMON = (
    "loop.steps=2",
    "loop.log_every=1",
    "loop.image_every=2",
    "loop.validate_every=2",
    "loop.score_clips=1",
    "data.resident=off",  # the samples of both are those of files
)
# The aids of a step that its debug config lacks, or switches on later than in the first of two steps.
EARLY = {
    "dnet_small_data": ("warp_steps=1",),
    "lnet_small_data": ("adversarial_from=0",),
    "enet_small_data": ("loss_weights.sync=0", "blur=1.0", "cast=0.5", "part_size=12", "whole_every=2"),
    "lipsync_expert_small_data": ("mouth_steps=1",),
}


class Recorder:
    """Takes the place of the board and keeps what it is told."""

    def __init__(self, folder: Path, first_step: int) -> None:
        self.values: dict[str, float] = {}
        RECORDS.append(self.values)

    def settings(self, config: Mapping[str, Any], losses: object, adversarial: object, step: int) -> None: ...

    def scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        self.values |= {f"{step} {group} {name}": value for name, value in values.items()}

    def grid(self, group: str, images: Mapping[str, torch.Tensor], step: int) -> None:
        assert all(torch.isfinite(row).all() for row in images.values())

    def video(self, group: str, frames: torch.Tensor, step: int) -> None:
        assert torch.isfinite(frames).all()

    def close(self) -> None: ...


RECORDS: list[dict[str, float]] = []


@pytest.fixture
def train(
    prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, float]]:
    """``train("lnet", device, "loop.steps=3")``: the curves of a tiny run, by step, group and name."""
    monkeypatch.setattr(loop, "Board", Recorder)
    # what is drawn on a device is another sequence than on the CPU
    monkeypatch.setattr(ENet, "draw_noise", _draw_on_cpu)
    monkeypatch.setattr(expert, "_TEACHER_DROPOUT", 0.0)

    RECORDS.clear()

    def run(name: str, device: torch.device, *overrides: str) -> dict[str, float]:
        folder = tmp_path / f"run{len(RECORDS)}"
        loop.train(_config(name, prepared_root, folder, device, overrides))
        return RECORDS[-1]

    return run


_draw_noise = ENet.draw_noise


def _draw_on_cpu(network: ENet, seeds: torch.Tensor, low_size: int) -> list[torch.Tensor]:
    here = network.get_buffer("noise0").device
    network.noise0 = network.noise0.cpu()
    try:
        return [noise.to(here) for noise in _draw_noise(network, seeds, low_size)]
    finally:
        network.noise0 = network.noise0.to(here)


def _config(
    name: str, data: Path, folder: Path, device: torch.device, overrides: tuple[str, ...]
) -> TrainingConfig:
    network = name.removesuffix("_small_data")
    fixed = [*COMMON, f"data.root={data}", f"loop.folder={folder}", f"loop.device={device}", *overrides]
    if name == network:
        folder.mkdir()
        path = tiny_config(name, folder, data, steps=2)
        return read_training_config(path, fixed)
    path = ROOT / "configs" / "debug" / f"{network}.yaml"
    return read_training_config(path, [f"step={name}", *EARLY.get(name, ()), *fixed])


@pytest.mark.gpu
@pytest.mark.parametrize("name", STEPS)
def test_losses_are_those_of_the_cpu(
    name: str,
    device: torch.device,
    train: Callable[..., dict[str, float]],
    record_property: Callable[[str, object], None],
) -> None:
    found, wanted = train(name, device), train(name, CPU)
    assert found.keys() == wanted.keys() and any(key.startswith("2 val") for key in found)
    limits = {key: FIRST for key in wanted if key.startswith("1 train ")}
    limits |= {"1 train gradient_norm": LATER, "2 train total": LATER}
    for key, value in found.items():
        assert math.isfinite(value), key
        if key.endswith(("steps_per_second", "accuracy", "discriminator_gradient_norm")):
            continue
        error = abs(value - wanted[key]) / max(abs(wanted[key]), 1e-2)
        record_property(f"error {key}", f"{error:.3g}")
        assert error <= limits.get(key, math.inf), f"{key}: {value} instead of {wanted[key]}"


@pytest.mark.gpu
@pytest.mark.parametrize(
    ("name", "precision"),
    [("dnet", "bfloat16"), ("lnet_small_data", "bfloat16"), ("enet", "bfloat16"), ("wav2lip", "float16")],
)
def test_reduced_precision_trains(
    name: str, precision: str, device: torch.device, train: Callable[..., dict[str, float]]
) -> None:
    found = train(name, device, f"loop.precision={precision}", "loop.channels_last=true")
    exact = train(name, device)
    for key, value in found.items():
        # float16 skips the step where a gradient overflows
        assert math.isfinite(value) or (precision == "float16" and key.endswith("norm")), key
    total = "1 train total"
    assert found[total] == pytest.approx(exact[total], rel=0.1)


@pytest.mark.gpu
def test_frames_in_memory_train_alike(device: torch.device, train: Callable[..., dict[str, float]]) -> None:
    files, memory = (train("lnet", device, f"data.resident={way}") for way in ("off", "on"))
    for key in (key for key in files if key.startswith("1 train") and not key.endswith(("second", "norm"))):
        assert memory[key] == pytest.approx(files[key], rel=0.05), key

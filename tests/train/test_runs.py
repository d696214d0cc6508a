"""What a run leaves and how it computes: kept and best weights, no waiting, compiled, from memory."""

from __future__ import annotations

import re
import shutil
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from videoretalking.core.checkpoint import read_metadata
from videoretalking.core.constants import SYNC_FRAMES
from videoretalking.core.distributed import World
from videoretalking.core.errors import UserError
from videoretalking.core.quality import detail
from videoretalking.datasets.base import SampleSource
from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.lnet import LNetClips
from videoretalking.models.catalog import load_network, save_network
from videoretalking.models.syncnet import SyncNet, SyncNetConfig
from videoretalking.train import compile as compiling
from videoretalking.train import keep, loop
from videoretalking.train.board import make_grid
from videoretalking.train.catalog import step_class
from videoretalking.train.config import LoopConfig, TrainingConfig
from videoretalking.train.keep import BEST, KEPT, Keeper
from videoretalking.train.samples import ValidationKeys, score_clips
from videoretalking.train.score import choose_judge, score_speech
from videoretalking.train.state import STATE
from videoretalking.train.steps.base import Step, StepOutput
from videoretalking.train.steps.talking import face_metrics
from videoretalking.train.tally import Tally

DebugConfig = Callable[..., TrainingConfig]
QUIET = ["loop.image_every=0", "loop.validate_every=0"]
CPU = torch.device("cpu")


class Killed(BaseException):
    """Stands for the end of the process."""


def kill(*args: Any) -> None:
    raise Killed


def kept(config: TrainingConfig) -> list[str]:
    return sorted(path.name for path in (Path(config.loop.folder) / KEPT).iterdir())


def step_of(path: Path) -> int:
    step: int = read_metadata(path)["extra"]["step"]
    return step


def state_of(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def test_numbered_states_and_weights_stay(debug_config: DebugConfig) -> None:
    saves = ["loop.steps=8", "loop.save_every=2", "loop.keep_every=3", "loop.keep_last=2", *QUIET]
    config = debug_config("landmarks", *saves)
    loop.train(config)
    names = [f"{step:08d}" for step in (3, 6, 8)]  # saved were 2, 3, 4, 6, 8; the latest two are 6 and 8
    assert kept(config) == [f"{name}{suffix}" for name in names for suffix in (".pt", ".safetensors")]
    folder = Path(config.loop.folder)
    for name in names:
        step = int(name)
        assert state_of(folder / KEPT / f"{name}.pt")["step"] == step
        assert step_of(folder / KEPT / f"{name}.safetensors") == step
    # a way back: a numbered state takes the place of the latest one
    (folder / KEPT / f"{names[0]}.pt").replace(folder / STATE)
    loop.train(config)
    assert state_of(folder / STATE)["step"] == 8 and step_of(folder / "landmarks.safetensors") == 8


def test_a_run_that_went_back_keeps_what_it_saves_now(debug_config: DebugConfig) -> None:
    saves = ["loop.save_every=1", "loop.keep_last=2", *QUIET]
    loop.train(config := debug_config("landmarks", *saves, "loop.steps=6"))
    folder = Path(config.loop.folder)
    loop.train(debug_config("landmarks", *saves, "loop.steps=2", folder="short"))
    shutil.copy(folder.parent / "short" / STATE, folder / STATE)  # from before all that is kept
    loop.train(debug_config("landmarks", *saves, "loop.steps=4"))
    assert [int(name[:8]) for name in kept(config)[::2]] == [3, 4, 5, 6]


def test_links_are_not_needed(debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(keep.os, "link", refuse)
    config = debug_config("landmarks", *QUIET, "loop.steps=2", "loop.keep_last=1", "loop.save_every=1")
    loop.train(config)
    assert kept(config) == ["00000002.pt", "00000002.safetensors"]


@pytest.mark.parametrize(("where", "missing"), [("save_network", True), ("_link", False)])
def test_a_run_killed_between_two_files_makes_up_for_the_second(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch, where: str, missing: bool
) -> None:
    options = ["loop.steps=2", "loop.keep_last=1", "loop.image_every=0", "loop.validate_every=1"]
    whole, killed = (debug_config("landmarks", *options, folder=name) for name in ("whole", "killed"))
    loop.train(whole)
    with monkeypatch.context() as patch:
        patch.setattr(keep, where, kill)
        with pytest.raises(Killed):
            loop.train(killed)
    folder = Path(killed.loop.folder)
    assert state_of(folder / STATE)["step"] == 2
    assert (folder / "landmarks.safetensors").exists() != missing
    loop.train(killed)  # no step is left to do
    assert kept(killed) == kept(whole) == ["00000002.pt", "00000002.safetensors"]
    first, second = (Path(config.loop.folder) / "landmarks.safetensors" for config in (whole, killed))
    assert read_metadata(first)["extra"]["figures"] == read_metadata(second)["extra"]["figures"] != {}
    for name, value in load_network(first).state_dict().items():
        assert torch.equal(load_network(second).state_dict()[name], value)


def scripted(monkeypatch: pytest.MonkeyPatch, values: dict[int, float]) -> None:
    """Let validation after step ``n`` (from 0) find the figure ``nme`` to be ``values[n]``."""
    monkeypatch.setattr(loop, "_validate", lambda *args: {"nme": values[args[5]], "accuracy": 0.5})


def test_the_best_weights_are_chosen_by_a_figure(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["loop.best=nme", "loop.best_is=lowest", "loop.validate_every=1", "loop.image_every=0"]
    config = debug_config("landmarks", *options, "loop.steps=3", "loop.save_every=1")
    scripted(monkeypatch, {0: 0.5, 1: 0.2, 2: float("nan")})
    loop.train(config)
    best = Path(config.loop.folder) / BEST
    assert step_of(best) == 2 and read_metadata(best)["extra"]["figures"]["nme"] == 0.2
    scripted(monkeypatch, {3: 0.3, 4: 0.1})  # a continued run knows what was best
    loop.train(debug_config("landmarks", *options, "loop.steps=4"))
    assert step_of(best) == 2
    loop.train(debug_config("landmarks", *options, "loop.steps=5"))
    assert step_of(best) == 5
    scripted(monkeypatch, {5: 0.05})  # chosen by another figure: what lies there does not count
    loop.train(
        debug_config("landmarks", *options[2:], "loop.best=nme", "loop.best_is=highest", "loop.steps=6")
    )
    assert step_of(best) == 6


def test_best_needs_a_figure_and_a_direction(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r"loop.best_is must be highest or lowest"):
        debug_config("landmarks", "loop.best=nme")
    with pytest.raises(UserError, match=r"loop.validate_every must be at least 1"):
        debug_config("landmarks", "loop.best=nme", "loop.best_is=lowest", "loop.validate_every=0")
    with pytest.raises(UserError, match=r"loop.best: nothing is validated without data.val_split"):
        loop.train(debug_config("landmarks", "loop.best=nme", "loop.best_is=lowest", "data.val_split="))
    config = debug_config("landmarks", "loop.best=psnr", "loop.best_is=highest", "loop.steps=1")
    scripted(monkeypatch, {0: 0.5})
    with pytest.raises(UserError, match=r"loop.best: validation gives no figure 'psnr', .* nme, accuracy"):
        loop.train(config)


class NoReading(TorchDispatchMode):
    """Remembers where numbers are read from tensors, but for Adam's own counters, which are on the CPU anyway."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            stack = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            optimizer = any("torch/optim" in frame.filename for frame in traceback.extract_stack())
            if not optimizer:
                self.readers.append(f"{stack[-2].filename}:{stack[-2].lineno}")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("network", ["dnet", "lnet", "enet", "lipsync_expert", "wav2lip"])
def test_a_step_reads_no_number_from_the_device(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch, network: str
) -> None:
    config = debug_config(network, *QUIET, "loop.steps=3", "loop.log_every=3", "loop.save_every=3")
    reading = NoReading()
    in_steps: list[list[str]] = []
    chosen = step_class(config)
    generate, check = chosen.generate, Tally.check

    def starting(self: Step, module: nn.Module, batch: dict[str, Any], step: int) -> StepOutput:
        if step == 0:
            reading.readers.clear()  # of the setup
        return generate(self, module, batch, step)

    def noting(self: Tally) -> None:
        in_steps.append(list(reading.readers))
        check(self)

    monkeypatch.setattr(chosen, "generate", starting)
    monkeypatch.setattr(Tally, "check", noting)
    with reading:
        loop.train(config)
    assert in_steps[0] == []  # at the report after the last step
    with reading:
        torch.ones(1).item()
    assert reading.readers  # the watch itself works


def test_a_tally_gives_means_and_forgets_them() -> None:
    tally = Tally()
    for step in range(4):
        tally.add(step, {"l1": torch.tensor(float(step))}, ["a"])
        tally.add(step, {"psnr": torch.tensor(float("inf"))}, ["a"], required=False)
    tally.check()
    tally.add(4, {"l1": torch.tensor(9.0)}, ["a"])
    assert tally.report() == {"l1": 3.0, "psnr": float("inf")}
    assert tally.report() == {}
    tally.add(5, {"l1": torch.tensor(1.0), "sync": torch.tensor(float("nan"))}, ["b", "c"])
    tally.add(6, {"l1": torch.tensor(float("nan"))}, ["d"])
    with pytest.raises(UserError, match=r"^sync not finite at step 5, .*: b, c;"):
        tally.report()


def test_a_compiled_run_leaves_the_same_files(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the backend that only traces; states have the same names, so either run continues the other."""
    monkeypatch.setattr(compiling, "BACKEND", "aot_eager")
    options = [*QUIET, "loop.ema_decay=0.5", "loop.save_every=1"]
    plain = debug_config("landmarks", *options, "loop.steps=2", folder="plain")
    loop.train(plain)
    compiled = debug_config("landmarks", *options, "loop.compile=true", "loop.steps=1", folder="compiled")
    loop.train(compiled)
    loop.train(debug_config("landmarks", *options, "loop.steps=2", folder="compiled"))
    first, second = (state_of(Path(config.loop.folder) / STATE)["parts"] for config in (plain, compiled))
    for part in ("generator", "average"):
        assert first[part].keys() == second[part].keys()
        for name, value in first[part].items():
            torch.testing.assert_close(second[part][name], value, rtol=1e-4, atol=2e-4)


@pytest.mark.slow
@pytest.mark.skipif(not compiling.has_compiler(), reason="no C++ compiler")
def test_the_usual_backend_compiles(debug_config: DebugConfig) -> None:
    config = debug_config(
        "landmarks", *QUIET, "loop.compile=true", "loop.steps=1", "model.width_multiplier=0.125"
    )
    loop.train(config)
    assert state_of(Path(config.loop.folder) / STATE)["step"] == 1


def test_without_a_compiler_the_run_says_so(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "has_compiler", lambda: False)
    with pytest.raises(
        UserError, match=r"^loop.compile on cpu needs a C\+\+ compiler.*set loop.compile=false$"
    ):
        loop.train(debug_config("landmarks", *QUIET, "loop.compile=true"))


def test_validation_takes_clips_at_random_and_the_same_ones_every_time() -> None:
    config = LoopConfig(folder="", steps=1, batch_size=4, validation_batches=2)
    one = World(0, 1, CPU)
    chosen = [index for batch in ValidationKeys(1000, config, one) for _, index in batch]
    assert chosen == [index for batch in ValidationKeys(1000, config, one) for _, index in batch]
    assert len(set(chosen)) == 8 and max(chosen) > 200
    assert score_clips(1000, config, one) == chosen  # eight clips, the first of the same order
    shares = [score_clips(1000, config, World(rank, 2, CPU)) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(chosen)
    assert [len(score_clips(3, config, World(rank, 2, CPU))) for rank in (0, 1)] == [2, 2]


def test_clips_are_scored_by_the_bundled_expert(debug_config: DebugConfig) -> None:
    config = debug_config("wav2lip", "loop.steps=1", "loop.image_every=0")
    loop.train(config)
    figures = read_metadata(Path(config.loop.folder) / "wav2lip.safetensors")["extra"]["figures"]
    assert 0.0 < figures["lse_d_expert"] < 1.5 and figures["lse_c_expert"] > -0.5
    assert figures["mouth_sharpness"] > 0.0


def test_released_syncnet_takes_the_experts_place(
    prepared_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = (4, 4, 4, 4, 4, 4)
    weights = tmp_path / "checkpoints" / "official" / "syncnet.safetensors"
    weights.parent.mkdir(parents=True)
    save_network(weights, SyncNet(SyncNetConfig(sizes, sizes, 8)), "none")
    monkeypatch.setenv("VIDEORETALKING_HOME", str(tmp_path))
    judge = choose_judge(CPU)
    assert judge is not None
    dataset = LNetClips(SampleSource(DataConfig(str(prepared_root)), training=False))
    for num_frames in (20, SYNC_FRAMES):
        scores = score_speech(lambda batch: batch["target"], judge, dataset, [0, 1], num_frames)
        assert scores.keys() == {"lse_d_syncnet", "lse_c_syncnet"} and scores["lse_d_syncnet"] > 0.0


def test_the_right_speech_scores_better(prepared_root: Path) -> None:
    """The bundled expert on drawn faces: at least it hears a difference between speech and other speech."""
    judge = choose_judge(CPU)
    assert judge is not None
    dataset = LNetClips(SampleSource(DataConfig(str(prepared_root)), training=False))
    still = score_speech(lambda batch: batch["reference"], judge, dataset, [0, 1], num_frames=20)
    moving = score_speech(lambda batch: batch["target"], judge, dataset, [0, 1], num_frames=20)
    assert still != moving


def test_sharpness_is_relative_to_the_target() -> None:
    network = nn.Identity().eval()
    target = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.avg_pool2d(target, 5, stride=1, padding=2)
    assert face_metrics(network, target, target)["mouth_sharpness"] == pytest.approx(1.0)
    assert face_metrics(network, smooth, target)["mouth_sharpness"] < 0.3
    upper = torch.cat([smooth[:, :, :48], target[:, :, 48:]], dim=2)
    assert face_metrics(network, upper, target)["mouth_sharpness"] == pytest.approx(1.0)
    assert detail(torch.full((1, 3, 8, 8), 0.3)).item() == pytest.approx(0.0, abs=1e-6)


def test_pictures_keep_their_size_in_the_grid() -> None:
    grid = make_grid({"input": torch.rand(5, 3, 96, 96), "output": torch.rand(5, 3, 384, 384)})
    assert grid.shape == (3, 2 * 384, 4 * 384)
    assert make_grid({"output": torch.rand(9, 3, 96, 96)}).shape == (3, 96, 8 * 96)


def test_tensorboard_shows_settings(debug_config: DebugConfig) -> None:
    config = debug_config("wav2lip", "loop.image_every=0", "loop.steps=1", "loop.log_every=1")
    loop.train(config)
    tags = EventAccumulator(str(Path(config.loop.folder) / "events")).Reload()
    text = tags.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "    loop:\n" in text and f"folder: {config.loop.folder}" in text
    plugins = tags.SummaryMetadata("_hparams_/session_start_info").plugin_data
    assert plugins.plugin_name == "hparams" and b"optimizer.lr" in plugins.content
    compared = tags.SummaryMetadata("_hparams_/experiment").plugin_data.content
    curves = {name.decode() for name in re.findall(rb"(?:train|val)/[a-z0-9_]+", compared)}
    assert (
        {"train/total", "train/discriminator", "val/l1"}
        <= curves
        <= set(tags.Tags()["scalars"])
        | {
            "train/sync"  # comes with the gate
        }
    )


def test_a_run_from_memory_continues_exactly(
    debug_config: DebugConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["data.resident=on", *QUIET, "loop.steps=3", "loop.save_every=2"]
    whole, parted, files = (
        debug_config("dnet", *options, folder=name) for name in ("whole", "parted", "files")
    )
    loop.train(whole)
    loop.train(debug_config("dnet", *options, "loop.steps=2", folder="parted"))
    loop.train(parted)
    loop.train(debug_config("dnet", *options, "data.resident=off", folder="files"))
    first, second, third = (
        state_of(Path(config.loop.folder) / STATE)["parts"]["generator"] for config in (whole, parted, files)
    )
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert any(not torch.equal(third[name], value) for name, value in first.items())
    moved = np.mean(
        [float((third[name] - value).abs().mean()) for name, value in first.items() if value.numel() > 9]
    )
    assert moved < 2e-3  # three steps of 1e-3


def test_a_keeper_without_numbers_keeps_nothing(tmp_path: Path) -> None:
    keeper = Keeper(tmp_path, "landmarks", LoopConfig(folder="", steps=10, batch_size=1, save_every=4), {})
    assert [step for step in range(1, 11) if keeper.is_due(step)] == [4, 8, 10]

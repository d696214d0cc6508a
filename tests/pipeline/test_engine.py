"""What the engine does around every network: batches, memory, number format, and the trial of int8."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from videoretalking.core.devices import cpu_threads, has_fast_int8
from videoretalking.core.errors import UserError
from videoretalking.core.quality import psnr
from videoretalking.models import int8
from videoretalking.models.bfloat16 import Bfloat16Conv
from videoretalking.models.catalog import build_network, load_network, save_network
from videoretalking.models.dnet import DNet, DNetConfig
from videoretalking.models.int8 import Int8Conv2d
from videoretalking.pipeline import engine as engine_module
from videoretalking.pipeline import formats
from videoretalking.pipeline.config import RuntimeConfig
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.formats import MIN_PSNR, FormatTrial, main_output

DEMO = Path(__file__).parents[2] / "checkpoints" / "demo"
CPU = torch.device("cpu")
FLOAT32 = Engine(CPU, torch.float32, batch_size=4)
INT8 = Engine(CPU, torch.int8, batch_size=4)
needs_int8 = pytest.mark.skipif(
    not has_fast_int8(CPU), reason="this CPU or this PyTorch has no fast int8 convolution"
)


def run(engine: Engine, function: Any, *inputs: torch.Tensor, **shared: Any) -> torch.Tensor:
    return engine.prepare(nn.Identity()).using(function)(*inputs, **shared)


def test_batches_are_joined_in_order() -> None:
    sizes = []

    def scaled(batch: torch.Tensor, other: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        sizes.append((len(batch), len(other), len(factor)))
        return (batch + other) * factor.sum()

    values = torch.arange(10.0)
    assert torch.equal(run(FLOAT32, scaled, values, values, factor=torch.ones(3)), values * 6)
    assert sizes == [(4, 4, 3), (4, 4, 3), (2, 2, 3)]


def test_a_gpu_sees_few_sizes_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []

    def doubled(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch * 2

    runner = replace(FLOAT32, batch_size=12).prepare(nn.Identity()).using(doubled)
    values = torch.arange(12.0)
    assert torch.equal(runner(values[:7]), values[:7] * 2)
    monkeypatch.setattr(engine_module, "to_device", lambda tensor, device: tensor)
    runner.device = torch.device("cuda")  # of which only the name is asked
    for count in (1, 3, 5, 9, 12):
        assert torch.equal(runner(values[:count]), values[:count] * 2)
    assert sizes == [7, 1, 4, 8, 12, 12]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_memory_shortage_halves_the_batch_for_good(error: RuntimeError) -> None:
    def hungry(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 3:
            raise error
        return batch + 1

    runner = replace(FLOAT32, batch_size=8).prepare(nn.Identity()).using(hungry)
    assert torch.equal(runner(torch.arange(9.0)), torch.arange(9.0) + 1)
    assert runner.batch_size == 2


def test_other_errors_and_a_single_item_that_does_not_fit_are_raised() -> None:
    def broken(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    def full(batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(RuntimeError, match="shapes"):
        run(FLOAT32, broken, torch.zeros(4))
    with pytest.raises(torch.OutOfMemoryError):
        run(FLOAT32, full, torch.zeros(4))


def test_a_network_computes_in_the_engine_s_number_format_and_hands_back_float32() -> None:
    computed: list[torch.dtype] = []
    network = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)).requires_grad_(False)
    network[0].register_forward_hook(lambda *call: computed.append(call[2].dtype))
    reduced = replace(FLOAT32, dtype=torch.bfloat16)
    image = torch.rand(1, 3, 4, 4)
    assert reduced.prepare(network)(image).dtype == torch.float32
    assert reduced.prepare(network, exact=True)(image).dtype == torch.float32
    assert computed == [torch.bfloat16, torch.float32]


def test_settings_make_the_engine() -> None:
    engine = Engine.from_config(RuntimeConfig(device="cpu", dtype="float32"))
    assert engine == Engine(CPU, torch.float32, batch_size=4, one_large_map=True)  # and no folder of verdicts
    assert Engine.from_config(RuntimeConfig(device="cpu", dtype="bfloat16", batch_size=7)).batch_size == 7
    with pytest.raises(UserError, match="number format"):
        Engine.from_config(RuntimeConfig(device="cpu", dtype="float8"))
    with pytest.raises(UserError, match="cannot be used here"):
        Engine.from_config(RuntimeConfig(device="warp"))


@pytest.mark.parametrize(
    ("name", "batch_size", "calls"), [("bisenet", 0, 1), ("bisenet", 3, 3), ("reconnet", 0, 4)]
)
def test_large_maps_go_one_by_one_on_a_cpu(name: str, batch_size: int, calls: int) -> None:
    engine = Engine.from_config(RuntimeConfig(device="cpu", dtype="float32", batch_size=batch_size))
    assert engine.prepare(build_network(name)).batch_size == calls


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_large_maps_are_painted_beside_each_other(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, int, bool]] = []

    def doubled(batch: torch.Tensor, factor: float) -> torch.Tensor:
        calls.append(
            (threading.current_thread().name, torch.get_num_threads(), torch.is_inference_mode_enabled())
        )
        time.sleep(0.05)  # or one thread would do all
        assert len(batch) == 1
        return factor * batch

    monkeypatch.setattr(engine_module, "_LARGE_MAPS", (nn.Identity,))
    monkeypatch.setattr(engine_module, "is_large", lambda network: True)
    values = torch.arange(float(count))[:, None]
    with cpu_threads(2):
        assert torch.equal(run(replace(FLOAT32, one_large_map=True), doubled, values, factor=2.0), 2 * values)
        assert torch.get_num_threads() == 2
    beside = [call for call in calls if call[0].startswith("network")]
    assert len(calls) == count and len(beside) == count // 2 * 2
    assert len({name for name, _, _ in beside}) == (2 if count > 1 else 0)
    assert {call[1:] for call in beside} <= {(1, True)}
    calls.clear()
    with cpu_threads(1):
        run(replace(FLOAT32, one_large_map=True), doubled, values, factor=2.0)
    assert not [call for call in calls if call[0].startswith("network")]


def test_full_batches_of_a_large_network_run_beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[bool, int]] = []

    def doubled(batch: torch.Tensor) -> torch.Tensor:
        calls.append((threading.current_thread().name.startswith("network"), len(batch)))
        return 2.0 * batch

    monkeypatch.setattr(engine_module, "is_large", lambda network: True)
    engine = replace(FLOAT32, one_large_map=True, batch_size=2)
    runner = engine.prepare(nn.Identity())
    monkeypatch.setattr(engine_module, "is_large", lambda network: False)  # as after a trial of int8
    runner = runner.using(doubled)
    values = torch.arange(7.0)[:, None]
    with cpu_threads(2):
        assert runner.batches_at_once == 2
        assert torch.equal(runner(values), 2 * values)
        assert engine.prepare(nn.Identity()).batches_at_once == 1
    assert sorted(calls) == [(False, 1), (False, 2), (True, 2), (True, 2)]
    with cpu_threads(1):
        assert runner.batches_at_once == 1


def test_errors_beside_each_other_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(batch: torch.Tensor) -> torch.Tensor:
        raise ValueError(f"no {int(batch)}")

    monkeypatch.setattr(engine_module, "_LARGE_MAPS", (nn.Identity,))
    monkeypatch.setattr(engine_module, "is_large", lambda network: True)
    with cpu_threads(2), pytest.raises(ValueError, match="no 0"):
        run(replace(FLOAT32, one_large_map=True), fails, torch.arange(4)[:, None])


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="tells by Linux's list of what is mapped")
def test_prepared_networks_let_go_of_their_file(tmp_path: Path) -> None:
    sizes = DNetConfig(warp_channels=8, warp_max_channels=16, edit_channels=8, edit_max_channels=16)
    save_network(tmp_path / "dnet.safetensors", DNet(sizes), license="test")
    network = load_network(tmp_path / "dnet.safetensors")
    assert str(tmp_path) in Path("/proc/self/maps").read_text(encoding="utf-8")
    FLOAT32.prepare(network)
    assert str(tmp_path) not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_small_networks_have_larger_batches() -> None:
    engine = Engine.from_config(RuntimeConfig(device="cpu", dtype="float32"))
    assert engine.prepare(load_network(DEMO / "enet.safetensors")).batch_size == 8
    engine = Engine.from_config(RuntimeConfig(device="cpu", dtype="float32", batch_size=3))
    assert engine.prepare(load_network(DEMO / "enet.safetensors")).batch_size == 3


def test_an_engine_changes_how_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr("videoretalking.pipeline.engine.keep_freed_memory", lambda: calls.append(True))
    Engine.from_config(RuntimeConfig(device="cpu", dtype="float32"))
    assert calls == [True]


def test_the_output_that_the_product_uses() -> None:
    image = torch.zeros(1, 3, 2, 2)
    assert main_output(SimpleNamespace(flow=None, image=image)) is image
    assert (
        main_output(SimpleNamespace(image=None, logits=image)) is image
    )  # ParseNet paints too, for training
    assert main_output((image, None)) is image
    assert main_output(image) is image


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "_MIN_WORK", 1)


class Net(nn.Module):
    """One heavy convolution between light ones, and an image; ``gain`` multiplies what int8 loses."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(3, 64, 1)
        self.layers = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)])
        self.final = nn.Conv2d(64, 3, 3, padding=1)
        self.gain = gain
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(flow=None, image=0.5 + 0.5 * torch.sin(self.gain * self.paint(image)))

    def paint(self, image: torch.Tensor) -> torch.Tensor:
        out = self.first(image)
        for layer in self.layers:
            out = layer(out)
        return self.final(out)


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_int8_runs_where_the_image_stays_the_same(caplog: pytest.LogCaptureFixture) -> None:
    network, image = Net(gain=1.0), torch.rand(1, 3, 16, 16)
    expected = network(image).image
    with caplog.at_level("INFO"):
        result = INT8.prepare(network)(image)
    assert isinstance(network.layers[0], Int8Conv2d)
    assert all(isinstance(module, nn.Conv2d) for module in (network.first, network.layers[1], network.final))
    assert "Net in int8" in caplog.text
    assert not torch.equal(result, expected)
    assert psnr(result, expected) >= MIN_PSNR


@needs_int8
@pytest.mark.parametrize(("gain", "passes"), [(1.0, True), (1e4, False)])
def test_small_networks_are_tried_in_bfloat16(
    gain: float, passes: bool, caplog: pytest.LogCaptureFixture
) -> None:
    network, image = Net(gain), torch.rand(1, 3, 16, 16)
    expected = network(image).image
    with caplog.at_level("INFO"):
        result = replace(INT8, bfloat16_too=True).prepare(network)(image)
    assert isinstance(network.layers[0], Bfloat16Conv) == passes
    assert ("others in bfloat16" if passes else "others stay in float32") in caplog.text
    assert psnr(result, expected) >= (MIN_PSNR if passes else 60.0)


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_what_int8_leaves_is_tried_in_bfloat16() -> None:
    network, image = Net(gain=1.0), torch.rand(1, 3, 16, 16)
    network.layers[1] = nn.ConvTranspose2d(64, 64, 3, padding=1).requires_grad_(False)
    expected = network(image).image
    result = replace(INT8, bfloat16_too=True).prepare(network)(image)
    assert isinstance(network.layers[0], Int8Conv2d)
    assert isinstance(network.layers[1], Bfloat16Conv)
    assert psnr(result, expected) >= MIN_PSNR


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_float32_stays_where_int8_shows(caplog: pytest.LogCaptureFixture) -> None:
    network, image = Net(gain=1e3), torch.rand(1, 3, 16, 16)
    conv = network.layers[0]
    runner = INT8.prepare(network)
    with caplog.at_level("INFO"):
        assert torch.equal(runner(image), network(image).image)
    assert network.layers[0] is conv
    assert "Net stays in float32" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        runner(image)
        runner.using(network.paint)(image)
    assert network.layers[0] is conv
    assert not caplog.text  # the verdict holds, for every function of the network


class Uneven(nn.Module):
    """Four heavy convolutions in a row, and one beside them whose errors are seen ``gain`` times as large."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.first = nn.Conv2d(3, 64, 1)
        self.calm = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1) for _ in range(4)])
        self.sharp = nn.Conv2d(64, 64, 3, padding=1)
        self.final = nn.Conv2d(64, 3, 1)
        self.gain = gain
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        first = out = self.first(image)
        for layer in self.calm:
            out = layer(out)
        seen = self.gain * self.final(self.sharp(first))
        return 0.5 + 0.25 * (torch.sin(self.final(out)) + torch.sin(seen))


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_a_layer_that_loses_too_much_stays_in_float32_alone(caplog: pytest.LogCaptureFixture) -> None:
    network, image = Uneven(gain=100.0), torch.rand(1, 3, 16, 16)
    sharp, expected = network.sharp, network(image)
    with caplog.at_level("INFO"), torch.inference_mode():
        result = INT8.prepare(network)(image.clone())
    assert network.sharp is sharp
    assert all(isinstance(layer, Int8Conv2d) for layer in network.calm)
    assert "Uneven in int8 but for 1 of 5 convolutions" in caplog.text
    assert psnr(result, expected) >= MIN_PSNR
    assert not any(weight.requires_grad for weight in network.parameters())


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_int8_for_too_few_layers_is_not_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "_MIN_SHARE", 0.9)
    network, image = Uneven(gain=100.0), torch.rand(1, 3, 16, 16)
    assert torch.equal(INT8.prepare(network)(image), network(image))
    assert all(type(layer) is nn.Conv2d for layer in (*network.calm, network.sharp))


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_a_sample_settles_the_number_format_of_all_functions() -> None:
    network, image = Net(gain=1e3), torch.rand(1, 3, 16, 16)
    runner = INT8.prepare(network)
    runner.settle(image)
    runner.using(network.paint)(image)  # alone it would look the same in int8
    assert type(network.layers[0]) is nn.Conv2d


@needs_int8
@pytest.mark.usefixtures("any_size")
def test_a_trial_that_breaks_leaves_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    network = Net(gain=1.0)
    conv = network.layers[0]
    monkeypatch.setattr(Int8Conv2d, "forward", fail)
    with pytest.raises(RuntimeError, match="broken"):
        INT8.prepare(network)(torch.rand(1, 3, 16, 16))
    assert network.layers[0] is conv


@pytest.mark.usefixtures("any_size")
@pytest.mark.parametrize(("engine", "exact"), [(FLOAT32, False), (INT8, True)])
def test_int8_that_is_not_wanted_is_not_tried(engine: Engine, exact: bool) -> None:
    network = Net(gain=1.0)
    engine.prepare(network, exact)(torch.rand(1, 3, 16, 16))
    assert type(network.layers[0]) is nn.Conv2d


def test_small_networks_are_not_tried() -> None:
    network = Net(gain=1.0)
    INT8.prepare(network)(torch.rand(1, 3, 16, 16))
    assert type(network.layers[0]) is nn.Conv2d


def rounds(steps: int) -> Any:
    """A function whose result is coarser in bfloat16 the more steps it has."""

    def run(image: torch.Tensor) -> torch.Tensor:
        reduced = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        if reduced == torch.bfloat16:
            return image + steps * 2.0**-9
        if reduced == torch.float16:
            return image + (steps * 2.0**-12 if steps <= 40 else torch.inf)
        return image

    return run


@pytest.mark.parametrize(
    ("steps", "chosen"), [(1, torch.bfloat16), (20, torch.float16), (60, torch.float32)], ids=str
)
def test_bfloat16_on_cuda_is_tried_and_float16_after_it(steps: int, chosen: torch.dtype) -> None:
    image = 0.5 * torch.rand(1, 3, 8, 8)
    trial = FormatTrial(nn.Identity(), CPU, torch.bfloat16)
    assert trial(rounds(steps), image) == torch.bfloat16  # on a CPU nothing is tried
    trial._decided = False
    assert trial(rounds(steps), image) == chosen
    assert trial(rounds(1), image) == chosen  # the verdict holds

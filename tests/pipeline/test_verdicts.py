"""Number formats are remembered: for the same weights on the same machine, and for nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from videoretalking.core.devices import has_fast_int8
from videoretalking.models import int8
from videoretalking.models.bfloat16 import Bfloat16Conv
from videoretalking.models.int8 import Int8Conv2d
from videoretalking.pipeline import verdicts
from videoretalking.pipeline.engine import Engine
from videoretalking.pipeline.verdicts import _total, forget_verdicts, load_verdict, verdict_file

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(
    not has_fast_int8(CPU), reason="this CPU or this PyTorch has no fast int8 convolution"
)


class Net(nn.Module):
    """A heavy convolution, and one that int8 does not have; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.heavy = nn.Conv2d(3, 64, 3, padding=1)
        self.other = nn.ConvTranspose2d(64, 64, 3, padding=1)
        self.final = nn.Conv2d(64, 3, 3, padding=1)
        self.requires_grad_(False)
        self.calls = 0

    def forward(self, image: torch.Tensor) -> SimpleNamespace:
        self.calls += 1
        return SimpleNamespace(image=0.5 + 0.5 * torch.sin(self.final(self.other(self.heavy(image)))))


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setattr(int8, "_MIN_WORK", 1)
    return Engine(CPU, torch.int8, batch_size=2, bfloat16_too=True, verdicts=tmp_path)


def ran(engine: Engine, network: Net) -> tuple[torch.Tensor, int]:
    """The result, and how often the network ran for it."""
    torch.manual_seed(1)
    result = engine.prepare(network)(torch.rand(1, 3, 16, 16))
    return result, network.calls


def test_the_second_run_does_not_try_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    first, tries = ran(engine, Net())
    assert tries > 2
    network = Net()
    with caplog.at_level("INFO"):
        again, calls = ran(engine, network)
    assert calls == 1
    assert torch.equal(again, first)
    assert isinstance(network.heavy, Int8Conv2d) and isinstance(network.other, Bfloat16Conv)
    assert "as found before" in caplog.text


@pytest.mark.parametrize("what", ["weights", "torch", "cpu", "terms"])
def test_a_verdict_on_something_else_does_not_count(
    engine: Engine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran(engine, Net())
    network = Net()
    changes: dict[str, Callable[[], object]] = {
        "weights": lambda: network.final.weight[2, 5, 1, 1].add_(0.01),
        "torch": lambda: monkeypatch.setattr(torch, "__version__", "1.0"),
        "cpu": lambda: monkeypatch.setattr(verdicts, "cpu_name", lambda: "another"),
        "terms": lambda: None,
    }
    changes[what]()
    _, calls = ran(replace(engine, bfloat16_too=what != "terms"), network)
    assert calls > 2


def test_damaged_and_foreign_verdicts_are_tried_again(
    engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran(engine, Net())
    (file,) = tmp_path.iterdir()
    known = load_verdict(file)
    assert known is not None
    assert not known.apply(nn.Sequential(nn.Conv2d(3, 3, 3)))
    file.write_bytes(b"PK no archive")
    _, calls = ran(engine, Net())
    assert calls > 2 and "is damaged" in caplog.text
    assert load_verdict(file) is not None


def test_verdicts_are_forgotten(engine: Engine, tmp_path: Path) -> None:
    ran(engine, Net())
    assert forget_verdicts(tmp_path) == 1 and forget_verdicts(tmp_path / "none") == 0
    _, calls = ran(engine, Net())
    assert calls > 2


def test_a_folder_that_cannot_be_written_to_costs_the_memory_only(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result, calls = ran(replace(engine, verdicts=tmp_path / "file" / "below"), Net())
    assert calls > 2 and torch.isfinite(result).all()


def test_the_digest_sees_every_number(tmp_path: Path) -> None:
    network = Net()
    other = copy.deepcopy(network)
    other.other.weight.flatten()[-2] += 1e-3  # type: ignore[index]
    assert verdict_file(tmp_path, network, "") == verdict_file(tmp_path, Net(), "")
    assert verdict_file(tmp_path, network, "") != verdict_file(tmp_path, other, "")
    assert verdict_file(None, network, "") is None


def test_the_digest_does_not_depend_on_the_number_of_threads() -> None:
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    assert _total(values) == _total(values.flip(0)) != _total(values + 1e-6)
    assert float(values.sum()) != float(values.flip(0).sum())  # as the order of a sum does matter

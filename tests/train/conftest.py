"""Debug runs on drawn data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from videoretalking.datasets.synthetic import write_synthetic
from videoretalking.train.catalog import read_training_config
from videoretalking.train.config import TrainingConfig

DebugConfig = Callable[..., TrainingConfig]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Sums in one fixed order, and no fight over the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def debug_config(prepared_root: Path, tmp_path: Path) -> DebugConfig:
    """``debug_config("lnet", "loop.steps=2", folder="a")``: a debug config with overrides and its own folder."""

    def build(name: str, *overrides: str, folder: str = "run") -> TrainingConfig:
        fixed = [f"data.root={prepared_root}", f"loop.folder={tmp_path / folder}"]
        return read_training_config(ROOT / "configs" / "debug" / f"{name}.yaml", [*fixed, *overrides])

    return build

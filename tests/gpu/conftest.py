"""The device that is compared with the CPU, and how far apart two results may be."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from gpu_compare import Compare

from videoretalking.core.devices import choose_device
from videoretalking.datasets.synthetic import write_synthetic

DEVICE_VARIABLE = "VIDEORETALKING_GPU_TEST_DEVICE"  # "cpu" runs the same tests where there is no GPU


@pytest.fixture(scope="session")
def device() -> torch.device:
    """CUDA, or what :data:`DEVICE_VARIABLE` names; its float32 is float32."""
    name = os.environ.get(DEVICE_VARIABLE, "cuda")
    if name.startswith("cuda") and not torch.cuda.is_available():
        pytest.skip(f"PyTorch finds no CUDA device; {DEVICE_VARIABLE}=cpu runs the same tests without one")
    return choose_device(name)


@pytest.fixture(autouse=True)
def _all_cores() -> Iterator[None]:
    """The CPU's half of these tests shall not take longer than it must."""
    threads = torch.get_num_threads()
    cores = int(os.environ.get("OMP_NUM_THREADS") or min(16, os.cpu_count() or 1))
    torch.set_num_threads(max(1, cores // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))))
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def prepared_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(tmp_path_factory.mktemp("prepared"), num_train=3, num_val=1, num_frames=24)


@pytest.fixture
def compare(record_property: Callable[[str, object], None]) -> Compare:
    """``compare(name, found, wanted, limit)``: the error in standard deviations of what is wanted.

    Its root mean square is within the limit, and no number is off by ten times as much. The figures go into the
    file of results (``--junitxml``), from which ``scripts.gpu_check`` reads them.
    """

    def check(name: str, found: torch.Tensor, wanted: torch.Tensor, limit: float) -> None:
        assert found.shape == wanted.shape and found.dtype == wanted.dtype, name
        assert torch.isfinite(wanted).all(), name
        # what hardly varies is measured by its size
        spread = wanted.double().std() if wanted.numel() > 1 else wanted.double().abs()
        least = 1e-3 * wanted.double().abs().max()
        error = (found.detach().cpu().double() - wanted.double()).abs() / spread.maximum(least)
        mean, largest = float(error.square().mean().sqrt()), float(error.max())
        record_property(f"error {name}", f"{mean:.2g}, at most {largest:.2g}")
        assert mean <= limit and largest <= 10 * limit, f"{name} is off by {mean:.2g}, at most {largest:.2g}"

    return check

"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
SHARED_VARIABLE = "VIDEORETALKING_SHARED"  # names the folder of golden data and media

# The suite runs one process per core (pytest-xdist); more threads than that would only fight for them.
torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="takes minutes: pytest --slow"))


@pytest.fixture(autouse=True)
def _deterministic() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_if_any() -> Path | None:
    """The folder of golden data and media: ``VIDEORETALKING_SHARED``, else ``shared`` beside the project."""
    path = Path(os.environ.get(SHARED_VARIABLE) or ROOT.parent / "shared")
    return path if path.is_dir() else None


@pytest.fixture(scope="session")
def shared_dir(shared_if_any: Path | None) -> Path:
    """The same folder, for tests that skip without it."""
    if shared_if_any is None:
        pytest.skip(
            f"no golden data and media: {SHARED_VARIABLE} names no folder, and none is beside the project"
        )
    return shared_if_any


@pytest.fixture(scope="session")
def kit_dir(shared_dir: Path) -> Path:
    """The parity kit."""
    return shared_dir / "parity"


@pytest.fixture(scope="session")
def media_dir(shared_dir: Path) -> Path:
    """The corpus of talking clips, speech and hostile inputs."""
    return shared_dir / "media"

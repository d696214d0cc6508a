"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


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
def shared_dir() -> Path:
    """The optional folder of golden data and media beside the project; tests that need it skip without it."""
    path = ROOT.parent / "shared"
    if not path.is_dir():
        pytest.skip("the shared folder with golden data and media is not beside the project")
    return path


@pytest.fixture(scope="session")
def kit_dir(shared_dir: Path) -> Path:
    """The parity kit."""
    return shared_dir / "parity"


@pytest.fixture(scope="session")
def media_dir(shared_dir: Path) -> Path:
    """The corpus of talking clips, speech and hostile inputs."""
    return shared_dir / "media"

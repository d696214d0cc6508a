from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.scripts.parity.kit import Kit

FIGURES = Path(__file__).resolve().parent.parent / "data" / "parity"


@pytest.fixture(scope="session")
def figures_kit() -> Kit:
    """The small copy of golden figures that travels with the project."""
    return Kit(FIGURES)

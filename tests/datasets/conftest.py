"""One tiny prepared data set for all tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.datasets.collection import DataConfig
from videoretalking.datasets.synthetic import write_synthetic


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root: Path = write_synthetic(tmp_path_factory.mktemp("prepared"), num_train=3, num_val=1, num_frames=24)
    return DataConfig(str(root))

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.metrics.inception import FILE_NAME, inception_features


def test_missing_and_foreign_weights_are_refused_before_loading(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with pytest.raises(UserError, match="do not exist"):
        inception_features(path, torch.device("cpu"))
    path.write_bytes(b"anything else")
    with pytest.raises(UserError, match="not the published FID network"):
        inception_features(path, torch.device("cpu"))

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

from videoretalking.core.errors import UserError
from videoretalking.metrics import inception
from videoretalking.metrics.inception import FILE_NAME, SAME_FILE, SHA256, find_inception, inception_features
from videoretalking.scripts.released_files import FILES


def test_missing_and_foreign_weights_are_refused_before_loading(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    with pytest.raises(UserError, match="do not exist"):
        inception_features(path, torch.device("cpu"))
    path.write_bytes(b"anything else")
    with pytest.raises(UserError, match="not the published FID network"):
        inception_features(path, torch.device("cpu"))


class _Extractor(torch.nn.Module):
    """Stands for torch-fidelity's network: takes bytes, as the real one insists."""

    seen: ClassVar[list[Any]] = []

    def __init__(self, name: str, features: list[str], feature_extractor_weights_path: str) -> None:
        super().__init__()
        self.seen.append((name, features, feature_extractor_weights_path))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor]:
        assert images.dtype == torch.uint8
        return (images.float().mean(dim=(2, 3)),)


@pytest.mark.parametrize("name", [FILE_NAME, SAME_FILE])
def test_the_published_network_is_found_under_either_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folders = (tmp_path / "official", tmp_path / "demo")
    monkeypatch.setattr("videoretalking.core.locations.checkpoint_folders", lambda: folders)
    assert find_inception() is None
    folders[0].mkdir()
    path = folders[0] / name
    path.write_bytes(b"stands for the weights")
    assert find_inception() == path
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    module = ModuleType("feature_extractor_inceptionv3")
    monkeypatch.setattr(module, "FeatureExtractorInceptionV3", _Extractor, raising=False)
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", module)
    features = inception_features(path, torch.device("cpu"))(
        torch.tensor([0.0, 0.5, 1.0])[None, :, None, None]
    )
    assert features.tolist() == [[0.0, 128.0, 255.0]]
    assert _Extractor.seen[-1] == ("inception", ["2048"], str(path))


def test_the_download_is_bound_to_the_same_digest() -> None:
    """Both names carry the first digits of it, as the files of torch.hub do."""
    assert FILES[FILE_NAME].sha256 == SHA256 and len(SHA256) == 64
    assert all(Path(name).stem.endswith(f"-{SHA256[:8]}") for name in (FILE_NAME, SAME_FILE))
    assert FILES[FILE_NAME].url.endswith(f"/{FILE_NAME}") and FILES[FILE_NAME].place == "official"

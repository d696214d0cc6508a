from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import TINY

from videoretalking.core.checkpoint import save_checkpoint
from videoretalking.core.errors import UserError
from videoretalking.core.locations import checkpoint_folder
from videoretalking.models.catalog import build_network, save_network
from videoretalking.pipeline.config import RenderConfig, WeightsConfig
from videoretalking.pipeline.weights import choose_weights


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``demo`` is complete, ``official`` lacks L-Net."""
    for family, names in (("demo", ("dnet", "lnet", "enet")), ("official", ("dnet", "enet"))):
        for name in names:
            save_network(tmp_path / family / f"{name}.safetensors", build_network(name, TINY[name]), "test")
        templates = {"neutral": torch.zeros(64), "smile": torch.ones(64)}
        for name in ("expressions", "reconnet") if family == "official" else ("face_model",):
            save_checkpoint(
                tmp_path / family / f"{name}.safetensors", templates, network=name, config={}, license="test"
            )
    return tmp_path


def _complete(root: Path) -> None:
    lnet = root / "official" / "lnet.safetensors"
    lnet.write_bytes((root / "demo" / "lnet.safetensors").read_bytes())


def test_auto_takes_the_official_set_once_it_is_complete(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert choose_weights(WeightsConfig(), root).family == "demo"
    assert "bundled demo set" in caplog.text
    _complete(root)
    weights = choose_weights(WeightsConfig(), root)
    assert weights.family == "official"


def test_the_window_of_dnet_is_what_its_checkpoint_says_wherever_it_lies(root: Path) -> None:
    weights = choose_weights(WeightsConfig(family=str(root / "demo")), root)
    assert weights.drive == (26, 0.0, False)  # as released
    ours = build_network("dnet", {**TINY["dnet"], "window": 27})
    save_network(root / "demo" / "dnet.safetensors", ours, "test")
    assert weights.drive == (27, 0.0, False)
    assert choose_weights(WeightsConfig(family="demo"), checkpoint_folder("demo").parent).drive == (
        27,
        1.2,
        True,
    )


def test_a_set_that_is_not_complete_is_refused_by_name(root: Path) -> None:
    with pytest.raises(UserError, match=r"official lacks lnet\.safetensors"):
        choose_weights(WeightsConfig(family="official"), root)
    with pytest.raises(UserError, match="does not exist"):
        choose_weights(WeightsConfig(family=str(root / "nowhere")), root)
    with pytest.raises(UserError, match=r"no complete set.*dnet\.safetensors"):
        choose_weights(WeightsConfig(), root / "empty")


def test_a_network_that_does_not_run_may_be_missing(root: Path) -> None:
    _complete(root)
    (root / "official" / "enet.safetensors").unlink()
    assert RenderConfig().networks == ("dnet", "lnet", "enet")
    assert choose_weights(WeightsConfig(), root).family == "demo"
    without = RenderConfig(enhance=False).networks
    assert choose_weights(WeightsConfig(), root, without).family == "official"
    with pytest.raises(UserError, match=r"official lacks enet\.safetensors"):
        choose_weights(WeightsConfig(family="official"), root)
    assert choose_weights(WeightsConfig(family="official"), root, without).path("enet") is None


def test_a_single_file_replaces_that_of_the_family(root: Path) -> None:
    given = root / "demo" / "lnet.safetensors"
    weights = choose_weights(WeightsConfig(family="official", lnet=str(given)), root)
    assert weights.path("lnet") == given
    assert weights.path("dnet") == root / "official" / "dnet.safetensors"
    assert type(weights.load("lnet", torch.device("cpu"))).__name__ == "LNet"


def test_the_wrong_network_is_refused(root: Path) -> None:
    wrong = str(root / "demo" / "dnet.safetensors")
    weights = choose_weights(WeightsConfig(family="demo", lnet=wrong, enet=wrong), root)
    with pytest.raises(UserError, match="needed is L-Net or Wav2Lip"):
        weights.load("lnet", torch.device("cpu"))
    with pytest.raises(UserError, match="needed is 'enet'"):
        weights.load("enet", torch.device("cpu"))


def test_templates(root: Path) -> None:
    templates = choose_weights(WeightsConfig(family="demo"), root).templates()
    assert np.array_equal(templates["neutral"], np.zeros(64, np.float32))
    assert np.array_equal(templates["smile"], np.ones(64, np.float32))

"""Saving and loading through the one function, and what it says about files that do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from videoretalking.core.checkpoint import read_checkpoint, save_checkpoint
from videoretalking.core.errors import UserError
from videoretalking.models.catalog import NETWORKS, build_network, load_network, network_name, save_network

SMALL = {"channels": 4, "num_residual": 1, "audio_channels": [4, 4, 4, 4, 8], "attention_layers": 1}


def saved(folder: Path) -> tuple[torch.nn.Module, Path]:
    network = build_network("lnet", SMALL)
    path = folder / "lnet.safetensors"
    save_network(path, network, license="test", extra={"step": 1})
    return network.eval(), path


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(1, 1, 80, 16), torch.rand(1, 6, 96, 96)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_name_finds_its_class_and_config(name: str) -> None:
    network_class, config_class = NETWORKS[name].classes()
    with torch.device("meta"):
        network = build_network(name)
    assert isinstance(network, network_class)
    assert isinstance(network.config, config_class)
    assert network_name(network) == name


@pytest.mark.parametrize("fold", [True, False])
def test_round_trip_by_name_and_by_path(tmp_path: Path, fold: bool) -> None:
    network, path = saved(tmp_path)
    batch = inputs()
    for source in ("lnet", path):
        loaded = load_network(source, fold=fold, folders=(tmp_path / "none", tmp_path))
        assert loaded.config == network.config
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())
        torch.testing.assert_close(loaded(*batch), network(*batch), rtol=0, atol=1e-5)


def test_loading_folds_spectral_norm_unless_training_goes_on(tmp_path: Path) -> None:
    """Folded weights are plain tensors; what further training needs keeps the norm as saved."""
    network, path = saved(tmp_path)
    normalized = {key for key in network.state_dict() if key.endswith("parametrizations.weight.original")}
    assert normalized
    kept = load_network(path, fold=False).state_dict()
    assert kept.keys() == network.state_dict().keys()
    for folded in (load_network(path), load_network(path, fold=True)):
        assert not [key for key in folded.state_dict() if "parametrizations" in key]
        assert {key.replace("parametrizations.weight.original", "weight") for key in normalized} <= set(
            folded.state_dict()
        )


def test_half_precision_files_come_back_as_float32(tmp_path: Path) -> None:
    network, path = saved(tmp_path)
    save_network(path, network, license="test", dtype=torch.float16)
    loaded = load_network(path)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    batch = inputs()
    torch.testing.assert_close(loaded(*batch), network(*batch), rtol=0, atol=2e-2)


def test_loading_does_not_touch_the_random_numbers(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    load_network(path, fold=False)
    assert torch.equal(torch.rand(1), expected)


def test_files_that_do_not_fit_are_named_in_one_line(tmp_path: Path) -> None:
    _, path = saved(tmp_path)
    state, metadata = read_checkpoint(path)
    described = {"config": metadata["config"], "license": ""}

    incomplete = tmp_path / "incomplete.safetensors"
    first = next(iter(state))
    save_checkpoint(incomplete, {k: v for k, v in state.items() if k != first}, network="lnet", **described)
    unknown = tmp_path / "unknown.safetensors"
    save_checkpoint(unknown, state, network="xnet", **described)
    wrong_config = tmp_path / "wrong_config.safetensors"
    save_checkpoint(wrong_config, state, network="lnet", config={"chanels": 4}, license="")
    wrong_width = tmp_path / "wrong_width.safetensors"
    save_checkpoint(wrong_width, state, network="lnet", config={**SMALL, "channels": 8}, license="")

    for file, expected, reason in (
        (path, "dnet", "needed is 'dnet'"),
        (incomplete, None, "1 missing"),
        (unknown, None, "does not know"),
        (wrong_config, None, "did you mean 'channels'"),
        (wrong_width, None, "wrongly shaped"),
        (tmp_path / "none.safetensors", None, "does not exist"),
    ):
        with pytest.raises(UserError, match=reason) as error:
            load_network(file, expected=expected)
        assert file.name in str(error.value)
        assert "\n" not in str(error.value)


def test_missing_weights_say_where_they_were_searched(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no weights of lnet in .*checkpoints/README\.md"):
        load_network("lnet", folders=(tmp_path,))
    with pytest.raises(UserError, match="unknown network 'lnnet'"):
        build_network("lnnet")

from __future__ import annotations

from pathlib import Path

import pytest

from videoretalking.core.config import read_yaml
from videoretalking.core.locations import HOME_VARIABLE, bundled, checkpoint_folder, find_file
from videoretalking.models.catalog import find_checkpoint


def test_what_ships_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("configs/debug/lnet.yaml", "examples/portrait.jpg", "checkpoints/demo/lnet.safetensors"):
        found = find_file(name)
        assert found == bundled(name) and found.is_file() and found.is_absolute()
    assert read_yaml(Path("configs/lnet.yaml"))["network"] == "lnet"
    assert (
        find_checkpoint("checkpoints/demo/lnet.safetensors") == checkpoint_folder("demo") / "lnet.safetensors"
    )


def test_the_current_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "lnet.yaml").write_text("network: mine\n")
    assert read_yaml(Path("configs/lnet.yaml")) == {"network": "mine"}


def test_converted_weights_are_found_in_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    folder = tmp_path / "home" / "checkpoints" / "official"
    folder.mkdir(parents=True)
    (folder / "lnet.safetensors").write_text("")
    assert find_file("checkpoints/official/lnet.safetensors") == folder / "lnet.safetensors"


@pytest.mark.parametrize(
    "name", ["lnet.yaml", "data/x", "configs/none.yaml", "checkpoints/none/x", "/configs/x", ""]
)
def test_other_paths_stay_as_they_are(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_file(name) == Path(name)

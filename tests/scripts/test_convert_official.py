"""Strictness of the converter, and its command line."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from videoretalking.core.checkpoint import read_checkpoint, read_metadata
from videoretalking.core.errors import UserError
from videoretalking.core.hashing import file_hash
from videoretalking.models.official.layout import Layout, flip_triples, rename, unwrap
from videoretalking.models.official.tables import BY_FILE, LAYOUTS, converted_name
from videoretalking.scripts.convert_official import convert_folder, main

LAYOUT = Layout(
    network="tiny",
    files=("tiny.pth",),
    license="test",
    outer_keys=("state_dict",),
    modules={"first.0": "conv", "head": "out"},
    unused=("dead",),
    skip=("ignored",),
    flip_inputs=("conv.weight",),
    flip_outputs=("out.bias",),
)
OURS = {
    "conv.weight": torch.zeros(2, 6, 1, 1),
    "conv.bias": torch.zeros(2),
    "out.bias": torch.zeros(3),
}


def released() -> dict[str, torch.Tensor]:
    return {
        "module.first.0.weight": torch.arange(12.0).reshape(2, 6, 1, 1),
        "module.first.0.bias": torch.ones(2),
        "module.head.bias": torch.tensor([1.0, 2.0, 3.0]),
        "module.dead.weight": torch.zeros(4),
        "module.ignored.weight": torch.zeros(4),
    }


def convert(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return rename(unwrap({"state_dict": state}, LAYOUT, "tiny.pth"), LAYOUT, OURS, "tiny.pth")


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_renames_flips_and_drops(prefix: str) -> None:
    state = convert({prefix + key.removeprefix("module."): value for key, value in released().items()})
    assert state.keys() == OURS.keys()
    assert state["conv.weight"][0].flatten().tolist() == [2.0, 1.0, 0.0, 5.0, 4.0, 3.0]
    assert state["out.bias"].tolist() == [3.0, 2.0, 1.0]


def test_flip_reverses_every_triple_and_is_its_own_inverse() -> None:
    colors = torch.arange(6.0)[None, :, None].repeat(2, 1, 3)  # B G R B G R
    flipped = flip_triples(colors, 1)
    assert flipped[1, :, 2].tolist() == [2, 1, 0, 5, 4, 3]
    assert torch.equal(flip_triples(flipped, 1), colors)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("module.first.0.bias"), "conv.bias"),
        (lambda s: s.pop("module.dead.weight"), "dead"),
        (lambda s: s.update({"module.extra.weight": torch.zeros(1)}), "extra.weight"),
        (lambda s: s.update({"module.first.0.bias": torch.ones(5)}), "conv.bias"),
        (lambda s: s.update({"epoch": 3}), "epoch"),
    ],
)
def test_left_over_missing_and_wrong_tensors_are_named(change, named: str) -> None:  # type: ignore[no-untyped-def]
    state = released()
    change(state)
    with pytest.raises(UserError, match=named) as error:
        convert(state)
    assert "tiny.pth" in str(error.value)
    assert "\n" not in str(error.value)


def test_wrong_nesting_is_named() -> None:
    with pytest.raises(UserError, match="state_dict"):
        unwrap(released(), LAYOUT, "tiny.pth")
    with pytest.raises(UserError, match="list"):
        unwrap([1, 2], LAYOUT, "tiny.pth")


def test_every_released_file_has_one_table_and_one_target() -> None:
    assert len(BY_FILE) == sum(len(layout.files) for layout in LAYOUTS)
    assert converted_name("wav2lip.pth") != converted_name("wav2lip_gan.pth")


def test_folder_with_templates_and_a_broken_file(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    center, mouth = np.random.default_rng(0).normal(size=(2, 1, 64))
    savemat(source / "expression.mat", {"expression_center": center, "expression_mouth": mouth})
    torch.save({"net_G_ema": {"nonsense": torch.zeros(1)}}, source / "DNet.pt")
    with pytest.raises(UserError, match=r"1 of 2 files.*DNet\.pt.*nonsense"):
        convert_folder(source, target)
    state, metadata = read_checkpoint(target / "expressions.safetensors")
    torch.testing.assert_close(state["neutral"], torch.from_numpy(center[0]).float())
    torch.testing.assert_close(state["smile"], torch.from_numpy(mouth[0]).float())
    assert metadata["extra"]["source_sha256"] == file_hash(source / "expression.mat")
    assert [path.name for path in target.iterdir()] == ["expressions.safetensors"]


def test_foreign_templates_are_refused(tmp_path: Path) -> None:
    for content in (
        {"other": np.zeros(3)},
        {"expression_center": np.zeros(3), "expression_mouth": np.zeros(3)},
    ):
        savemat(tmp_path / "expression.mat", content)
        with pytest.raises(UserError, match="expression_center"):
            convert_folder(tmp_path, tmp_path / "out")
    (tmp_path / "expression.mat").write_text("hello, this is not a matlab file at all" * 10)
    with pytest.raises(UserError, match="MATLAB"):
        convert_folder(tmp_path, tmp_path / "out")


def test_broken_downloads_are_called_what_they_are(tmp_path: Path) -> None:
    """A web page under the name of a file is no attack, and whatever is wrong, the other files are converted."""
    (tmp_path / "DNet.pt").write_bytes(b"\xef\xbb\xbf\r\n<!DOCTYPE html><html>Sign in</html>")
    (tmp_path / "LNet.pth").write_bytes(b"")
    templates = {"expression_center": np.zeros(64), "expression_mouth": np.ones(64)}
    for folder in ("whole", "cut", "flipped"):
        (tmp_path / folder).mkdir()
        savemat(tmp_path / folder / "expression.mat", templates, do_compression=True)
    whole = (tmp_path / "whole" / "expression.mat").read_bytes()
    (tmp_path / "cut" / "expression.mat").write_bytes(whole[:200])
    (tmp_path / "flipped" / "expression.mat").write_bytes(whole[:150] + b"\xff" + whole[151:])
    with pytest.raises(UserError, match="4 of 5 files were not converted") as error:
        convert_folder(tmp_path, tmp_path / "out")
    text = str(error.value)
    assert re.search(r"DNet\.pt is not a PyTorch file \(an HTML page\?\)", text)
    assert "code" not in text
    assert re.search(r"LNet\.pth is empty", text)
    assert text.count("is damaged, no templates can be read") == 2
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["expressions.safetensors"]


def test_command_line(tmp_path: Path, kit_file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    main(["--src", str(kit_file.parent), "--dst", str(tmp_path)])
    assert read_metadata(tmp_path / "syncnet.safetensors")["network"] == "syncnet"
    assert "syncnet.safetensors" in caplog.text
    with pytest.raises(UserError, match="not a folder"):
        main(["--src", str(tmp_path / "none"), "--dst", str(tmp_path)])
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"none of the released files.*LNet\.pth"):
        main(["--src", str(tmp_path / "empty"), "--dst", str(tmp_path)])


@pytest.fixture
def kit_file(tmp_path: Path, figures_kit) -> Path:  # type: ignore[no-untyped-def]
    """A stand-in for one released file."""
    folder = tmp_path / "released"
    folder.mkdir()
    for name, payload in figures_kit.released_files("syncnet", 0).items():
        torch.save(payload, folder / name)
    return folder / "syncnet_v2.model"

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videoretalking.core.checkpoint import (
    FORMAT,
    FORMAT_VERSION,
    read_checkpoint,
    read_foreign,
    read_metadata,
    save_checkpoint,
)
from videoretalking.core.errors import UserError


def save(path: Path) -> Path:
    shared = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(
        path,
        {"a": shared, "b": shared.t()},
        network="dnet",
        config={"w": (1, 2)},
        license="L",
        extra={"step": 3},
    )
    return path


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    state, metadata = read_checkpoint(save(tmp_path / "x.safetensors"))
    assert torch.equal(state["b"], torch.arange(6.0).reshape(2, 3).t())
    assert metadata == {
        "network": "dnet",
        "config": {"w": [1, 2]},
        "license": "L",
        "extra": {"step": 3},
        "format_version": FORMAT_VERSION,
    }
    assert [item.name for item in tmp_path.iterdir()] == ["x.safetensors"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    assert save(tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_bad_files_give_one_clear_line(tmp_path: Path) -> None:
    good = save(tmp_path / "good.safetensors")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(good.read_bytes()[:-5])
    text = tmp_path / "text.safetensors"
    text.write_text("hello")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    future = tmp_path / "future.safetensors"
    metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION + 1), "network": "x", "config": "{}"}
    save_file({"a": torch.zeros(1)}, future, metadata=metadata)
    damaged = tmp_path / "damaged.safetensors"
    save_file({"a": torch.zeros(1)}, damaged, metadata={**metadata, "format_version": "1", "config": "{"})
    cases = {
        tmp_path / "none.safetensors": "does not exist",
        truncated: "damaged",
        text: "damaged",
        foreign: "not written by this project",
        future: "update the program",
        damaged: "damaged metadata",
    }
    for path, reason in cases.items():
        for read in (read_metadata, read_checkpoint):
            with pytest.raises(UserError, match=reason) as error:
                read(path)
            assert path.name in str(error.value)
            assert "\n" not in str(error.value)


class Malicious:
    """Creates a file when unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.victim),)


def test_foreign_pickles_run_nothing(tmp_path: Path) -> None:
    victim = tmp_path / "owned"
    modern = tmp_path / "modern.pth"
    torch.save({"state_dict": Malicious(victim)}, modern)
    legacy = tmp_path / "legacy.pth"
    torch.save({"state_dict": Malicious(victim)}, legacy, _use_new_zipfile_serialization=False)
    plain = tmp_path / "plain.pth"
    plain.write_bytes(pickle.dumps(Malicious(victim)))
    for path in (modern, legacy, plain):
        with pytest.raises(UserError, match=path.name):
            read_foreign(path)
        assert not victim.exists()


def test_damaged_foreign_files_are_named(tmp_path: Path) -> None:
    good = tmp_path / "good.pth"
    torch.save({"a": torch.zeros(100)}, good)
    assert torch.equal(read_foreign(good)["a"], torch.zeros(100))
    for name, content in {
        "cut.pth": good.read_bytes()[:-40],
        "empty.pth": b"",
        "text.pth": b"not a checkpoint",
        "json.pth": json.dumps({"a": 1}).encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name) as error:
            read_foreign(tmp_path / name)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="does not exist"):
        read_foreign(tmp_path / "none.pth")

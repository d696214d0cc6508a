from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from videoretalking.core.config import from_dict, load_config, merge_layers, read_layers, to_dict
from videoretalking.core.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    RENAMED: ClassVar[Mapping[str, str]] = {"rate": "lr"}

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class Switches:
    mark: Literal["on", "face", "off"] = "face"
    flag: bool = False


@dataclass(frozen=True)
class Outer:
    group: Switches = field(default_factory=Switches)


@dataclass(frozen=True)
class Config:
    width: int = 64
    mode: Literal["warp", "full"] = "warp"
    optimizer: Optimizer = field(default_factory=Optimizer)
    names: tuple[str, ...] = ()
    limit: float | None = None


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_file_then_overrides_over_defaults(tmp_path: Path) -> None:
    path = write(tmp_path / "c.yaml", "width: 8\noptimizer:\n  lr: 3e-4\n")
    config = load_config(Config, path, ["optimizer.betas=[0.5,0.9]", "mode=full", "names=[a,b]", "limit=2"])
    assert config == Config(8, "full", Optimizer(3e-4, (0.5, 0.9)), ("a", "b"), 2.0)


def test_round_trip_through_a_plain_dictionary() -> None:
    config = Config(names=("x",), limit=0.5)
    assert from_dict(Config, to_dict(config)) == config


@pytest.mark.parametrize(
    ("text", "overrides", "parts"),
    [
        ("widht: 8\n", [], ["c.yaml", "'widht'", "'width'"]),
        ("optimizer:\n  lrr: 1\n", [], ["'optimizer.lrr'", "'optimizer.lr'"]),
        ("", ["optimizer.lrr=1"], ["'optimizer.lrr'", "'optimizer.lr'"]),
        ("width: many\n", [], ["width", "a whole number", "many"]),
        ("width: 4.5\n", [], ["width", "a whole number"]),
        ("mode: both\n", [], ["mode", "one of warp, full", "'both'"]),
        ("limit: low\n", [], ["limit", "a number or null"]),
        ("optimizer: 3\n", [], ["optimizer", "group of key: value lines"]),
        ("optimizer: {betas: [1]}\n", [], ["optimizer.betas", "a list of 2"]),
        ("", ["optimizer.lr=fast"], ["optimizer.lr", "a number", "fast"]),
        ("", ["width"], ["'width'", "key=value"]),
        ("", ["width=2", "width.deep=1"], ["width"]),
        ("width: 1\nwidth: 2\n", [], ["duplicate", "'width'"]),
        ("- 1\n", [], ["c.yaml", "key: value"]),
        ("a: [", [], ["c.yaml", "YAML"]),
    ],
)
def test_mistakes_name_the_key(tmp_path: Path, text: str, overrides: list[str], parts: list[str]) -> None:
    with pytest.raises(UserError) as error:
        load_config(Config, write(tmp_path / "c.yaml", text), overrides)
    message = str(error.value)
    assert "\n" not in message and "Parser" not in message and "typing" not in message
    for part in parts:
        assert part in message


def test_nothing_is_suggested_where_no_key_is_near() -> None:
    with pytest.raises(UserError, match=r"^overrides: unknown key 'optimizer\.zzzz'$"):
        load_config(Config, None, ["optimizer.zzzz=8"])


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_config(Config, tmp_path / "none.yaml")


def test_a_file_holds_what_differs_from_its_base(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", "width: 8\nnames: [x, y]\noptimizer:\n  lr: 3e-4\n  betas: [0.1, 0.2]\n")
    (tmp_path / "deep").mkdir()
    write(tmp_path / "deep/b.yaml", "base: ../a.yaml\nnames: [z]\noptimizer:\n  lr: 1.0\n")
    last = write(tmp_path / "deep/c.yaml", "base: b.yaml\nmode: full\n")
    config = load_config(Config, last, ["width=9"])
    assert config == Config(9, "full", Optimizer(1.0, (0.1, 0.2)), ("z",))
    assert merge_layers(read_layers(last))["optimizer"] == {"lr": 1.0, "betas": [0.1, 0.2]}


@pytest.mark.parametrize(
    ("base", "child", "overrides", "message"),
    [
        ("widht: 8\n", "", [], r"a\.yaml: unknown key 'widht', did you mean 'width'"),
        ("", "widht: 8\n", [], r"b\.yaml: unknown key 'widht'"),
        ("", "", ["widht=8"], "overrides: unknown key 'widht'"),
        ("width: many\n", "mode: full\n", [], r"a\.yaml: .*width"),
        ("optimizer: {lr: 1.0}\n", "optimizer: {lr: fast}\n", [], r"b\.yaml: .*optimizer\.lr"),
        ("width: 1\n", "width: 2\n", ["width=many"], "overrides: .*width"),
        ("optimizer: {rate: 1.0}\n", "", [], r"a\.yaml: .*'optimizer\.rate': it is called 'optimizer\.lr' now"),
    ],
)  # fmt: skip
def test_errors_name_the_place_that_holds_the_key(
    tmp_path: Path, base: str, child: str, overrides: list[str], message: str
) -> None:
    write(tmp_path / "a.yaml", base)
    with pytest.raises(UserError, match=message) as error:
        load_config(Config, write(tmp_path / "b.yaml", "base: a.yaml\n" + child), overrides)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: none.yaml\n", r"c\.yaml: its base none\.yaml does not exist"),
        ("base: c.yaml\n", r"c\.yaml: its bases lead back to .*c\.yaml"),
        ("base: d.yaml\n", r"its bases lead back to"),
        ("base: [a.yaml, b.yaml]\n", "base must be the path of a YAML file"),
    ],
)
def test_bases_that_lead_nowhere(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "d.yaml", "base: c.yaml\n")
    with pytest.raises(UserError, match=message) as error:
        load_config(Config, write(tmp_path / "c.yaml", text))
    assert "\n" not in str(error.value)


def test_on_and_off_are_words_where_a_setting_knows_them(tmp_path: Path) -> None:
    """YAML itself takes them for true and false."""
    path = write(tmp_path / "c.yaml", "group: {mark: off, flag: on}\n")
    assert load_config(Outer, path).group == Switches("off", True)
    assert load_config(Outer, path, ["group.mark=on"]).group.mark == "on"
    assert from_dict(Outer, {"group": {"mark": "off"}}).group.mark == "off"

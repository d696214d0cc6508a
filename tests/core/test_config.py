from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from videoretalking.core.config import from_dict, load_config, to_dict
from videoretalking.core.errors import UserError


@dataclass(frozen=True)
class Optimizer:
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)


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


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml"):
        load_config(Config, tmp_path / "none.yaml")

"""Command line: ``python -m train configs/lnet.yaml key=value ...``, or the same under ``torchrun -m train``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import run_command
from videoretalking.datasets.augment import AugmentConfig
from videoretalking.datasets.collection import DataConfig
from videoretalking.train.catalog import read_training_config
from videoretalking.train.config import LoopConfig, OptimizerConfig
from videoretalking.train.loop import train

_GROUPS = {"loop": LoopConfig, "optimizer": OptimizerConfig, "data": DataConfig, "augment": AugmentConfig}


def main() -> None:
    """Read the config and train."""
    parser = CommandParser(
        description="Train one network; the same command continues an interrupted run.",
        advise=_as_setting,
    )
    parser.add_argument("config", type=Path, help="YAML file, for example configs/lnet.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example loop.batch_size=8")
    arguments = parser.parse_args()
    train(read_training_config(arguments.config, arguments.overrides))


def _as_setting(flag: str) -> str:
    """How a flag that does not exist is written as a setting."""
    name = flag.lstrip("-").replace("-", "_")
    for group, config_class in _GROUPS.items():
        if name in {field.name for field in dataclasses.fields(config_class)}:
            return f"settings are given as key=value, this one as {group}.{name}=VALUE"
    return "settings are given as key=value, for example loop.steps=3"


if __name__ == "__main__":
    run_command(main)

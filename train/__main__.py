"""Command line: ``python -m train configs/lnet.yaml key=value ...``, or the same under ``torchrun -m train``."""

from __future__ import annotations

from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.config import load_config, read_yaml
from videoretalking.core.errors import UserError, run_command
from videoretalking.train.loop import train
from videoretalking.train.steps import STEPS
from videoretalking.train.steps.base import TrainingConfig


def main() -> None:
    """Read the config and train."""
    parser = CommandParser(
        description="Train one network; the same command continues an interrupted run.",
    )
    parser.add_argument("config", type=Path, help="YAML file, for example configs/lnet.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example loop.batch_size=8")
    arguments = parser.parse_args()
    train(read_training_config(arguments.config, arguments.overrides))


def read_training_config(path: Path, overrides: list[str]) -> TrainingConfig:
    """The config whose class its key ``network`` names.

    Raises:
        UserError: no or unknown ``network``, and everything :func:`core.config.load_config` raises.
    """
    network = str(read_yaml(path).get("network"))
    if network not in STEPS:
        raise UserError(f"{path}: network must be one of {', '.join(STEPS)}, found {network!r}")
    config_class, _ = STEPS[network]
    config: TrainingConfig = load_config(config_class, path, overrides)
    return config


if __name__ == "__main__":
    run_command(main)

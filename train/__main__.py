"""Command line: ``python -m train configs/lnet.yaml key=value ...``, or the same under ``torchrun -m train``."""

from __future__ import annotations

from pathlib import Path

from videoretalking.core.commands import CommandParser
from videoretalking.core.errors import run_command
from videoretalking.train.catalog import read_training_config
from videoretalking.train.loop import train


def main() -> None:
    """Read the config and train."""
    parser = CommandParser(
        description="Train one network; the same command continues an interrupted run.",
    )
    parser.add_argument("config", type=Path, help="YAML file, for example configs/lnet.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example loop.batch_size=8")
    arguments = parser.parse_args()
    train(read_training_config(arguments.config, arguments.overrides))


if __name__ == "__main__":
    run_command(main)

"""How well bfloat16 gradients agree with float32 ones: ``python -m scripts.check_precision configs/lnet.yaml``.

Takes one batch of a training config and a step of its losses in both formats, from the same weights and the same
random numbers, and compares the gradients by their cosine, for each group of parameters of the network. Needs the
data and the weights that the training needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from videoretalking.core.commands import CommandParser, positive
from videoretalking.core.devices import DTYPES, autocast, choose_device
from videoretalking.core.distributed import World
from videoretalking.core.errors import run_command
from videoretalking.losses.total import weighted_sum
from videoretalking.models.catalog import load_network
from videoretalking.train.catalog import read_training_config, step_class
from videoretalking.train.config import TrainingConfig
from videoretalking.train.loop import start_from
from videoretalking.train.samples import TrainKeys, load_batches, step_seed, to_device
from videoretalking.train.steps.base import Step


def main() -> None:
    """Command line."""
    parser = CommandParser(description="Compare gradients in bfloat16 with those in float32 on one batch.")
    parser.add_argument("config", type=Path, help="YAML file of a training, for example configs/lnet.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example loop.batch_size=2")
    parser.add_argument(
        "--depth", type=positive, default=1, help="parts of a parameter's name that make its group"
    )
    parser.add_argument(
        "--step", type=int, help="number of the step (default: the last one, with all losses)"
    )
    arguments = parser.parse_args()
    config = read_training_config(arguments.config, arguments.overrides)
    cosines = compare_gradients(config, arguments.depth, arguments.step)
    width = max(map(len, cosines))
    for group, cosine in cosines.items():
        print(f"{group:<{width}}  {cosine:.4f}")


def compare_gradients(config: TrainingConfig, depth: int = 1, step: int | None = None) -> dict[str, float]:
    """Cosine of the gradients of one step in bfloat16 and in float32.

    Args:
        config: of a training; its first batch is taken.
        depth: parts of a parameter's name that make its group.
        step: number of the step, which some losses wait for; None for the last.

    Returns:
        Group -> cosine in [-1, 1], and ``all`` for all parameters together. Groups without a gradient are left out.
    """
    device = choose_device(config.loop.device)
    torch.manual_seed(config.loop.seed)
    task = step_class(config)(config, device)
    if config.loop.init:
        initial = load_network(config.loop.init, expected=config.network, device=device, fold=False)
        start_from(initial, task.exported(task.network), config.loop.init)
    dataset = task.dataset(training=True)
    batch = next(
        load_batches(dataset, TrainKeys(len(dataset), config.loop, World(0, 1, device), 0), 0, device)
    )
    number = config.loop.steps - 1 if step is None else step
    start = {name: value.clone() for name, value in task.network.state_dict().items()}
    gradients = {}
    for name in ("float32", "bfloat16"):
        task.network.load_state_dict(start)  # batch statistics and spectral vectors move in a forward pass
        gradients[name] = _gradients(task, to_device(batch, device), number, DTYPES[name])
    return cosines_by_group(gradients["float32"], gradients["bfloat16"], depth)


def cosines_by_group(
    first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor], depth: int
) -> dict[str, float]:
    """Cosine of two sets of gradients by group of names; see :func:`compare_gradients`."""
    sums: dict[str, list[float]] = {}
    for name, gradient in first.items():
        one, other = gradient.double(), second[name].double()
        terms = (float((one * other).sum()), float(one.square().sum()), float(other.square().sum()))
        for group in (".".join(name.split(".")[:depth]), "all"):
            known = sums.setdefault(group, [0.0, 0.0, 0.0])
            sums[group] = [total + term for total, term in zip(known, terms, strict=True)]
    everything = sums.pop("all")
    sums["all"] = everything
    return {
        group: product / math.sqrt(one * other)
        for group, (product, one, other) in sums.items()
        if one and other
    }


def _gradients(
    task: Step, batch: dict[str, object], step: int, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    network: nn.Module = task.network.train()
    network.zero_grad()
    torch.manual_seed(step_seed(task.config.loop.seed, step, 0))
    with autocast(task.device, dtype):
        output = task.generate(network, dict(batch), step)
    weighted_sum(output.losses, task.loss_weights).backward()
    return {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }


if __name__ == "__main__":
    run_command(main)

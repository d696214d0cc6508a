"""Adam with a rate that is a pure function of the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from videoretalking.train.config import OptimizerConfig


def make_optimizer(network: nn.Module, config: OptimizerConfig) -> torch.optim.Adam:
    """Adam over the parameters that are trained."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return torch.optim.Adam(trained, lr=config.lr, betas=config.betas, eps=config.eps)


def set_learning_rate(
    optimizer: torch.optim.Optimizer, config: OptimizerConfig, step: int, steps: int
) -> float:
    """Set and return the rate of step ``step`` (from 0) of ``steps``.

    Adam's other settings are set as well: a loaded state brings those of the run that saved it.
    """
    rate = config.lr
    if step < config.warmup_steps:
        rate *= (step + 1) / config.warmup_steps
    if config.decay == "cosine":
        rate *= 0.5 * (1.0 + math.cos(math.pi * step / steps))
    for group in optimizer.param_groups:
        group |= {"lr": rate, "betas": config.betas, "eps": config.eps}
    return rate


def gradient_norm(network: nn.Module, clip_norm: float) -> torch.Tensor:
    """Norm of all gradients before clipping, a scalar on the device; they are clipped unless ``clip_norm`` is 0."""
    return nn.utils.clip_grad_norm_(network.parameters(), clip_norm or math.inf)

"""Several processes training as one: joining, averaging, and batch statistics over all of them.

Processes are started by ``torchrun``; without it everything here reduces to a single process.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from videoretalking.core.devices import choose_device
from videoretalking.core.errors import UserError


@dataclass(frozen=True)
class World:
    """This process among all of them.

    Attributes:
        rank: number of the process, 0 .. size - 1.
        size: number of processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and logs."""
        return self.rank == 0


@contextmanager
def join_world(device_name: str) -> Iterator[World]:
    """Join the processes that ``torchrun`` started, and leave them at the end.

    Args:
        device_name: ``auto``, ``cpu``, ``cuda`` ...; on CUDA each process takes the GPU of its local rank.

    Raises:
        UserError: more processes than GPUs, or an unusable device.
    """
    device = choose_device(device_name)
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, device)
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        if local_rank >= torch.cuda.device_count():
            raise UserError(
                f"process {local_rank} finds {torch.cuda.device_count()} GPUs; start torchrun with "
                f"--nproc-per-node={torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()


def wrap_network(network: nn.Module, world: World, find_unused_parameters: bool = False) -> nn.Module:
    """DistributedDataParallel around a network; the network itself in a single process.

    Buffers are not broadcast: batch statistics are shared by :func:`share_batch_norm`, everything else follows
    from the weights alike in all processes.
    """
    if world.size == 1:
        return network
    return DistributedDataParallel(
        network,
        device_ids=[world.device] if world.device.type == "cuda" else None,
        broadcast_buffers=False,
        find_unused_parameters=find_unused_parameters,
    )


def average_over_world(values: Mapping[str, float], world: World) -> dict[str, float]:
    """Mean of each value over all processes; every process must give the same names."""
    if world.size == 1:
        return dict(values)
    names = sorted(values)
    packed = torch.tensor([values[name] for name in names], dtype=torch.float64).to(world.device)
    dist.all_reduce(packed)
    return dict(zip(names, (packed / world.size).tolist(), strict=True))


def share_batch_norm(network: nn.Module, world: World) -> nn.Module:
    """Let every 2-D batch norm take its statistics over the batches of all processes, in place.

    PyTorch's own layer does so on CUDA only; :class:`SharedBatchNorm2d` serves the CPU.

    Returns:
        The network.
    """
    if world.size == 1:
        return network
    if world.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
                shared.load_state_dict(child.state_dict())
                setattr(module, name, shared)
    return network


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose training statistics come from the equally large batches of all processes."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        mean = _world_mean(values.mean(dim=(0, 2, 3)))
        centered = values - mean[:, None, None]
        variance = _world_mean(centered.square().mean(dim=(0, 2, 3)))
        self._update_running(
            mean.detach(), variance.detach(), count=values[:, 0].numel() * dist.get_world_size()
        )
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out = centered * scale[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)

    @torch.no_grad()
    def _update_running(self, mean: torch.Tensor, variance: torch.Tensor, count: int) -> None:
        momentum = 0.1 if self.momentum is None else self.momentum
        unbiased = variance * (count / max(count - 1, 1))
        self.running_mean.lerp_(mean, momentum)  # type: ignore[union-attr]
        self.running_var.lerp_(unbiased, momentum)  # type: ignore[union-attr]
        self.num_batches_tracked.add_(1)  # type: ignore[union-attr]


def _world_mean(values: torch.Tensor) -> torch.Tensor:
    total: torch.Tensor = _WorldSum.apply(values)
    return total / dist.get_world_size()


class _WorldSum(torch.autograd.Function):
    """Sum over all processes; so is the gradient, because every process used the sum."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total

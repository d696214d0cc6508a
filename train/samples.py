"""Which samples make up which step: a pure function of seed, step and process, so that a run can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from videoretalking.core.distributed import World
from videoretalking.core.errors import UserError
from videoretalking.train.config import LoopConfig

Key = tuple[int, int]  # (epoch, index)
_VALIDATION_EPOCH = 1_000_000_000  # far from every training epoch


class TrainKeys(Sampler[list[Key]]):
    """Micro-batches of keys of one process, from a given step on.

    Every epoch is a new permutation of the data set; batches run across epochs, so small sets fill large batches.

    Args:
        length: samples of the data set.
        loop: batch size, accumulation, seed and last step.
        world: this process.
        first_step: step to start with.
    """

    def __init__(self, length: int, loop: LoopConfig, world: World, first_step: int) -> None:
        self.length = length
        self.loop = loop
        self.world = world
        self.first_step = first_step
        self.micro_size = micro_batch_size(loop, world)

    def __len__(self) -> int:
        return (self.loop.steps - self.first_step) * self.loop.accumulation

    def __iter__(self) -> Iterator[list[Key]]:
        epoch, order = -1, np.empty(0, np.int64)
        for step in range(self.first_step, self.loop.steps):
            for micro in range(self.loop.accumulation):
                first = (
                    step * self.loop.batch_size
                    + (micro * self.world.size + self.world.rank) * self.micro_size
                )
                keys = []
                for position in range(first, first + self.micro_size):
                    if position // self.length != epoch:
                        epoch = position // self.length
                        order = np.random.default_rng([self.loop.seed, epoch]).permutation(self.length)
                    keys.append((epoch, int(order[position % self.length])))
                yield keys


class ValidationKeys(Sampler[list[Key]]):
    """The same micro-batches at every validation: clips in an order drawn once, each with its own window.

    Args:
        length: samples of the data set.
        loop: batch size, number of batches and seed.
        world: this process.
    """

    def __init__(self, length: int, loop: LoopConfig, world: World) -> None:
        self.order = validation_order(length, loop)
        self.loop = loop
        self.world = world
        self.micro_size = micro_batch_size(loop, world)

    def __len__(self) -> int:
        return self.loop.validation_batches

    def __iter__(self) -> Iterator[list[Key]]:
        length = len(self.order)
        for batch in range(self.loop.validation_batches):
            first = (batch * self.world.size + self.world.rank) * self.micro_size
            positions = range(first, first + self.micro_size)
            yield [(_VALIDATION_EPOCH + p // length, self.order[p % length]) for p in positions]


def validation_order(length: int, loop: LoopConfig) -> list[int]:
    """The clips in the order in which validation takes them: neighbors in the manifest are often one person."""
    order: list[int] = np.random.default_rng([loop.seed, _VALIDATION_EPOCH]).permutation(length).tolist()
    return order


def score_clips(length: int, loop: LoopConfig, world: World) -> list[int]:
    """The clips that this process dubs as a whole: its share of ``loop.score_clips``, as many as the others'."""
    share = -(-min(loop.score_clips, length) // world.size)
    order = validation_order(length, loop)
    return [order[(number * world.size + world.rank) % length] for number in range(share)]


def micro_batch_size(loop: LoopConfig, world: World) -> int:
    """Samples that one process sees at once.

    Raises:
        UserError: the batch cannot be split evenly.
    """
    size, rest = divmod(loop.batch_size, loop.accumulation * world.size)
    if rest or size == 0:
        raise UserError(
            f"loop.batch_size {loop.batch_size} cannot be split over {world.size} processes and "
            f"{loop.accumulation} micro-batches; choose a multiple of {loop.accumulation * world.size}"
        )
    return size


def load_batches(
    dataset: Dataset[dict[str, Any]], keys: Sampler[list[Key]], workers: int, device: torch.device
) -> Iterator[dict[str, Any]]:
    """The batches that ``keys`` names.

    Raises:
        UserError: of the data set, in the words in which a worker raised it; or a worker died.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=keys,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        collate_fn=_collate,
        worker_init_fn=_start_worker,
        # the default would draw from the global stream, and a resumed run would draw once more
        generator=torch.Generator(),
    )
    return _in_own_words(iter(loader))  # whose workers start now


def _in_own_words(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    try:
        yield from batches
    except UserError as error:
        # what comes from a worker has the worker's traceback before it
        raise UserError(str(error).rpartition(f"{UserError.__name__}: ")[2]) from None
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        raise UserError(
            "a process that prepares samples died, as when memory runs out: lower loop.workers"
        ) from None


def step_seed(seed: int, step: int, rank: int) -> int:
    """Seed of everything random inside one step, which makes the step number the whole random state."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1)[0])


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Tensors of a batch on the device; names stay as they are."""
    return {
        name: value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }


def _collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    """Batch the samples, each array with its last axis innermost in memory.

    Other orders survive stacking in this process but not the way from a worker, and convolutions round differently
    for them: results would depend on the number of workers.
    """
    return default_collate(
        [
            {
                name: np.ascontiguousarray(value) if isinstance(value, np.ndarray) else value
                for name, value in sample.items()
            }
            for sample in samples
        ]
    )


def _start_worker(_index: int) -> None:
    cv2.setNumThreads(0)  # the worker processes already use all cores

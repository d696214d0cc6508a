"""Batches through a network, with a smaller batch when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

logger = logging.getLogger(__name__)


class BatchRunner:
    """Runs a function over batches; halves the batch for good whenever memory runs out.

    Args:
        batch_size: items of one call to begin with.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    def __call__(self, function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> torch.Tensor:
        """Apply ``function`` to slices of ``inputs`` along the first axis and join the results.

        Args:
            function: takes tensors [B, ...] and returns one tensor [B, ...].
            inputs: tensors [N, ...] with N >= 1.

        Returns:
            [N, ...].

        Raises:
            torch.OutOfMemoryError: even one item does not fit.
        """
        results: list[torch.Tensor] = []
        start = 0
        while start < len(inputs[0]):
            batch = [tensor[start : start + self.batch_size] for tensor in inputs]
            try:
                results.append(function(*batch))
            except RuntimeError as error:
                if not is_out_of_memory(error) or self.batch_size == 1:
                    raise
                self.batch_size = max(1, len(batch[0]) // 2)
                logger.warning("out of memory: going on with batches of %d", self.batch_size)
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
                continue
            start += len(batch[0])
        return torch.cat(results)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the CPU allocator ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    text = str(error)
    return "DefaultCPUAllocator" in text or "out of memory" in text

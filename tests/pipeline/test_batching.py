from __future__ import annotations

import pytest
import torch

from videoretalking.pipeline.batching import BatchRunner


def test_batches_are_joined_in_order() -> None:
    sizes = []

    def double(batch: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        return batch * 2 + other

    values = torch.arange(10.0)
    assert torch.equal(BatchRunner(4)(double, values, values), values * 3)
    assert sizes == [4, 4, 2]


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate")],
)
def test_memory_shortage_halves_the_batch_for_good(error: RuntimeError) -> None:
    def hungry(batch: torch.Tensor) -> torch.Tensor:
        if len(batch) > 3:
            raise error
        return batch + 1

    runner = BatchRunner(8)
    assert torch.equal(runner(hungry, torch.arange(9.0)), torch.arange(9.0) + 1)
    assert runner.batch_size == 2


def test_other_errors_and_a_single_item_that_does_not_fit_are_raised() -> None:
    def broken(batch: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    def full(batch: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with pytest.raises(RuntimeError, match="shapes"):
        BatchRunner(4)(broken, torch.zeros(4))
    with pytest.raises(torch.OutOfMemoryError):
        BatchRunner(4)(full, torch.zeros(4))
